"""What this package adds to the `tillgate` command: `bridge` at the store, `hq` at the other end."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from edge.bus.client import Client

SubParsers = Any
"""What `ArgumentParser.add_subparsers` returns; argparse keeps its type to itself."""

DEFAULT_URL = "sqlite:///hq.db"
DEFAULT_BROKER = "127.0.0.1:1883"
CONNECT_WITHIN_S = 15.0
COLLECT_AFTER = 100_000
NOT_SENT = 3
"""Exit status: written to HQ's log, but the cloud broker could not be reached."""

HQ_EPILOG = """
examples:
  tillgate hq receive --url sqlite:///hq.db --broker cloud.example:8883 --tls-ca ca.pem
  tillgate hq receive --url postgresql+psycopg://hq@db/hq --broker cloud.example
  tillgate hq stores --url sqlite:///hq.db
  tillgate hq keygen hq.key                    prints the public key for store.toml ([cloud] price_key)
  tillgate hq prices publish list.csv --store s1 --version 2026-05-04 --currency EUR --key hq.key

Any number of receivers may run on one database: the cloud broker shares the work out among them.
"""

PRICES_EPILOG = """
the list is CSV with a header line, or JSON lines with the same keys:
  code,text,price_minor,per,tax
  4006381333931,Pencil HB,129,each,A
  2100010,Bananas,199,kg,B
price_minor is in minor units (129 is 1.29); per is each, kg or lb; per and tax may be left out.

exit status: 0 sent, 2 the list or key is wrong, 3 kept in HQ's log but not sent now: stores get it when they connect.
"""


