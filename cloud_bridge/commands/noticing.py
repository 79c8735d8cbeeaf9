"""`tillgate hq notice`: tell the people of stores something, for as long as it holds."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cloud_bridge.commands.at_hq import (
    EXIT_STATUS,
    SubParsers,
    broker_arguments,
    client_of,
    complain,
    database_arguments,
    lifetime,
    recipient_arguments,
    recipients_of,
    send,
    with_database,
)

if TYPE_CHECKING:
    from sqlalchemy import Engine

EPILOG = f"""
examples:
  tillgate hq notice publish --group north --key hq.key --for 8h --text "Card terminals are served tonight from 22:00."
  tillgate hq notice list
  tillgate hq notice withdraw ID --key hq.key

Every till of the store sees it (retained on store/notices) until it is over or withdrawn.

{EXIT_STATUS}
"""


def add(parts: SubParsers) -> None:
    """Add `notice publish`, `withdraw` and `list`."""
    raw = argparse.RawDescriptionHelpFormatter
    family = parts.add_parser("notice", help="notices to the people of stores", epilog=EPILOG, formatter_class=raw)
    commands = family.add_subparsers(title="commands", metavar="COMMAND", required=True)

    publish = commands.add_parser("publish", help="sign a notice and send it", epilog=EPILOG, formatter_class=raw)
    recipient_arguments(publish)
    publish.add_argument("--text", required=True, help="at most 1000 characters")
    publish.add_argument("--level", choices=("info", "important"), default="info")
    publish.add_argument(
        "--id", default=None, metavar="ID", help="of the notice that this one replaces (default: a new one)"
    )
    end = publish.add_mutually_exclusive_group()
    end.add_argument("--until", type=_moment, metavar="TIME", help="with its zone: 2026-05-04T22:00:00+02:00")
    end.add_argument(
        "--for", type=lifetime, dest="for_", metavar="TIME", help="from now: 90s, 15m, 8h, 7d (default 1d)"
    )
    _key_and_way(publish)
    publish.set_defaults(run=_publish)

    withdraw = commands.add_parser("withdraw", help="take a notice back, wherever it was published")
    withdraw.add_argument("id", metavar="ID")
    _key_and_way(withdraw)
    withdraw.set_defaults(run=_withdraw)

    shown = commands.add_parser("list", help="notices in force, the newest first")
    shown.add_argument("--all", action="store_true", help="also those that are over or withdrawn")
    shown.add_argument("--json", action="store_true", help="a JSON array instead of a table")
    database_arguments(shown)
    shown.set_defaults(run=_list)


def _key_and_way(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="from `tillgate hq keygen`")
    database_arguments(parser)
    broker_arguments(parser)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 2026-05-04T22:00:00+02:00") from None
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError("needs a zone: 2026-05-04T22:00:00+02:00")
    return moment


def _publish(arguments: argparse.Namespace) -> int:
    from cloud_bridge.hq import keys, notices
    from edge.bus.envelope import new_id

    try:
        key = keys.load(arguments.key)
        to = recipients_of(arguments)
        client_of(arguments)
    except (keys.BadKey, ValueError) as error:
        return complain(str(error))
    if not arguments.text.strip():
        return complain("--text is empty: `tillgate hq notice withdraw` takes a notice back")
    end = arguments.until or datetime.now(UTC) + (arguments.for_ or timedelta(days=1))
    until = end.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    id_ = arguments.id or new_id()

    def publish(engine: Engine) -> int:
        try:
            out = [
                notices.publish(
                    engine, key, one, id_=id_, text=arguments.text, level=arguments.level, until=until
                )
                for one in to
            ]  # fmt: skip
        except notices.BadNotice as error:
            return complain(str(error))
        print(f"{id_}  until {until}, for {', '.join(str(one) for one in to)}")
        return send(arguments, out)

    return with_database(arguments.url, publish)


def _withdraw(arguments: argparse.Namespace) -> int:
    from cloud_bridge.hq import keys, notices

    try:
        key = keys.load(arguments.key)
        client_of(arguments)
    except (keys.BadKey, ValueError) as error:
        return complain(str(error))

    def withdraw(engine: Engine) -> int:
        try:
            out = notices.withdraw(engine, key, arguments.id)
        except notices.BadNotice as error:
            return complain(str(error))
        print(f"{arguments.id}  withdrawn")
        return send(arguments, out)

    return with_database(arguments.url, withdraw)


def _list(arguments: argparse.Namespace) -> int:
    def look(engine: Engine) -> int:
        from cloud_bridge.hq import notices

        views = notices.look(engine, everything=arguments.all)
        print(json.dumps([view.as_json() for view in views], indent=2, ensure_ascii=False) if arguments.json
              else notices.table(views) if views else "no notice is in force")  # fmt: skip
        return 0

    return with_database(arguments.url, look, there=True)
