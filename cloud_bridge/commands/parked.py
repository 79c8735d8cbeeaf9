"""`tillgate parked`: the facts that HQ does not get, from the bridge's own file; the gateway may be running or not."""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
from pathlib import Path

from cloud_bridge.commands.at_hq import SubParsers, complain

DEFAULT_CONFIG = Path("/etc/tillgate/store.toml")

EPILOG = """
rejected by HQ                   its content does not fit its hash, or its batch; at HQ the same fact raises an alarm
too large for the cloud broker   no packet can hold it; HQ knows that it is missing

A parked fact stays in the journal and holds up nothing: `tillgate journal verify` says whether the journal is whole.
Deliver what it says by other means, and keep the journal until that is done.
"""


def add(commands: SubParsers) -> None:
    """Add it."""
    parser = commands.add_parser(
        "parked",
        help="the facts that HQ will never take, each with its reason",
        description="Shows the facts of this store that HQ does not get: they stay in the journal.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help=f"the store.toml (default {DEFAULT_CONFIG})"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=_parked)


def _parked(arguments: argparse.Namespace) -> int:
    from edge.config import BadConfig, load

    try:
        file = load(arguments.config).bridge_db
        rows = read(file)
    except BadConfig as error:
        return complain(str(error))
    except (sqlite3.Error, OSError) as error:
        return complain(f"{file} cannot be read: {error}")
    if arguments.json:
        names = ("epoch", "class", "seq", "reason", "at")
        print(json.dumps({"parked": [dict(zip(names, row, strict=True)) for row in rows]}, indent=2))
        return 0
    for epoch, fact_class, seq, reason, at in rows:
        print(f"{fact_class:<12} {seq:>9}  {at[:19]}  {reason}  (epoch {epoch[:13]})")
    if not rows:
        print("no fact is parked")
    return 0


def read(file: Path) -> list[tuple[str, str, int, str, str]]:
    """Epoch, class, sequence, reason and time of each, in order; none where no bridge has run."""
    if not file.exists():
        return []
    with contextlib.closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as db:
        query = "SELECT epoch, class, seq, reason, at FROM parked ORDER BY epoch, class, seq"
        return [(str(row[0]), str(row[1]), int(row[2]), str(row[3]), str(row[4])) for row in db.execute(query)]
