"""A store with a real mosquitto that asks for certificates and a real edge process, for attacks upon it.

The certificates are of the tests' own maker, so that an attack can have any that it wants.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from edge.bus.address import TlsFiles
from edge.bus.broker import LOOPBACK, BrokerSettings, TlsListener
from edge.bus.client import Client, Message
from edge.children import DIE_WITH_PARENT
from edge.config import StoreConfig, load
from tests.access.maker import Authority
from tests.edge.bus_rig import QUICK, Broker, connected, until

STORE = "S1"
LANES = ("1", "2", "3")


@dataclass
class Site:
    """A store that runs. `heard` is everything on its bus since the start, as the gateway's own processes see it."""

    config: StoreConfig
    authority: Authority
    broker: Broker
    port: int
    watch: Client
    log_file: Path
    heard: list[Message] = field(default_factory=list)
    edge: asyncio.subprocess.Process | None = None

    def lane(self, lane: str, **how: Any) -> TlsFiles:
        """Key and certificate of a till of this lane."""
        return self.authority.issue(lane, **how)

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def on(self, topic: str) -> list[bytes]:
        """What was heard on this topic."""
        return [message.payload for message in self.heard if message.topic == topic]

    async def arrived(self, topic: str, word: bytes) -> bytes:
        """Wait for a message with this word."""

        def there() -> bytes | None:
            return next((payload for payload in self.on(topic) if word in payload), None)

        found = await until(there)
        assert isinstance(found, bytes)
        return found

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """What store.db holds now."""
        db = sqlite3.connect(f"file:{self.config.store_db}?mode=ro", uri=True, timeout=10)
        try:
            return db.execute(sql, parameters).fetchall()
        finally:
            db.close()

    def reload(self) -> None:
        """Let the broker read certificates, revoked ones and access rules again."""
        self.broker.signal(signal.SIGHUP)

    async def serving(self) -> None:
        """Wait until edge says that it serves."""
        await until(lambda: any(b'"state":"serving"' in said for said in self.on("tg/v1/gateway/status")))


@contextlib.asynccontextmanager
async def site(
    folder: Path, tables: str = "", *, hears: tuple[str, ...] = ("tg/#",), **limits: Any
) -> AsyncIterator[Site]:
    """A store of three lanes in `folder`, its broker with these `limits`, and these TOML `tables` more.

    `hears`: what of its bus is kept in `Site.heard`.
    """
    folder.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = int(probe.getsockname()[1])
    file = folder / "store.toml"
    lanes = "".join(f'[[lanes]]\nid = "{lane}"\n' for lane in LANES)
    file.write_text(
        f'state_dir = "s"\n[store]\nid = "{STORE}"\n[bus]\nhost = "{LOOPBACK}"\nport = {port}\nadvertise = false\n'
        "[enrolment]\nport = 0\n"
        f"{lanes}{tables}"
    )
    config = load(file)
    authority = Authority(folder / "authority")
    listener = TlsListener(authority.serve(), LOOPBACK, port)
    broker = Broker(BrokerSettings(config.state_dir / "run", config.broker_socket, tls=listener, **limits))
    async with contextlib.AsyncExitStack() as stack:
        broker.start()
        stack.callback(broker.stop)
        heard: list[Message] = []
        watch = Client(broker.own, client_id="watch", clean_start=True, backoff=QUICK)

        def hear(message: Message) -> None:
            message.ack()
            heard.append(message)

        for topic_filter in hears:
            watch.on_message(topic_filter, hear, qos=0)
        await stack.enter_async_context(connected(watch))
        one = Site(config, authority, broker, port, watch, folder / "edge.log", heard)
        await stack.enter_async_context(running_edge(one))
        await one.serving()
        yield one


@contextlib.asynccontextmanager
async def running_edge(store: Site) -> AsyncIterator[None]:
    """The edge process of `store`, ended at the end."""
    with store.log_file.open("ab") as log:
        store.edge = await asyncio.create_subprocess_exec(
            *DIE_WITH_PARENT,
            *(sys.executable, "-m", "edge.daemon", "--config", str(store.config.file)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ,
        )
    try:
        yield
    finally:
        if store.edge.returncode is None:
            store.edge.terminate()
        await store.edge.wait()


def request(request_id: str, deadline_ms: int = 5_000, **parameters: Any) -> bytes:
    """A request as docs/till.md describes it."""
    return orjson.dumps({"id": request_id, "deadline_ms": deadline_ms, "parameters": parameters})
