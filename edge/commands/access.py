"""`tillgate access ...`: who may be here, and what proves it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from edge.commands import authority, keys


def add_commands(subparsers: Any, config_argument: Callable[[argparse.ArgumentParser], None]) -> None:
    """Put ``access`` and what is below it on the `tillgate` command line."""
    access = subparsers.add_parser(
        "access",
        help="keys and certificates of this store",
        description="The store's authority for certificates, and the keys that seal what lies on its disk.",
    )
    commands = access.add_subparsers(title="commands", metavar="COMMAND", required=True)
    authority.add_commands(commands, config_argument)
    keys.add_commands(commands, config_argument)
