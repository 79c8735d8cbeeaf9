"""`tillgate hq audit`: who did what in the stores."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cloud_bridge.commands.at_hq import SubParsers, complain, database_arguments, with_database
from edge.journal.audit_entries import entry_of, filter_arguments, fits, show, wrong_action

if TYPE_CHECKING:
    from sqlalchemy import Engine

EPILOG = """
examples:
  tillgate hq audit --store S0042 --action drawer.without_sale     that store's drawers without a sale
  tillgate hq audit --person anna --csv                            everything of Anna, in every store
  tillgate hq audit --store S0042 --heads                          what to give `tillgate audit verify --head` there
"""


def add(parts: SubParsers) -> None:
    """Add it."""
    parser = parts.add_parser(
        "audit",
        help="who did what in the stores",
        description="Lists audit entries that stores have sent, the newest last, with the chain's proof behind them"
        " (`tillgate hq verify`).",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--store", metavar="ID", help="only this store's")
    parser.add_argument("--heads", action="store_true", help="print the heads of the store's chains instead")
    filter_arguments(parser)
    database_arguments(parser)
    parser.set_defaults(run=_audit)


def _audit(arguments: argparse.Namespace) -> int:
    wrong = wrong_action(arguments.action)
    if arguments.heads and arguments.store is None:
        wrong = "--heads needs --store: which store's?"
    if wrong is not None:
        return complain(wrong)

    def look(engine: Engine) -> int:
        from cloud_bridge.hq import audited

        if arguments.heads:
            heads = audited.heads(engine, arguments.store)
            for head in heads:
                print(f"--head {head['class']}:{head['seq']}:{head['hash'][:32]}")
            return 0 if heads else complain(f"of store {arguments.store!r} there is nothing here")
        entries: list[dict[str, Any]] = []
        for store, at, body in audited.newest(engine, arguments.store):
            if len(entries) >= arguments.last:
                break
            entry = entry_of(at, body, store=store)
            if fits(entry, arguments):
                entries.append(entry)
        show(entries[::-1], arguments)
        return 0

    return with_database(arguments.url, look, there=True)
