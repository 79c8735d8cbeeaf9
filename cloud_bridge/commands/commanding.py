"""`tillgate hq command`: give stores commands, and see what they answered."""

from __future__ import annotations

import argparse
import getpass
import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
  tillgate hq command send --store S0042 --key hq.key status.report
  tillgate hq command send --group north --key hq.key --expires-after 15m device.test --device printer-1
  tillgate hq command list --store S0042

A store runs a command once, or not at all when it has expired, and answers with the fact tillgate.command.finished.v1.
One that was cut off by a crash is answered with unknown_outcome, unless running it twice does no harm.

{EXIT_STATUS}
"""


def add(parts: SubParsers) -> None:
    """Add `command send`, `list` and `show`."""
    raw = argparse.RawDescriptionHelpFormatter
    family = parts.add_parser(
        "command", help="give stores commands, see their answers", epilog=EPILOG, formatter_class=raw
    )
    commands = family.add_subparsers(title="commands", metavar="COMMAND", required=True)

    give = commands.add_parser("send", help="sign a command and send it", epilog=EPILOG, formatter_class=raw)
    recipient_arguments(give)
    give.add_argument("--key", type=Path, required=True, metavar="FILE", help="from `tillgate hq keygen`")
    give.add_argument(
        "--expires-after", type=lifetime, default=timedelta(hours=1), metavar="TIME",
        help="not begun any more after this: 90s, 15m, 1h (default), 2d",
    )  # fmt: skip
    give.add_argument("--by", default=None, metavar="NAME", help="who gives it, for the audit (default: you)")
    database_arguments(give)
    broker_arguments(give)
    give.set_defaults(run=_send)
    _operations(give)

    shown = commands.add_parser("list", help="commands and their states, the newest first")
    shown.add_argument("--store", metavar="ID", help="only those to this store, and only its answers")
    shown.add_argument("--last", type=int, default=50, metavar="N", help="how many (default 50)")
    shown.add_argument("--json", action="store_true", help="a JSON array instead of a table")
    database_arguments(shown)
    shown.set_defaults(run=_list)

    one = commands.add_parser("show", help="one command with every answer, as JSON")
    one.add_argument("id", metavar="ID")
    database_arguments(one)
    one.set_defaults(run=_show)


def _operations(give: argparse.ArgumentParser) -> None:
    """One sub-command per row of the table, its options made from the model of its parameters."""
    from edge.bus.messages.commands import COMMANDS

    parts = give.add_subparsers(title="operations", metavar="OPERATION", required=True, dest="operation")
    for row in COMMANDS.values():
        operation = parts.add_parser(row.name, help=row.summary, description=row.summary)
        for name, field in row.parameters.model_fields.items():
            operation.add_argument(
                f"--{name.replace('_', '-')}", dest=f"parameter_{name}", required=field.is_required(),
                metavar=name.upper(), help=field.description,
            )  # fmt: skip


def _send(arguments: argparse.Namespace) -> int:
    from cloud_bridge.hq import commands, keys

    marked = "parameter_"
    parameters: dict[str, Any] = {
        name.removeprefix(marked): value
        for name, value in vars(arguments).items()
        if name.startswith(marked) and value is not None
    }
    try:
        key = keys.load(arguments.key)
        to = recipients_of(arguments)
        commands.checked(arguments.operation, parameters)
        client_of(arguments)
    except (keys.BadKey, commands.BadCommand, ValueError) as error:
        return complain(str(error))
    by = arguments.by if arguments.by is not None else getpass.getuser()

    def give(engine: Engine) -> int:
        out: list[tuple[str, bytes]] = []
        for one in to:
            id_, topic, payload = commands.give(
                engine, key, one, arguments.operation, parameters, by=by[:64], lifetime=arguments.expires_after
            )
            out.append((topic, payload))
            print(f"{id_}  {arguments.operation} for {one}")
        return send(arguments, out)

    return with_database(arguments.url, give)


def _list(arguments: argparse.Namespace) -> int:
    def look(engine: Engine) -> int:
        from cloud_bridge.hq import commands
        from cloud_bridge.hq.text import printable

        views = commands.look(engine, store=arguments.store, limit=arguments.last)
        if arguments.json:
            print(json.dumps([view.as_json() for view in views], indent=2))
            return 0
        print(commands.table(views) if views else "no command has been given yet")
        refused = commands.strangers(engine, arguments.store)
        if refused:
            print(printable(
                f"store {store} refused at {at} what is not HQ's: {problem['code']}: {problem['detail']}"
                for store, at, problem in refused
            ))  # fmt: skip
        return 0

    return with_database(arguments.url, look, there=True)


def _show(arguments: argparse.Namespace) -> int:
    def look(engine: Engine) -> int:
        from cloud_bridge.hq import commands

        views = commands.look(engine, id_=arguments.id)
        if not views:
            return complain(f"there is no command {arguments.id!r}; `tillgate hq command list` shows them")
        print(json.dumps(views[0].as_json(), indent=2))
        return 0

    return with_database(arguments.url, look, there=True)
