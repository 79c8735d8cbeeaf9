"""Speed and memory: one file per figure. ``./dev bench NAME [--json]``; what was measured where is in RESULTS.md."""
