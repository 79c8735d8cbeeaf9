"""`tillgate hq privacy`: erase a customer here and in every store, give out what is kept, see what is open."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cloud_bridge.commands.at_hq import (
    SubParsers,
    broker_arguments,
    client_of,
    complain,
    database_arguments,
    send,
    with_database,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from cloud_bridge.hq.erasing import Erasure

EPILOG = """
examples:
  tillgate hq privacy export 4711-0815 --out member.json     everything HQ has about this member, as JSON
  tillgate hq privacy erase 4711-0815 --key hq.key           destroy the keys here, and tell every store that knows them
  tillgate hq privacy list                                   which stores have done it; told again: erase once more
  tillgate hq privacy members --store S0042                  members whose facts HQ can read

The number is the one that tills send, character by character. Facts stay, the hash chains hold; what comes later about
somebody who was erased is recorded without them. A store that is away is told when it is back, within a year. What
PostgreSQL keeps in its write-ahead log and in backups lives until those are replaced.

exit status: 0 done or told, 1 nobody of that number is known here, 2 something given is wrong, 3 kept in HQ's log, not
sent now: stores get it when they connect, 4 erased, but the database has not let go of what was deleted: do it again.
"""

UNKNOWN, NOT_SWEPT = 1, 4


def add(parts: SubParsers) -> None:
    """Add `privacy erase`, `export`, `list` and `members`."""
    raw = argparse.RawDescriptionHelpFormatter
    family = parts.add_parser(
        "privacy",
        help="erase a customer here and in every store, or give out what is kept",
        epilog=EPILOG,
        formatter_class=raw,
    )
    commands = family.add_subparsers(title="commands", metavar="COMMAND", required=True)

    erase = commands.add_parser(
        "erase", help="destroy a customer's keys, everywhere", epilog=EPILOG, formatter_class=raw
    )
    _member(erase)
    erase.add_argument("--key", type=Path, required=True, metavar="FILE", help="from `tillgate hq keygen`")
    erase.add_argument("--by", default=None, metavar="NAME", help="who does it, for the audit (default: you)")
    erase.add_argument("--yes", action="store_true", help="do not ask first")
    erase.add_argument("--json", action="store_true", help="print one JSON object")
    database_arguments(erase)
    broker_arguments(erase)
    erase.set_defaults(run=_erase)

    export = commands.add_parser("export", help="everything HQ has about a customer, as JSON")
    _member(export)
    export.add_argument("--out", type=Path, metavar="FILE", help="write it there, for its owner only (default: print)")
    database_arguments(export)
    export.set_defaults(run=_export)

    shown = commands.add_parser("list", help="erasures, and which stores have done them")
    shown.add_argument("--json", action="store_true", help="a JSON array instead of a table")
    database_arguments(shown)
    shown.set_defaults(run=_list)

    members = commands.add_parser("members", help="the members that facts name, by store")
    members.add_argument("--store", metavar="ID", help="only this store's")
    members.add_argument("--json", action="store_true", help="a JSON array instead of a table")
    database_arguments(members)
    members.set_defaults(run=_members)


def _member(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "member", metavar="NUMBER", type=_number, help="the member's number, as tills send it; -: from standard input"
    )


def _number(text: str) -> str:
    return sys.stdin.readline().strip() if text == "-" else text


def _erase(arguments: argparse.Namespace) -> int:
    from cloud_bridge.hq import keys

    try:
        key = keys.load(arguments.key)
        client_of(arguments)
    except (keys.BadKey, ValueError) as error:
        return complain(str(error))
    if not arguments.yes and not _confirmed(arguments.member):
        return complain("nothing was erased")
    by = (arguments.by if arguments.by is not None else getpass.getuser())[:64]

    def erase(engine: Engine) -> int:
        from cloud_bridge.hq import erasing
        from edge.bus.messages.personal import Person

        erasure = erasing.destroy(engine, Person("member", arguments.member), by)
        swept = erasure.swept
        out = erasing.tell(engine, key, erasure, by)
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for the answer
            sent = send(arguments, out) if out else 0
        erasure = erasing.one(engine, erasure.id)
        if arguments.json:
            print(json.dumps({**erasure.as_json(), "swept": swept}, indent=2))
        else:
            print(_table([erasure]))
            if not erasure.stores:
                print("No store's facts here name this number. What comes from now on is recorded without it.")
            if not swept:
                print("! the database has not let go of what was deleted: do this again as the tables' owner")
        return sent or (0 if swept else NOT_SWEPT)

    return with_database(arguments.url, erase, there=True)


def _confirmed(member: str) -> bool:
    if not sys.stdin.isatty():
        sys.stderr.write("nobody is here to be asked: --yes erases without asking\n")
        return False
    sys.stderr.write(f"This cannot be undone. To erase {member} here and in every store, type the number again: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip() == member


def _export(arguments: argparse.Namespace) -> int:
    def export(engine: Engine) -> int:
        from cloud_bridge.hq import erasing
        from edge.bus.messages.personal import Person

        found = erasing.export(engine, Person("member", arguments.member))
        text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
        if arguments.out is None:
            sys.stdout.write(text)
        else:
            try:
                handle = os.open(arguments.out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    os.fchmod(handle, 0o600)
                    file.write(text)
            except OSError as error:
                return complain(f"cannot write {arguments.out}: {error.strerror or error}")
        return 0 if found["stores"] else UNKNOWN

    return with_database(arguments.url, export, there=True)


def _list(arguments: argparse.Namespace) -> int:
    def look(engine: Engine) -> int:
        from cloud_bridge.hq import erasing

        found = erasing.look(engine)
        print(json.dumps([one.as_json() for one in found], indent=2) if arguments.json else _table(found))
        return 0

    return with_database(arguments.url, look, there=True)


def _table(erasures: Sequence[Erasure]) -> str:
    from cloud_bridge.hq.text import aligned

    lines = [["erased", "by", "store", "pseudonym", "state", "done", "problem"]]
    for erasure in erasures:
        for at in erasure.stores:
            done = at.done_at or "-"
            lines.append([erasure.at, erasure.by, at.store, at.pseudonym, at.state, done, (at.problem or "-")[:70]])
        if not erasure.stores:
            lines.append([erasure.at, erasure.by, "-", "-", "done", "-", "-"])
    return aligned(lines)


def _members(arguments: argparse.Namespace) -> int:
    def look(engine: Engine) -> int:
        from cloud_bridge.hq import subjects
        from cloud_bridge.hq.text import aligned

        with engine.connect() as db:
            found = subjects.everybody(db, arguments.store)
        rows = [
            {
                "store": row["store"],
                "pseudonym": row["pseudonym"],
                "member": row["name"],
                "since": row["since"],
                "erased_at": row["erased_at"],
            }
            for row in found
        ]
        if arguments.json:
            print(json.dumps(rows, indent=2))
            return 0
        lines = [["store", "member", "pseudonym", "since", "erased"]]
        for row in rows:
            name = row["member"] or ("(erased)" if row["erased_at"] else "(not known)")
            lines.append([row["store"], name, row["pseudonym"], row["since"], row["erased_at"] or "-"])
        print(aligned(lines))
        return 0

    return with_database(arguments.url, look, there=True)
