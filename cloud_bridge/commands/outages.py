"""`tillgate outages`: the outages of a store's link, from the bridge's own file; the gateway may be running or not."""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from cloud_bridge.commands.at_hq import SubParsers, complain

if TYPE_CHECKING:
    from edge.bus.messages.facts import Outage

DEFAULT_CONFIG = Path("/etc/tillgate/store.toml")

EPILOG = """
kept     facts the store journalled meanwhile; shed: facts that were evicted or expired meanwhile
drained  from the link's return until HQ had what was kept
cuts     short ones that follow closely are one outage
Each outage is also a fact at HQ (tillgate.link.restored.v1) once it is drained: tillgate hq stores ID.
"""


def add(commands: SubParsers) -> None:
    """Add it."""
    parser = commands.add_parser(
        "outages",
        help="the last outages of the link: when, why, what was kept, how soon it was drained",
        description="Shows the outages of this store's link to HQ, the newest first.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help=f"the store.toml (default {DEFAULT_CONFIG})"
    )
    parser.add_argument("--last", type=int, default=10, metavar="N", help="how many (default 10)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=_outages)


def _outages(arguments: argparse.Namespace) -> int:
    from edge.config import BadConfig, load

    try:
        file = load(arguments.config).bridge_db
        outages = read(file, max(1, arguments.last))
    except BadConfig as error:
        return complain(str(error))
    except (sqlite3.Error, OSError) as error:
        return complain(f"{file} cannot be read: {error}")
    if arguments.json:
        print(json.dumps({"outages": [outage.model_dump(mode="json") for outage in outages]}, indent=2))
        return 0
    from edge.bus.wording import outage_lines

    print("\n".join(["outages, the newest first", *outage_lines(outages)]) if outages else "no outage is on record")
    return 0


def read(file: Path, last: int) -> list[Outage]:
    """The last outages in ``bridge.db``, the newest first; none where no bridge has run."""
    from edge.bus.messages.facts import Outage

    if not file.exists():
        return []
    with contextlib.closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as db:
        if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'outages'").fetchone() is None:
            return []
        rows = db.execute("SELECT outage FROM outages ORDER BY number DESC LIMIT ?", (last,)).fetchall()
    return [Outage.model_validate_json(row[0]) for row in rows]
