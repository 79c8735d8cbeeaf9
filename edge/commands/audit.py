"""`tillgate audit verify | list`: who did what, and whether the record of it is whole.

Strategy: audit entries are facts, so what proves a journal proves them. What no chain shows by itself is an end that
was cut off, or everything written anew from some point on: HQ has the same chains, and what it says of their heads
(`tillgate hq audit --heads`) is compared here.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edge.bus.messages.facts import AUDIT_ACTIONS, TYPE_OF, AuditRecorded, FactClass
from edge.journal import chain
from edge.journal.audit import Report, verify
from edge.journal.audit_entries import entry_of, filter_arguments, fits, show, wrong_action
from edge.journal.commands import bodies_of, file_argument, keyring_of, path_of, print_report, report_as_json
from edge.journal.reader import NoJournal, connect
from edge.journal.sealing import Bodies
from edge.seal import NoKey, Unsealable
from edge.startup import complain

_EPILOG = """
FILE is a store.db, running or copied; without it, the one of the configured store.

examples:
  tillgate audit list                                        what was done lately, the newest last
  tillgate audit list --person anna --day 2026-05-04         what Anna did, or had done to her, on that day (UTC)
  tillgate audit list --action drawer.without_sale --csv     for a spreadsheet
  tillgate audit actions                                     what is recorded at all
  tillgate audit verify                                      is everything that was recorded there, unchanged?
  tillgate audit verify --head operation:1841:9f2c51d0a7e3   ... and does it reach as far as HQ's copy?

The heads that HQ has are printed there by `tillgate hq audit --heads --store ID`. What HQ has confirmed and is older
than [journal] retention_days is no longer on the gateway: `tillgate hq audit` has all of it.
"""

_LEAST_HASH_DIGITS = 12


def add_commands(subparsers: Any) -> None:
    """Put ``audit`` and its own commands on the `tillgate` command line."""
    audit = subparsers.add_parser(
        "audit",
        help="who did what, and whether the record of it is whole",
        description="Reads the store's record of who did what. Nothing here writes; the gateway may be running.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = audit.add_subparsers(title="commands", metavar="COMMAND", required=True)

    listing = commands.add_parser("list", help="the entries, the newest last", description="Lists what was recorded.")
    file_argument(listing)
    filter_arguments(listing)
    listing.set_defaults(run=_list)

    check = commands.add_parser(
        "verify",
        help="walk every chain: is everything there and unchanged?",
        description="Walks the chains of all classes. Exit status 0: all is well; 1: something is missing or was "
        "changed; 2: there is no journal.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    file_argument(check)
    check.add_argument(
        "--head", action="append", default=[], type=_head, metavar="CLASS:SEQ:HASH",
        help="what HQ has of a class (repeatable): a file that does not reach so far was cut off at its end",
    )  # fmt: skip
    check.add_argument("--json", action="store_true", help="one JSON object")
    check.set_defaults(run=_verify)

    actions = commands.add_parser("actions", help="what is recorded", description="The table of actions.")
    actions.set_defaults(run=_actions)


@dataclass(frozen=True, slots=True)
class Head:
    """What HQ says of a class: the hash of its fact `seq`, or the first digits of it."""

    fact_class: FactClass
    seq: int
    hash: str


def _head(text: str) -> Head:
    name, _, rest = text.partition(":")
    seq, _, digits = rest.partition(":")
    try:
        bytes.fromhex(digits + "0" * (len(digits) % 2))
        head = Head(FactClass(name), int(seq), digits.lower())
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not CLASS:SEQ:HASH: {error}") from None
    if len(digits) < _LEAST_HASH_DIGITS:
        raise argparse.ArgumentTypeError(f"give at least {_LEAST_HASH_DIGITS} digits of the hash")
    return head


# -- verify ------------------------------------------------------------------------------------------------------------


def _verify(chosen: argparse.Namespace) -> int:
    try:
        path = path_of(chosen)
        report = verify(path, keyring_of(chosen))
        db = connect(path, bodies=bodies_of(chosen, path), may_be_copy=True)
    except (NoJournal, NoKey) as error:
        return complain(str(error))
    try:
        for head in chosen.head:
            report.problems += _beside(db, report, head)
        counted: int | str = _counted(db)
    except sqlite3.Error as error:
        report.problems.append(f"the file cannot be read any further: {error}")
        counted = "?"
    finally:
        db.close()
    if chosen.json:
        print(json.dumps({**report_as_json(report), "audit_entries": counted}))
    else:
        print_report(report)
        print(f"{counted} audit entries among them")
    return 0 if report.ok else 1


def _counted(db: sqlite3.Connection) -> int:
    (count,) = db.execute("SELECT count(*) FROM facts WHERE type = ?", (TYPE_OF[AuditRecorded],)).fetchone()
    return int(count)


def _beside(db: sqlite3.Connection, report: Report, head: Head) -> Iterator[str]:
    """What does not fit with HQ's copy."""
    name = head.fact_class.value
    found = next((item for item in report.classes if item.fact_class is head.fact_class), None)
    last = max(found.last, found.base) if found is not None else 0
    if head.seq > last:
        missing = head.seq - last
        yield f"{name}: HQ has facts up to {head.seq}, here they end at {last}: {missing} are cut off at the end"
        return
    row = db.execute(
        "SELECT hash FROM facts WHERE class = ?1 AND seq = ?2"
        " UNION ALL SELECT hash FROM bases WHERE class = ?1 AND seq = ?2",
        (name, head.seq),
    ).fetchone()
    here = bytes(row[0]) if row is not None else chain.genesis(report.epoch, name) if head.seq == 0 else None
    if here is None:
        return  # trimmed, after HQ had confirmed it
    if not here.hex().startswith(head.hash):
        yield f"{name}: fact {head.seq} is not the one that HQ has: this was written anew, or is of another epoch"


# -- list --------------------------------------------------------------------------------------------------------------


def _list(chosen: argparse.Namespace) -> int:
    if (wrong := wrong_action(chosen.action)) is not None:
        return complain(wrong)
    try:
        path = path_of(chosen)
        bodies = bodies_of(chosen, path)
        db = connect(path, bodies=bodies, may_be_copy=True)
        try:
            entries = list(_newest(db, bodies, chosen))
        finally:
            db.close()
    except (NoJournal, NoKey, Unsealable, sqlite3.Error) as error:
        return complain(str(error))
    show(entries[::-1], chosen)
    return 0


def _newest(db: sqlite3.Connection, bodies: Bodies, chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Entries that fit, the newest first, as many as are asked for."""
    (epoch,) = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    rows = db.execute(
        "SELECT class, seq, recorded_at, body FROM facts WHERE type = ? ORDER BY row DESC",
        (TYPE_OF[AuditRecorded],),
    )
    left = chosen.last
    for fact_class, seq, at, body in rows:
        if left <= 0:
            return
        entry = entry_of(at, bodies.as_far_as_possible(epoch, fact_class, seq, body))
        if fits(entry, chosen):
            left -= 1
            yield entry


def _actions(chosen: argparse.Namespace) -> int:
    for action, meaning in AUDIT_ACTIONS.items():
        print(f"{action.value:<28} {meaning}")
    return 0
