"""What the commands of HQ's end share: where its database and its cloud broker are, and how a message gets out.

Strategy: whatever goes to stores is in HQ's log before it is published, so a broker that is away costs nothing but
time: the command says so with an exit status of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloud_bridge.profiles import PROFILES

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from cloud_bridge.hq.recipients import Recipient
    from edge.bus.client import Client

SubParsers = Any
"""What `ArgumentParser.add_subparsers` returns; argparse keeps its type to itself."""

DEFAULT_URL = "sqlite:///hq.db"
DEFAULT_BROKER = "127.0.0.1:1883"
CONNECT_WITHIN_S = 15.0
RECEIVE_MAXIMUM = 256
"""Messages taken from the broker that are not in the database yet: three transactions, and room for critical facts."""

PUBLISH_WITHIN_S = 60.0
PUBLISH_PER_S, SENT_TOGETHER = 50, 32
"""Brokers count what a client publishes in a second; so many are on the line at a time."""

NOT_SENT = 3
"""Exit status: written to HQ's log, but the cloud broker could not be reached."""

NOT_SENT_TEXT = "kept in HQ's log; the cloud broker cannot be reached now: stores get it when they connect"

EXIT_STATUS = "exit status: 0 sent, 2 something given is wrong, 3 kept in HQ's log, not sent now: stores get it later."


def database_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--url``."""
    parser.add_argument(
        "--url", default=DEFAULT_URL, help=f"HQ's database: {DEFAULT_URL} (default) or postgresql+psycopg://..."
    )


def recipient_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--store`` and ``--group``, both repeatable."""
    parser.add_argument("--store", action="append", default=[], metavar="ID", help="for this store (repeatable)")
    parser.add_argument(
        "--group", action="append", default=[], metavar="ID", help="for every store of this group (repeatable)"
    )


def recipients_of(arguments: argparse.Namespace) -> list[Recipient]:
    """Whom it is for; ValueError when nobody is named, or by a name that cannot be."""
    from cloud_bridge.hq.recipients import Recipient

    found = [Recipient(store=one) for one in arguments.store] + [Recipient(group=one) for one in arguments.group]
    if not found:
        raise ValueError("for whom? name a store (--store ID) or a group (--group ID)")
    for one in found:
        one.topic("stream")
    return found


_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}


def lifetime(text: str) -> timedelta:
    """``90s``, ``15m``, ``8h`` or ``7d``, at most a year."""
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or unit not in _UNITS_S or not 0 < int(number) * _UNITS_S[unit] <= 366 * 24 * 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no time of at most a year: write 90s, 15m, 8h or 7d")
    return timedelta(seconds=int(number) * _UNITS_S[unit])


