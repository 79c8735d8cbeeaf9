"""The demo store: a whole store on this machine. `python -m demo --help` (or `./dev run --help`) says more."""
