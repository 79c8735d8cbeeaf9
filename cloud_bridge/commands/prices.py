"""`tillgate hq keygen` and `tillgate hq prices`: the key that signs what goes to stores, and price versions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cloud_bridge.commands.at_hq import (
    EXIT_STATUS,
    SubParsers,
    broker_arguments,
    client_of,
    complain,
    database_arguments,
    recipient_arguments,
    recipients_of,
    send,
    with_database,
)

if TYPE_CHECKING:
    from sqlalchemy import Engine

PRICES_EPILOG = f"""
the list is CSV with a header line, or JSON lines with the same keys:
  code,text,price_minor,per,tax
  4006381333931,Pencil HB,129,each,A
  2100010,Bananas,199,kg,B
price_minor is in minor units (129 is 1.29); per is each, kg or lb; per and tax may be left out.

{EXIT_STATUS}
"""


def add(parts: SubParsers) -> None:
    """Add both."""
    keygen = parts.add_parser("keygen", help="make the key that signs what goes to stores; prints its public half")
    keygen.add_argument("file", type=Path, metavar="FILE", help="where the secret key goes (mode 0600)")
    keygen.set_defaults(run=_keygen)

    confirm = parts.add_parser(
        "confirm-key",
        help="make the key that receivers sign confirmations with, and the main key's statement of it",
        description="Makes a key for the receivers in FILE and, signed by the main key, the statement in FILE.statement"
        " that it speaks for HQ. Do it where the main key is kept, and bring both files to the receivers. It takes the"
        " place of every earlier confirm key; name those that go on with --beside. FILE that is there already is kept,"
        " and stated anew.",
    )
    confirm.add_argument("file", type=Path, metavar="FILE", help="where the confirm key goes (mode 0600)")
    confirm.add_argument("--key", type=Path, required=True, metavar="FILE", help="the main key: `tillgate hq keygen`")
    confirm.add_argument("--days", type=int, default=400, help="how long it may speak (default 400)")
    confirm.add_argument("--beside", action="append", default=[], metavar="KEY", help="a public key that goes on too")
    confirm.set_defaults(run=_confirm_key)

    prices = parts.add_parser("prices", help="price versions").add_subparsers(metavar="COMMAND", required=True)
    publish = prices.add_parser(
        "publish",
        help="check, sign and send a full price list",
        epilog=PRICES_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    publish.add_argument("file", type=Path, metavar="FILE", help="the price list")
    recipient_arguments(publish)
    publish.add_argument("--version", required=True, help="the version's name; never used twice")
    publish.add_argument("--currency", required=True, help="ISO 4217, for instance EUR")
    publish.add_argument(
        "--effective-at",
        default="2000-01-01T00:00:00",
        metavar="TIME",
        help="local time in the store's own zone, 2026-05-04T06:00:00; default: at once",
    )
    publish.add_argument("--key", type=Path, required=True, metavar="FILE", help="from `tillgate hq keygen`")
    database_arguments(publish)
    broker_arguments(publish)
    publish.set_defaults(run=_publish)


def _keygen(arguments: argparse.Namespace) -> int:
    from cloud_bridge.hq import keys

    try:
        print(keys.make(arguments.file))
    except keys.BadKey as error:
        return complain(str(error))
    return 0


def _confirm_key(arguments: argparse.Namespace) -> int:
    from cloud_bridge.hq import keys, voice

    try:
        main = keys.load(arguments.key)
        public = keys.public(keys.load(arguments.file)) if arguments.file.exists() else keys.make(arguments.file)
        statement = voice.state(main, (public, *arguments.beside), arguments.days)
        voice.statement_file(arguments.file).write_text(statement.model_dump_json() + "\n", encoding="utf-8")
    except (keys.BadKey, OSError, ValueError) as error:
        return complain(str(error))
    print(public)
    return 0


def _publish(arguments: argparse.Namespace) -> int:
    from cloud_bridge.hq import keys, price_list

    try:
        key = keys.load(arguments.key)
        items = price_list.read(arguments.file)
        parts = price_list.chunks(items)
        manifests = [
            (to, price_list.manifest(to, arguments.version, arguments.effective_at, arguments.currency, parts))
            for to in recipients_of(arguments)
        ]
        client_of(arguments)
    except (keys.BadKey, price_list.BadPriceList, ValueError) as error:
        return complain(str(error))

    def publish(engine: Engine) -> int:
        from cloud_bridge.hq.downlog import Downlog
        from edge.bus.messages.prices import PRICES_STREAM

        log = Downlog(engine)
        out: list[tuple[str, bytes]] = []
        for to, manifest in manifests:
            makes = price_list.messages(manifest, parts, key)
            kept = log.append(to.scope, PRICES_STREAM, makes, price_list.noted(manifest, len(makes)))
            out += [(to.topic(PRICES_STREAM), payload) for _, payload in kept]
        whom = ", ".join(str(to) for to, _ in manifests)
        print(f"{len(items)} items in {len(parts)} chunks, version {arguments.version}, for {whom}")
        return send(arguments, out)

    return with_database(arguments.url, publish)
