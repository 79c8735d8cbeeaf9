"""Printer protocols, documents and the profile table."""
