"""Lanes that go on selling while something else is measured: one sale and its tender a second each.

A tender is a critical fact: it overtakes any backlog, and here is when HQ had it. A sale belongs to the same class as
the backlog of an outage and keeps its place behind it: what the till waits for is that it is accepted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import orjson

from bench.backlog import STORE, uuid_of
from edge.bus import envelope, topics
from edge.bus.address import Address
from edge.bus.client import Client, Message
from edge.bus.envelope import Event
from edge.bus.messages.facts import FactClass
from edge.bus.messages.links import Confirmed
from edge.journal.store import NewFact

EVERY_S = 1.0
TENDER = "tillgate.tender.taken.v1"


@dataclass(slots=True)
class Confirmations:
    """What HQ has said of the store, and which tenders wait for it. `latencies_ms` from sent to confirmed."""

    confirmed: dict[FactClass, int] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: dict[int, float] = field(default_factory=dict)

    def heard(self, message: Message) -> None:
        """HQ confirms something, on its broker."""
        message.ack()
        told = Confirmed.model_validate_json(message.payload).confirmed
        self.confirmed.update({name: max(seq, self.confirmed.get(name, 0)) for name, seq in told.items()})
        self._settle()
        self.changed.set()

    def start_afresh(self) -> None:
        """Forget what has waited and how long it took."""
        self.latencies_ms.clear()
        self._waiting.clear()

    def wait_for(self, seq: int, sent_at: float) -> None:
        """The store has accepted a tender as critical number `seq`."""
        self._waiting[seq] = sent_at
        self._settle()

    def _settle(self) -> None:
        now, last = time.perf_counter(), self.confirmed.get(FactClass.CRITICAL, 0)
        for seq in [seq for seq in self._waiting if seq <= last]:
            self.latencies_ms.append((now - self._waiting.pop(seq)) * 1000)


class LiveLane:
    """One lane; `sequence` is the last number that it has used. `accepted_ms` from sent to accepted."""

    def __init__(self, address: Address, lane: str, sequence: int, sales: Iterator[NewFact], hq: Confirmations) -> None:
        self.accepted_ms: list[float] = []
        self.first_accepted_at = 0.0
        self._lane = lane
        self._sequence = sequence
        self._sales = sales
        self._hq = hq
        self._sent_at: dict[str, float] = {}
        self._client = Client(address, client_id=f"live-{lane}", username=lane, clean_start=True)
        self._client.on_message(topics.lane_replies(lane), self._replied)

    async def connect(self, stack: AsyncExitStack) -> None:
        """Connect, until `stack` is closed."""
        await stack.enter_async_context(self._client)
        await self._client.wait_connected()

    async def run(self) -> None:
        """Sell until cancelled."""
        while True:
            self.sell()
            await asyncio.sleep(EVERY_S)

    def sell(self) -> None:
        """One sale and its tender."""
        sale: Event = dict(next(self._sales).event)
        sold: dict[str, Any] = sale["data"]
        sale["source"] = source = envelope.lane_source(STORE, self._lane)
        data = {name: sold[name] for name in ("business_day_date", "operator_id", "receipt_number", "currency")}
        tender = envelope.build(TENDER, source, {**data, "kind": "cash", "amount_minor": sold["total_minor"]})
        for event in (sale, tender):
            self._sequence += 1
            event["id"] = uuid_of(time.time_ns() // 1_000_000)
            event["sequence"] = f"{self._sequence:0{envelope.SEQUENCE_DIGITS}d}"
            self._sent_at[event["id"]] = time.perf_counter()
            self._client.publish_soon(topics.lane_facts(self._lane), orjson.dumps(event))

    def _replied(self, message: Message) -> None:
        message.ack()
        reply = orjson.loads(message.payload)
        now, sent_at = time.perf_counter(), self._sent_at.pop(reply["to"])
        if not reply["ok"]:
            raise RuntimeError(f"a fact was refused; the figures would mean nothing: {reply['problem']}")
        self.first_accepted_at = self.first_accepted_at or now
        self.accepted_ms.append((now - sent_at) * 1000)
        if reply["result"]["class"] == FactClass.CRITICAL:
            self._hq.wait_for(reply["result"]["seq"], sent_at)
