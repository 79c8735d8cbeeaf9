"""Transports move bytes or key events and know nothing of their meaning."""
