"""`tillgate privacy ...`: erase a customer, give out what is kept about one. Done by the running gateway."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.commands.desk import log_in_argument
from edge.startup import complain, loaded

if TYPE_CHECKING:
    from edge.config import StoreConfig

_EPILOG = """
examples:
  tillgate privacy export 4711-0815 > member.json      everything that is kept about this member, as JSON
  tillgate privacy erase 4711-0815                     destroy the key: nothing says any more whose those facts are
  tillgate privacy readmit 4711-0815                   it was a mistake, or the number belongs to somebody else now

The number is the one that tills send, character by character. Sales stay in the journal, the hash chain holds, and what
comes later about somebody who was erased is kept without them. HQ hears of it and destroys its key of this store's
facts; to erase somebody in every store, HQ does it: tillgate hq privacy erase.

exit status: 0 done, 1 the gateway refused, 2 something given is wrong or nobody answers, 3 not all of it is done.
"""

REMAINS = """What remains, and for how long:
  receipts drawn as a picture       7 days of running time (they can be printed again)
  tills' own ledgers, sealed        what this gateway has not accepted yet, or has refused
  snapshots and backups             until they are replaced; whatever is restored from them is erased again on opening
"""

ERASE_S, PAGE_S = 120.0, 60.0
NOT_ALL = 3


def add_commands(subparsers: Any, config_argument: Callable[[argparse.ArgumentParser], None]) -> None:
    """Put ``privacy`` and its own commands on the `tillgate` command line."""
    raw = argparse.RawDescriptionHelpFormatter
    family = subparsers.add_parser(
        "privacy",
        help="erase a customer, or give out what is kept about one",
        description="What facts say of a customer is sealed with a key of that customer's own.",
        epilog=_EPILOG,
        formatter_class=raw,
    )
    commands = family.add_subparsers(title="commands", metavar="COMMAND", required=True)

    erase = commands.add_parser(
        "erase", help="destroy a customer's key in this store", epilog=_EPILOG, formatter_class=raw
    )
    _member(erase)
    erase.add_argument("--yes", action="store_true", help="do not ask first")
    erase.add_argument("--json", action="store_true", help="print one JSON object")
    log_in_argument(erase)
    config_argument(erase)
    erase.set_defaults(run=_erase)

    readmit = commands.add_parser("readmit", help="take somebody who was erased as a customer again")
    _member(readmit)
    log_in_argument(readmit)
    config_argument(readmit)
    readmit.set_defaults(run=_readmit)

    export = commands.add_parser("export", help="everything about a customer, as JSON")
    _member(export)
    export.add_argument("--out", type=Path, metavar="FILE", help="write it there, for its owner only (default: print)")
    log_in_argument(export)
    config_argument(export)
    export.set_defaults(run=_export)


def _member(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "member", metavar="NUMBER", type=number, help="the member's number, as tills send it; -: from standard input"
    )


def number(text: str) -> str:
    """The number; ``-`` reads it from standard input, where no list of processes and no history shows it."""
    return sys.stdin.readline().strip() if text == "-" else text


def _erase(chosen: argparse.Namespace) -> int:
    config = loaded(chosen.config)
    if config is None:
        return 2
    if not chosen.yes and not confirmed(chosen.member, f"in store {config.store.id}"):
        return complain("nothing was erased")
    result = _asked(config, chosen, "privacy.erase")
    if isinstance(result, int):
        return result
    if chosen.json:
        print(json.dumps(result, indent=1))
        return 0 if result["whole"] else NOT_ALL
    if result["pseudonyms"]:
        names = ", ".join(result["pseudonyms"])
        print(f"Erased. In this store's facts they are {names}; nothing says any more who that is.")
    else:
        print("No fact in this store names this number. One that comes later will be kept without it.")
    if result["quarantined"]:
        print(f"{result['quarantined']} bad messages that named them were dropped.")
    if result["printed"]:
        print(f"{result['printed']} receipts that named them cannot be printed again.")
    for name in result["unsearched"]:
        print(f"! {name} was set aside as damaged and cannot be searched: once HQ has its facts, delete it.")
    if result["closed"]:
        print(
            f"! {result['closed']} keys of customers cannot be opened now: when the master key is back, run this again."
        )
    if not result["folded"]:
        print("! the write-ahead log still holds traces (a reader of the journal, or a full disk): run this again.")
    print(REMAINS, end="")
    return 0 if result["whole"] else NOT_ALL


def confirmed(member: str, where: str) -> bool:
    """Whether a person types the number again."""
    if not sys.stdin.isatty():
        sys.stderr.write("nobody is here to be asked: --yes erases without asking\n")
        return False
    sys.stderr.write(f"This cannot be undone. To erase {member} {where}, type the number again: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip() == member


def _readmit(chosen: argparse.Namespace) -> int:
    config = loaded(chosen.config)
    if config is None:
        return 2
    result = _asked(config, chosen, "privacy.readmit")
    if isinstance(result, int):
        return result
    print("Facts that come from now on are theirs again. What was erased stays erased.")
    return 0


def _export(chosen: argparse.Namespace) -> int:
    config = loaded(chosen.config)
    if config is None:
        return 2
    from edge.access.privacy import as_document
    from edge.commands.desk import NoGateway, Refused

    try:
        pages = asyncio.run(_pages(config, chosen.member, chosen.without_log_in))
    except NoGateway as error:
        return complain(str(error))
    except Refused as error:
        complain(f"{error.code}: {error}")
        return 1
    text = json.dumps(as_document(config.store.id, chosen.member, pages), indent=1, ensure_ascii=False) + "\n"
    return write(text, chosen.out)


def write(text: str, out: Path | None) -> int:
    """Print `text`, or write it where only its owner reads it."""
    if out is None:
        sys.stdout.write(text)
        return 0
    try:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.fchmod(handle, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        return complain(f"cannot write {out}: {error.strerror or error}")
    return 0


async def _pages(config: StoreConfig, member: str, without_log_in: bool) -> list[dict[str, Any]]:
    from edge.commands.desk import desk

    pages: list[dict[str, Any]] = []
    export: str | None = None
    async with desk(config, without_log_in=without_log_in) as there:
        while True:
            page = await there.ask("privacy.export", {"member": member, "export": export}, PAGE_S)
            pages.append(page)
            export = page["export"]
            if export is None:
                break
            _show(sum(len(one["facts"]) + len(one["receipts"]) for one in pages))
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    return pages


def _show(found: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\rlooking through the journal: {found} facts found")
        sys.stderr.flush()


def _asked(config: StoreConfig, chosen: argparse.Namespace, operation: str) -> dict[str, Any] | int:
    from edge.commands.desk import NoGateway, Refused, ask

    try:
        member = {"member": chosen.member}
        return asyncio.run(ask(config, operation, member, ERASE_S, without_log_in=chosen.without_log_in))
    except NoGateway as error:
        return complain(str(error))
    except TimeoutError:
        return complain("the gateway does not answer in time: look at `tillgate status`, then do it again")
    except Refused as error:
        complain(f"{error.code}: {error}")
        return 1
