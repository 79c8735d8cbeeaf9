"""A store's end and HQ's end for the tests of the bridge: real brokers, real journals, real databases."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Engine, select, text

from cloud_bridge.daemon import serve
from cloud_bridge.hq.receiver import Receiver
from cloud_bridge.hq.voice import Voice
from edge.bus import envelope, frame, topics
from edge.bus.client import Address, Backoff, Client, Message
from edge.bus.messages.facts import FactClass
from edge.bus.messages.links import BridgeStatus, Committed, JournalHeads
from edge.config import StoreConfig
from edge.journal.clock import Clock
from edge.journal.store import NewFact, Store

STORE = "s1"
WITHIN_S = 60.0
QUICK = Backoff(0.05, 0.3)
TYPES = {
    FactClass.CRITICAL: "tillgate.tender.taken.v1",
    FactClass.TRANSACTION: "tillgate.sale.completed.v1",
    FactClass.OPERATION: "tillgate.print.finished.v1",
    FactClass.ENGAGEMENT: "tillgate.member.identified.v1",
    FactClass.TELEMETRY: "tillgate.device.changed.v1",
}


async def until(condition: Callable[[], Any], within_s: float = WITHIN_S) -> Any:
    """Wait for `condition` to be true; what it gave."""
    async with asyncio.timeout(within_s):
        while not (found := condition()):
            await asyncio.sleep(0.02)
        return found


def a_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mosquitto:
    """A mosquitto of our own: on a TCP port as the cloud, or on a unix socket as the store's."""

    def __init__(self, folder: Path, *, path: Path | None = None, more: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = 0 if path else a_port()
        self._socket = path
        listener = f"listener 0 {path}" if path else f"listener {self.port} 127.0.0.1"
        self._conf = folder / "mosquitto.conf"
        self._conf.write_text(
            f"{listener}\nallow_anonymous true\nuser root\npersistence false\nset_tcp_nodelay true\n"
            f"max_queued_messages 100000\nlog_type error\nlog_dest stderr\n{more}\n"
        )
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        if self._socket:
            self._socket.parent.mkdir(parents=True, exist_ok=True)
            self._socket.unlink(missing_ok=True)
        self._process = await asyncio.create_subprocess_exec(program, "-c", str(self._conf))
        async with asyncio.timeout(WITHIN_S):
            while not await self._answers():
                assert self._process.returncode is None, "mosquitto ended at once"
                await asyncio.sleep(0.02)

    async def _answers(self) -> bool:
        try:
            if self._socket:
                _, writer = await asyncio.open_unix_connection(str(self._socket))
            else:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    async def kill(self) -> None:
        """SIGKILL: nothing is said to anybody."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


class Edge:
    """What of edge the bridge sees: the journal, its heads, and the answers to downlink messages."""

    def __init__(self, config: StoreConfig) -> None:
        self.config = config
        self.answers = True
        self.downs: list[bytes] = []
        self.statuses: list[BridgeStatus] = []
        self.store: Store
        self._client = Client(Address(socket=config.broker_socket), client_id="edge", backoff=QUICK, clean_start=True)
        self._lane_seq = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Edge]:
        self.store = await Store.open(self.config.store_db, STORE, clock=Clock(), reserve_bytes=0)
        try:
            self._client.on_message(topics.BRIDGE_DOWN_ANY, self._on_down)
            self._client.on_message(topics.BRIDGE_STATUS, self._on_status)
            self._client.on_connect.append(lambda _: self.tell_heads())
            self.store.on_commit.append(lambda _: self.tell_heads())
            async with self._client:
                yield self
        finally:
            await self.store.close()

    def publish_soon(self, *arguments: Any, **more: Any) -> None:
        self._client.publish_soon(*arguments, **more)

    async def listen(self, topic: str, handler: Callable[[Message], None]) -> None:
        await self._client.subscribe(topic, handler)

    def tell_heads(self) -> None:
        heads = JournalHeads(epoch=self.store.epoch, heads=self.store.heads)
        self._client.publish_soon(topics.JOURNAL_HEADS, heads.model_dump_json().encode(), qos=0, retain=True)

    @property
    def status(self) -> BridgeStatus | None:
        return self.statuses[-1] if self.statuses else None

    def confirmed(self, fact_class: FactClass = FactClass.TRANSACTION) -> int:
        return self.status.confirmed.get(fact_class, 0) if self.status else 0

    def answer(self, payload: bytes, *, ok: bool = True) -> None:
        header, _ = frame.unpack(payload)
        answer = Committed(stream=header["stream"], epoch=header["epoch"], seq=header["seq"], ok=ok)
        self._client.publish_soon(topics.BRIDGE_COMMITTED, answer.model_dump_json().encode())

    async def journal(self, fact_class: FactClass, count: int, *, noise_bytes: int = 0, **data: Any) -> None:
        """Append `count` facts; with `noise_bytes` each holds so many random bytes, which do not compress."""
        if noise_bytes:
            facts = [a_fact(fact_class, number=n, noise=os.urandom(noise_bytes).hex(), **data) for n in range(count)]
        else:
            facts = [a_fact(fact_class, number=number, **data) for number in range(count)]
        await asyncio.gather(*(self.store.append(fact) for fact in facts))

    def _on_down(self, message: Message) -> None:
        self.downs.append(message.payload)
        message.ack()
        if self.answers:
            self.answer(message.payload)

    def _on_status(self, message: Message) -> None:
        self.statuses.append(BridgeStatus.model_validate_json(message.payload))
        message.ack()


def a_fact(fact_class: FactClass, **data: Any) -> NewFact:
    source = envelope.gateway_source(STORE)
    event = envelope.build(TYPES[fact_class], source, {"text": "Café crème", "price": 1.1, **data})
    return NewFact(event["id"], event["type"], fact_class, source, event["time"], None, None, event)


@contextlib.asynccontextmanager
async def a_bridge(config: StoreConfig) -> AsyncIterator[None]:
    """The bridge in this process."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(config, stop), name="bridge")
        try:
            yield
        finally:
            stop.set()


class BridgeProcess:
    """The bridge as a process of its own, to be killed."""

    def __init__(self, config_file: Path) -> None:
        self._config_file = config_file
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cloud_bridge.daemon", "--config", str(self._config_file)
        )

    async def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await self._process.wait()