def bridge(commands: SubParsers) -> None:
    """Add `tillgate bridge`."""
    parser = commands.add_parser(
        "bridge",
        help="run the link to HQ of one store",
        description="The bridge process: sends the journal to HQ and brings prices back. `tillgate run` and systemd"
        " start it; by hand it is useful to watch the link.",
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the store.toml")
    parser.set_defaults(run=_bridge)


def hq(commands: SubParsers) -> None:
    """Add `tillgate hq`."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(
        "hq",
        help="HQ's end: receive facts, publish prices, look at the stores",
        description="HQ's end of the link: what runs beside the cloud broker.",
        epilog=HQ_EPILOG,
        formatter_class=raw,
    )
    parts = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    receive = parts.add_parser("receive", help="record what stores send, then confirm it (runs until stopped)")
    _database(receive)
    _broker(receive)
    receive.set_defaults(run=_receive)

    stores = parts.add_parser("stores", help="per store: last seen, facts, holes, duplicates, epochs")
    _database(stores)
    stores.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    stores.set_defaults(run=_stores)

    keygen = parts.add_parser("keygen", help="make the key that signs prices; prints its public half")
    keygen.add_argument("file", type=Path, metavar="FILE", help="where the secret key goes (mode 0600)")
    keygen.set_defaults(run=_keygen)

    prices = parts.add_parser("prices", help="price versions").add_subparsers(metavar="COMMAND", required=True)
    publish = prices.add_parser(
        "publish",
        help="check, sign and send a full price list",
        epilog=PRICES_EPILOG,
        formatter_class=raw,
    )
    publish.add_argument("file", type=Path, metavar="FILE", help="the price list")
    publish.add_argument("--store", action="append", required=True, metavar="ID", help="for this store (repeatable)")
    publish.add_argument("--version", required=True, help="the version's name; never used twice")
    publish.add_argument("--currency", required=True, help="ISO 4217, for instance EUR")
    publish.add_argument(
        "--effective-at",
        default="2000-01-01T00:00:00",
        metavar="TIME",
        help="local time in the store's own zone, 2026-05-04T06:00:00; default: at once",
    )
    publish.add_argument("--key", type=Path, required=True, metavar="FILE", help="from `tillgate hq keygen`")
    _database(publish)
    _broker(publish)
    publish.set_defaults(run=_publish)


def _database(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url", default=DEFAULT_URL, help=f"HQ's database: {DEFAULT_URL} (default) or postgresql+psycopg://..."
    )


def _broker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--broker", default=DEFAULT_BROKER, metavar="HOST:PORT", help="the cloud broker")
    parser.add_argument("--client-id", metavar="ID", help="default: a new one each time")
    parser.add_argument("--username")
    parser.add_argument("--password-file", type=Path, metavar="FILE")
    parser.add_argument(
        "--tls-ca", type=Path, metavar="FILE", help="authority of the broker's certificate; turns TLS on"
    )
    parser.add_argument("--tls-certificate", type=Path, metavar="FILE", help="our own certificate")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="and its key")


def _bridge(arguments: argparse.Namespace) -> int:
    from cloud_bridge import daemon

    return daemon.run(arguments.config)


def _keygen(arguments: argparse.Namespace) -> int:
    from cloud_bridge.hq import keys

    try:
        print(keys.make(arguments.file))
    except keys.BadKey as error:
        return _complain(str(error))
    return 0


def _stores(arguments: argparse.Namespace) -> int:
    def look(engine: Engine) -> int:
        from cloud_bridge.hq import fleet

        view = fleet.look(engine)
        print(json.dumps(view.as_json(), indent=2) if arguments.json else fleet.table(view))
        return 0

    return _with_database(arguments.url, look)


def _receive(arguments: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    return _with_database(arguments.url, lambda engine: asyncio.run(_receive_until_told(arguments, engine)))


async def _receive_until_told(arguments: argparse.Namespace, engine: Engine) -> int:
    from cloud_bridge.hq.receiver import Receiver
    from edge.supervisor import keep_running

    # A batch is thousands of small objects that live until it is recorded: looking for cycles among them every 700
    # took a quarter of the time.
    gc.set_threshold(COLLECT_AFTER)

    try:
        client = _client(arguments)
    except ValueError as error:
        return _complain(str(error))
    receiver = Receiver(engine, client)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with client, asyncio.TaskGroup() as group:
        running = group.create_task(keep_running("receiver", receiver.run), name="receiver")
        logging.getLogger("hq").info("receiving from %s into %s", client.address, engine.url.render_as_string())
        await stop.wait()
        running.cancel()
    return 0


def _publish(arguments: argparse.Namespace) -> int:
    from cloud_bridge.hq import keys, price_list

    try:
        key = keys.load(arguments.key)
        items = price_list.read(arguments.file)
        parts = price_list.chunks(items)
        manifests = [
            price_list.manifest(store, arguments.version, arguments.effective_at, arguments.currency, parts)
            for store in arguments.store
        ]
        client = partial(_client, arguments)
        client()
    except (keys.BadKey, price_list.BadPriceList, ValueError) as error:
        return _complain(str(error))

    def send(engine: Engine) -> int:
        from cloud_bridge.hq.downlog import Downlog, store_scope
        from edge.bus.messages.prices import PRICES_STREAM

        log = Downlog(engine)
        out: list[tuple[str, bytes]] = []
        for manifest in manifests:
            makes = price_list.messages(manifest, parts, key)
            for _, payload in log.append(store_scope(manifest.store), PRICES_STREAM, makes):
                out.append((manifest.store, payload))
        print(f"{len(items)} items in {len(parts)} chunks, version {arguments.version}, for {len(manifests)} store(s)")
        if not asyncio.run(_send(client, out)):
            print("kept in HQ's log; the cloud broker cannot be reached now: stores get it when they connect")
            return NOT_SENT
        return 0

    return _with_database(arguments.url, send)


async def _send(make_client: Callable[[], Client], out: list[tuple[str, bytes]]) -> bool:
    """Publish price messages to their stores; False when the broker cannot be reached or refuses."""
    from edge.bus import topics
    from edge.bus.client import BusError
    from edge.bus.messages.prices import PRICES_STREAM

    async with make_client() as client:
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                await client.wait_connected()
            for store, payload in out:
                async with asyncio.timeout(CONNECT_WITHIN_S):
                    await client.publish(topics.down(store, PRICES_STREAM), payload)
        except (TimeoutError, BusError) as error:
            logging.getLogger("hq").error("not sent: %s", client.last_error or error)
            return False
    return True


def _client(arguments: argparse.Namespace) -> Client:
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
    return Client(
        Address.parse(arguments.broker, tls),
        client_id=arguments.client_id or f"hq-{secrets.token_hex(6)}",
        username=arguments.username,
        password=password,
        # What is not acknowledged when a receiver goes is sent again by the stores; a session that waits at the broker
        # for a receiver that never comes back would only swallow its share.
        clean_start=True,
        receive_maximum=64,
        max_in_flight=100,
        max_packet_bytes=4 * 1024 * 1024,
        backoff=Backoff(0.2, 5.0),
    )


def _with_database(url: str, work: Callable[[Engine], int]) -> int:
    """Run `work` with HQ's database open; says what to do when it cannot be opened."""
    try:
        from sqlalchemy.exc import OperationalError

        from cloud_bridge.hq.schema import BadUrl, open_engine
    except ImportError as error:
        return _complain(f"{error.name} is not installed: HQ's end needs `pip install tillgate[hq]`")
    try:
        engine = open_engine(url)
    except BadUrl as error:
        return _complain(str(error))
    except OperationalError as error:
        return _complain(f"the database does not answer: {error.orig}; is it running, and is --url right?")
    try:
        return work(engine)
    finally:
        engine.dispose()


def _complain(text: str) -> int:
    sys.stderr.write(f"tillgate: {text}\n")
    return 2
