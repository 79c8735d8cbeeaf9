"""`tillgate hq configure` and `tillgate hq rotate-key`: what HQ may change of stores' gateways."""

from __future__ import annotations

import argparse
import getpass
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

    from edge.bus.messages.signed import Numbered

CONFIGURE_EPILOG = f"""
the file is a piece of a store.toml, with what HQ may set:
  [limits]    messages_per_s, burst, message_bytes, requests_in_flight
  [journal]   retention_days (7 or more), reserve_mb
  [scanning]  country, [[scanning.variable_measure]]
  [store]     name
  [lanes]     "1" = "Express"            of a lane its name
It is all that HQ sets: what the file does not name is as the store's own store.toml says; an empty file sets nothing.
messages_per_s, burst and retention_days hold at once, the rest when the gateway is started again.

{EXIT_STATUS}
"""

ROTATE_EPILOG = f"""
in two steps, so that a store that is away still gets what was signed before:
  tillgate hq keygen new.key
  tillgate hq rotate-key --group all --key old.key --to NEW --to OLD     both are believed
  (sign with new.key from now on; wait until every store has been heard)
  tillgate hq confirm-key confirm.key --key new.key                      receivers: start them again with it
  tillgate hq rotate-key --group all --key new.key --to NEW              the old one is over
A new store.toml gets the new public key as price_key: a key written there by hand takes the place of what was sent.

{EXIT_STATUS}
"""


def add(parts: SubParsers) -> None:
    """Add both."""
    raw = argparse.RawDescriptionHelpFormatter
    configure = parts.add_parser(
        "configure",
        help="set limits, retention, names and the like in stores",
        epilog=CONFIGURE_EPILOG,
        formatter_class=raw,
    )
    configure.add_argument("file", type=Path, metavar="FILE", help="TOML")
    configure.set_defaults(run=_configure)
    rotate = parts.add_parser(
        "rotate-key", help="let stores believe another main key", epilog=ROTATE_EPILOG, formatter_class=raw
    )
    rotate.add_argument("--to", action="append", required=True, metavar="KEY", help="public key, base64 (repeatable)")
    rotate.set_defaults(run=_rotate)
    for parser in (configure, rotate):
        recipient_arguments(parser)
        parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="the main key that is believed now")
        database_arguments(parser)
        broker_arguments(parser)


def _configure(arguments: argparse.Namespace) -> int:
    from edge import config_hq
    from edge.bus.envelope import now_utc
    from edge.bus.messages.configuration import CONFIGURATION_STREAM, Configuration

    try:
        settings = tomllib.loads(arguments.file.read_text(encoding="utf-8"))
        config_hq.bounded(settings)
    except OSError as error:
        return complain(f"{arguments.file}: {error.strerror}")
    except ValueError as error:
        return complain(f"{arguments.file}: {error}")
    fields = {"settings": settings, "by": getpass.getuser()[:64], "issued_at": now_utc()}
    return _sent(arguments, CONFIGURATION_STREAM, "configuration", Configuration, fields)


def _rotate(arguments: argparse.Namespace) -> int:
    from edge.bus.messages.configuration import KEYS_STREAM, HqKeys

    return _sent(arguments, KEYS_STREAM, "keys", HqKeys, {"keys": arguments.to})


def _sent(arguments: argparse.Namespace, stream: str, kind: str, model: type[Numbered], fields: dict[str, Any]) -> int:
    from cloud_bridge.hq import keys
    from cloud_bridge.hq.signing import signed

    version = time.time_ns() // 1_000_000
    try:
        key = keys.load(arguments.key)
        to = recipients_of(arguments)
        client_of(arguments)
        model.model_validate({**fields, "version": version, **to[0].address, "epoch": "e", "seq": 1})
    except ValueError as error:
        return complain(str(error))

    def publish(engine: Engine) -> int:
        from cloud_bridge.hq.downlog import Downlog

        out = []
        for one in to:
            make = signed(stream, kind, one, model, {**fields, "version": version}, key)
            out += [(one.topic(stream), payload) for _, payload in Downlog(engine).append(one.scope, stream, [make])]
        print(f"version {version}, for {', '.join(str(one) for one in to)}")
        return send(arguments, out)

    return with_database(arguments.url, publish)
