"""`tillgate hq stores` and `tillgate hq verify`: how the stores are, and whether what is here is whole."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

from cloud_bridge.commands.at_hq import SubParsers, complain, database_arguments, with_database

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from cloud_bridge.hq.verify import ChainReport

PROGRESS_S = 1.0

STORES_EPILOG = """
link     online, lost (its connection was given up), silent (it should have spoken), unknown (it has never said)
waiting  facts in the store's journal that are not here; oldest: how long the first of them waits
missing  facts that should be here and are not accounted for; lost: evicted, expired or refused, each range on record
!!       somebody must act   ! does not work now   - to be looked at
"""

VERIFY_EPILOG = """
exit status: 0 everything is here and unchanged, 1 something is missing or was changed, 2 the database does not answer.

What it cannot see: a change after which every later hash was computed anew. The store's own journal has the same chain:
`tillgate journal verify` there prints the hash of its last fact, this command prints the one here.
"""


def add(parts: SubParsers) -> None:
    """Add both."""
    raw = argparse.RawDescriptionHelpFormatter
    stores = parts.add_parser(
        "stores",
        help="every store's link, backlog, gaps and troubles; with ID one store in detail",
        description="The fleet, those in trouble first; or everything about one store.",
        epilog=STORES_EPILOG,
        formatter_class=raw,
    )
    stores.add_argument("store", nargs="?", metavar="ID", help="one store, with its chains and last outages")
    database_arguments(stores)
    stores.add_argument("--json", action="store_true", help="one JSON object instead of text")
    stores.set_defaults(run=_stores)

    verify = parts.add_parser(
        "verify",
        help="walk the hash chains in the database: whole, missing, changed",
        description="Reads every fact and hashes it behind the one before. Receivers may be running.",
        epilog=VERIFY_EPILOG,
        formatter_class=raw,
    )
    verify.add_argument("--store", metavar="ID", help="only this store's")
    database_arguments(verify)
    verify.add_argument("--json", action="store_true", help="one JSON object instead of text")
    verify.set_defaults(run=_verify)


def _stores(arguments: argparse.Namespace) -> int:
    def look(engine: Engine) -> int:
        from cloud_bridge.hq import fleet, fleet_table

        view = fleet.look(engine, arguments.store)
        if arguments.store is not None and not view.stores:
            return complain(f"store {arguments.store!r} has never been heard here; `tillgate hq stores` lists them")
        width = shutil.get_terminal_size((fleet_table.WIDE, 24)).columns
        if arguments.json:
            print(json.dumps(view.as_json(), indent=2))
        elif arguments.store is not None:
            print(fleet_table.page(view.stores[0], width))
        else:
            print(fleet_table.table(view, width))
        return 0

    return with_database(arguments.url, look, there=True)


def _verify(arguments: argparse.Namespace) -> int:
    def walk(engine: Engine) -> int:
        from cloud_bridge.hq import verify

        progress = _Progress(verify.count(engine, arguments.store))
        reports: list[dict[str, Any]] = []
        chains = broken = 0
        for report in verify.verify(engine, arguments.store, progress.add):
            chains += 1
            broken += not report.whole
            if arguments.json:
                reports.append(_as_json(report))
            elif not report.whole or arguments.store is not None:
                progress.clear()
                print(_text(report))
        progress.clear()
        if arguments.store is not None and not chains:
            return complain(f"of store {arguments.store!r} there is nothing here; `tillgate hq stores` lists them")
        if arguments.json:
            print(json.dumps({"whole": not broken, "facts": progress.done, "chains": reports}, indent=2))
        else:
            whole = "everything is here and unchanged" if not broken else f"{broken} of them NOT in order"
            print(f"{progress.done} facts in {chains} chains: {whole}")
        return 1 if broken else 0

    return with_database(arguments.url, walk, there=True)


class _Progress:
    """How far it is, on standard error, when that is a terminal."""

    def __init__(self, total: int) -> None:
        self.done = 0
        self._total = total
        self._shown_at = time.monotonic()
        self._shown = ""

    def add(self, facts: int) -> None:
        self.done += facts
        if sys.stderr.isatty() and time.monotonic() - self._shown_at >= PROGRESS_S:
            self._shown_at = time.monotonic()
            self._shown = f"{self.done} of {self._total} facts"
            sys.stderr.write(f"\r{self._shown}")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r" + " " * len(self._shown) + "\r")
            self._shown = ""


def _text(report: ChainReport) -> str:
    state = "whole" if report.whole else "NOT in order"
    gone = f", {report.gone_facts} gone and accounted for" if report.gone_facts else ""
    unproven = f", {report.unproven} unproven (a hole before them)" if report.unproven else ""
    lines = [
        f"{report.store} {report.fact_class:<11} epoch {report.epoch[:13]}: {report.facts} facts to {report.last},"
        f" hash {report.hash.hex()[:16] or '?'}: {state}{gone}{unproven}"
    ]
    lines += [f"  ! missing {first}-{last}" for first, last in report.missing]
    lines += [f"  ! changed {seq}: {what}" for seq, what in report.changed]
    lines += [f"  ! {problem}" for problem in report.problems]
    for shown, every, what in (
        (sum(last - first + 1 for first, last in report.missing), report.missing_facts, "missing"),
        (len(report.changed), report.changed_facts, "changed"),
    ):
        if shown < every:
            lines.append(f"  ! and {every - shown} more facts {what}")
    return "\n".join(lines)


def _as_json(report: ChainReport) -> dict[str, Any]:
    return {
        "store": report.store,
        "epoch": report.epoch,
        "class": report.fact_class,
        "whole": report.whole,
        "facts": report.facts,
        "last": report.last,
        "hash": report.hash.hex(),
        "missing_facts": report.missing_facts,
        "missing": report.missing,
        "gone_facts": report.gone_facts,
        "changed_facts": report.changed_facts,
        "changed": [{"seq": seq, "what": what} for seq, what in report.changed],
        "unproven": report.unproven,
        "problems": report.problems,
    }
