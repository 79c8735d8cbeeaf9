"""Stores as HQ sees them: real batches of chained facts on each store's own topic, and a wait for HQ's confirmation.

Everything is prepared before a clock starts. A store here has the bridge's manners: a connection of its own, few
batches on the wire unacknowledged, and a fact counts when HQ has confirmed it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import orjson

from bench.backlog import sales
from cloud_bridge import policy
from cloud_bridge.wire import Batch, Encoder
from edge.bus import topics
from edge.bus.address import Address
from edge.bus.client import BusError, Client, Message
from edge.bus.messages.facts import FactClass
from edge.bus.messages.links import Confirmed
from edge.journal import chain
from edge.journal.clock import Clock
from edge.journal.entries import prepare

FACT_CLASS = FactClass.TRANSACTION
KEEPALIVE_S = 30.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch ready to leave. `bodies` are its facts as single CloudEvents; `last` is the sequence of the last."""

    payload: bytes
    bodies: tuple[bytes, ...]
    last: int


class Chain:
    """One store's journal without the file: sales, chained as the journal chains them, in batches."""

    def __init__(self, store: str, number: int) -> None:
        self.store = store
        self._epoch = str(uuid.uuid4())
        self._sales = sales(2**40, seed=number, store=store)
        self._clock = Clock()
        self._encoder = Encoder()
        self._seq = 0
        self._hash = chain.genesis(self._epoch, FACT_CLASS.value)

    def batch(self, count: int) -> Prepared:
        """The next `count` sales."""
        first, prev, bodies = self._seq + 1, self._hash, []
        for sale in itertools.islice(self._sales, count):
            self._seq += 1
            body = prepare(sale.event).body(FACT_CLASS, self._seq, self._clock.now(), None)
            self._hash = chain.link(self._hash, body)
            bodies.append(body)
        batch = Batch(self.store, FACT_CLASS, self._epoch, first, prev, self._hash, tuple(bodies))
        return Prepared(self._encoder.encode(batch), batch.bodies, self._seq)


@dataclass(slots=True)
class _Out:
    last: int
    at: float


class SimulatedStore:
    """One store on the broker at `port`. `latencies_ms` from published to confirmed, per batch."""

    def __init__(self, name: str, port: int) -> None:
        self.latencies_ms: list[float] = []
        self.confirmed = 0
        self._topic = topics.up(name, FACT_CLASS.value)
        self._out: deque[_Out] = deque()
        self._on_the_wire = 0
        self._news = asyncio.Event()
        self._client = Client(
            Address(host="127.0.0.1", port=port), client_id=name, clean_start=True, keepalive_s=KEEPALIVE_S
        )
        self._client.on_message(topics.confirmed(name), self._heard)

    async def connect(self, stack: AsyncExitStack) -> None:
        """Connect, until `stack` is closed."""
        await stack.enter_async_context(self._client)
        await self._client.wait_connected()

    def send(self, batch: Prepared) -> None:
        """Send it now; `latencies_ms` gets its time when HQ has confirmed it."""
        self._on_the_wire += 1
        self._out.append(_Out(batch.last, time.perf_counter()))
        self._client.publish_soon(self._topic, batch.payload, expiry_s=policy.BROKER_KEEPS_S, on_done=self._taken)

    async def send_all(self, batches: Iterator[Prepared]) -> None:
        """Send them as the window allows, and wait until HQ has confirmed the last."""
        for batch in batches:
            while self._on_the_wire >= policy.BULK_IN_FLIGHT:
                await self._something_new()
            self.send(batch)
        await self.all_confirmed()

    async def all_confirmed(self) -> None:
        """Wait until nothing is out."""
        while self._out:
            await self._something_new()

    async def _something_new(self) -> None:
        self._news.clear()
        await self._news.wait()

    def _taken(self, error: BusError | None) -> None:
        self._on_the_wire -= 1
        self._news.set()
        if error is not None:
            raise RuntimeError(f"the broker does not take a batch; the figures would mean nothing: {error}")

    def _heard(self, message: Message) -> None:
        message.ack()
        now = time.perf_counter()
        told = orjson.loads(message.payload)
        if "text" in told:  # signed; what that costs a store is not measured here
            told = orjson.loads(told["text"])["says"]
        self.confirmed = Confirmed.model_validate(told, strict=False).confirmed.get(FACT_CLASS, 0)
        while self._out and self._out[0].last <= self.confirmed:
            self.latencies_ms.append((now - self._out.popleft().at) * 1000)
        self._news.set()


@dataclass(slots=True)
class Fleet:
    """Stores and what they are going to send: `steady`, one sale at a time, then `backlog` in full batches."""

    chains: list[Chain]
    stores: list[SimulatedStore]
    steady: list[list[Prepared]] = field(default_factory=list)
    backlog: list[list[Prepared]] = field(default_factory=list)

    @classmethod
    def of(cls, count: int, port: int) -> Fleet:
        """`count` stores that have nothing to send yet."""
        names = [f"hq{count}-{number}" for number in range(1, count + 1)]
        return cls(
            [Chain(name, number) for number, name in enumerate(names)], [SimulatedStore(name, port) for name in names]
        )

    def prepare(self, steady: int, backlog: int, batch_facts: int) -> None:
        """Each store gets `steady` single sales, then `backlog` sales in batches of `batch_facts`."""
        self.steady = [[one.batch(1) for _ in range(steady)] for one in self.chains]
        sizes = [batch_facts] * (backlog // batch_facts) + ([backlog % batch_facts] if backlog % batch_facts else [])
        self.backlog = [[one.batch(size) for size in sizes] for one in self.chains]
