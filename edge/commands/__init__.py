"""Families of `tillgate` commands that are too large for `edge/cli.py`; each file adds one to the command line."""