@contextlib.asynccontextmanager
async def a_receiver(
    engine: Engine,
    port: int,
    name: str = "hq",
    *,
    host: str = "127.0.0.1",
    protocol: str = "5",
    share: str = "hq",
    voice: Voice | None = None,
) -> AsyncIterator[Receiver]:
    client = Client(
        Address(host=host, port=port),
        client_id=name,
        protocol=5 if protocol == "5" else 4,
        clean_start=True,
        receive_maximum=100,
        backoff=QUICK,
    )
    receiver = Receiver(engine, client, shared=share == "hq", voice=voice)
    async with client:
        task = asyncio.create_task(receiver.run(), name=name)
        await client.wait_connected()
        try:
            yield receiver
        finally:
            task.cancel()
            await asyncio.wait([task])


# -- counting at both ends, by SQL -------------------------------------------------------------------------------------


def at_hq(engine: Engine) -> list[tuple[str, int, str]]:
    """(class, seq, body) of everything at HQ, in order."""
    with engine.connect() as db:
        rows = db.execute(text("SELECT class, seq, body FROM facts WHERE store = 's1' ORDER BY class, seq"))
        return [(row[0], row[1], row[2]) for row in rows]


def count_at_hq(engine: Engine) -> int:
    with engine.connect() as db:
        return int(db.execute(text("SELECT count(*) FROM facts")).scalar() or 0)


async def in_journal(store: Store) -> list[tuple[str, int, str]]:
    """The same of the journal."""
    rows = await store.fetch_all("SELECT class, seq, plain(class, seq, body) FROM facts ORDER BY class, seq")
    return [(row[0], row[1], bytes(row[2]).decode()) for row in rows]


def scalars(engine: Engine, column: Any, *where: Any) -> list[Any]:
    with engine.connect() as db:
        return list(db.execute(select(column).where(*where)).scalars())


def bodies(first: int, count: int, fact_class: FactClass = FactClass.TRANSACTION) -> list[bytes]:
    """Bodies as the journal writes them."""
    out = []
    for seq in range(first, first + count):
        event = envelope.build(TYPES[fact_class], envelope.gateway_source(STORE), {"number": seq, "text": "Käse"})
        out.append(envelope.canonical({**event, "tgclass": fact_class.value, "tgseq": seq}))
    return out


def events(payloads: Iterable[bytes]) -> list[dict[str, Any]]:
    return [orjson.loads(payload) for payload in payloads]
