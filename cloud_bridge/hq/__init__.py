"""HQ's end: the receiver (commits, then confirms), the price publisher, the fleet view."""