def broker_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--broker`` and what is needed to get in there."""
    parser.add_argument("--broker", default=DEFAULT_BROKER, metavar="HOST:PORT", help="the cloud broker")
    parser.add_argument("--client-id", metavar="ID", help="default: a new one each time")
    parser.add_argument(
        "--protocol", choices=["5", "3.1.1"], default="5", help="of MQTT; NATS, and RabbitMQ before 3.13: 3.1.1"
    )
    parser.add_argument(
        "--profile",
        choices=sorted(PROFILES),
        help="limits of the cloud broker that this connection keeps, as [cloud] profile does for a store",
    )
    parser.add_argument("--username")
    parser.add_argument("--password-file", type=Path, metavar="FILE")
    parser.add_argument(
        "--tls-ca", type=Path, metavar="FILE", help="authority of the broker's certificate; turns TLS on"
    )
    parser.add_argument("--tls-certificate", type=Path, metavar="FILE", help="our own certificate")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="and its key")


def client_of(arguments: argparse.Namespace) -> Client:
    """A client of the cloud broker as the arguments say; ValueError when they cannot be right."""
    import secrets

    from edge.bus.client import Address, Backoff, Client, TlsFiles

    tls = None
    if arguments.tls_ca or arguments.tls_certificate:
        tls = TlsFiles(arguments.tls_ca, arguments.tls_certificate, arguments.tls_key)
    password = None
    if arguments.password_file:
        try:
            password = arguments.password_file.read_text().strip()
        except OSError as error:
            raise ValueError(f"--password-file {arguments.password_file}: {error.strerror}") from None
    limits = PROFILES[arguments.profile] if arguments.profile else None
    return Client(
        Address.parse(arguments.broker, tls),
        client_id=arguments.client_id or f"hq-{secrets.token_hex(6)}",
        username=arguments.username,
        password=password,
        protocol=5 if arguments.protocol == "5" else 4,
        # What is not acknowledged when a receiver goes is sent again by the stores; a session that waits at the broker
        # for a receiver that never comes back would only swallow its share.
        clean_start=True,
        receive_maximum=RECEIVE_MAXIMUM,
        max_in_flight=limits.in_flight if limits else 100,
        max_packet_bytes=4 * 1024 * 1024,
        max_filters=limits.filters_per_subscribe if limits else 1_000,
        told_keepalive_s=limits.keepalive_s if limits else None,
        backoff=Backoff(limits.retry_from_s, limits.retry_to_s, limits.connect_gap_s) if limits else Backoff(0.2, 5.0),
    )


def with_database(url: str, work: Callable[[Engine], int], *, there: bool = False) -> int:
    """Run `work` with HQ's database open; says what to do when it cannot be opened.

    With `there` it only looks, and makes no file where there is none.
    """
    try:
        from sqlalchemy.exc import OperationalError

        from cloud_bridge.hq.schema import BadUrl, missing_file, open_engine
    except ImportError as error:
        return complain(f"{error.name} is not installed: HQ's end needs `pip install tillgate[hq]`")
    try:
        if there and (missing := missing_file(url)):
            return complain(f"there is no database {missing}: give --url, as the receiver has it")
        engine = open_engine(url)
    except BadUrl as error:
        return complain(str(error))
    except OperationalError as error:
        return complain(f"the database does not answer: {error.orig}; is it running, and is --url right?")
    try:
        return work(engine)
    finally:
        engine.dispose()


def send(arguments: argparse.Namespace, out: Sequence[tuple[str, bytes]]) -> int:
    """Publish (topic, payload) messages that HQ's log holds already; the exit status."""
    if asyncio.run(_sent(partial(client_of, arguments), out)):
        return 0
    print(NOT_SENT_TEXT)
    return NOT_SENT


async def _sent(make_client: Callable[[], Client], out: Sequence[tuple[str, bytes]]) -> bool:
    """False when the broker cannot be reached or refuses."""
    from cloud_bridge.pace import Bucket
    from edge.bus.client import BusError

    async with make_client() as client:
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                await client.wait_connected()
            pace = Bucket(PUBLISH_PER_S, SENT_TOGETHER)
            for first in range(0, len(out), SENT_TOGETHER):
                some = out[first : first + SENT_TOGETHER]
                await asyncio.sleep(pace.wait_s(time.monotonic()))
                pace.spend(len(some), time.monotonic())
                async with asyncio.timeout(PUBLISH_WITHIN_S):
                    await asyncio.gather(*(client.publish(topic, payload) for topic, payload in some))
                _show_progress(first + len(some), len(out))
        except (TimeoutError, BusError) as error:
            logging.getLogger("hq").error("not sent: %s", client.last_error or error)
            return False
    return True


def _show_progress(done: int, of: int) -> None:
    """On a terminal, and only where there is something to wait for."""
    if of > SENT_TOGETHER and sys.stderr.isatty():
        sys.stderr.write(f"\rsent {done} of {of} messages" + ("\n" if done == of else ""))


def complain(text: str) -> int:
    """Say what is wrong; returns exit status 2."""
    sys.stderr.write(f"tillgate: {text}\n")
    return 2
