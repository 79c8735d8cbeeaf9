"""Tills for comparing ways to HQ: the same sales at the same rate, and what each way has promised to keep.

Each till is a client of the store's broker with a connection of its own. It counts a sale as accepted when the way
under test has said so: Tillgate by its reply ``accepted``, others by the broker's PUBACK, the only word that they give.
A till here sends a sale once and never again, unlike a real one, so that nothing but the way's own promise is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from functools import partial

import orjson

from edge.bus import topics
from edge.bus.address import Address
from edge.bus.client import BusError, Client, Message
from edge.journal.store import NewFact

TICK_S = 0.005
UNANSWERED = 2_000
"""So many sales of all tills may be on their way; then they wait, as a till does that gets no answers."""


class Till:
    """One till. `sent` and `accepted` hold the ids of sales."""

    def __init__(self, address: Address, lane: str) -> None:
        self.lane = lane
        self.sent: list[str] = []
        self.accepted: set[str] = set()
        self.refused = 0
        self._client = Client(address, client_id=f"till-{lane}", username=lane, clean_start=True)
        self._prepare(self._client)

    async def connect(self, stack: contextlib.AsyncExitStack) -> None:
        """Connect, until `stack` is closed."""
        await stack.enter_async_context(self._client)
        await self._client.wait_connected()

    def send(self, sale: NewFact) -> None:
        """Send it."""
        self.sent.append(sale.id)
        self._publish(sale.id, orjson.dumps(sale.event))

    @property
    def unanswered(self) -> int:
        """Sales sent, and neither accepted nor refused."""
        return len(self.sent) - len(self.accepted) - self.refused

    def _prepare(self, client: Client) -> None:
        """Before connecting."""

    def _publish(self, id_: str, body: bytes) -> None:
        self._client.publish_soon(topics.lane_facts(self.lane), body, on_done=partial(self._acknowledged, id_))

    def _acknowledged(self, id_: str, error: BusError | None) -> None:
        if error is None:
            self.accepted.add(id_)


class TillgateTill(Till):
    """Takes the gateway's reply for an answer, not the broker's PUBACK."""

    def _prepare(self, client: Client) -> None:
        client.on_message(topics.lane_replies(self.lane), self._replied)

    def _publish(self, id_: str, body: bytes) -> None:
        # What had not left when the gateway was killed fails, and that is no answer.
        self._client.publish_soon(topics.lane_facts(self.lane), body, on_done=lambda _: None)

    def _replied(self, message: Message) -> None:
        message.ack()
        reply = orjson.loads(message.payload)
        if reply["ok"]:
            self.accepted.add(reply["to"])
        else:
            self.refused += 1


async def sell(tills: Mapping[str, Till], sales: Iterator[NewFact], rate_per_s: float, seconds: float) -> None:
    """Send `rate_per_s` of `sales` a second for so long, each by its lane's till; fewer when answers do not come.

    Goes on until something was accepted at least: what comes after would show nothing else.
    """
    started, count = time.perf_counter(), 0
    while (spent := time.perf_counter() - started) < seconds or not any(till.accepted for till in tills.values()):
        room = UNANSWERED - sum(till.unanswered for till in tills.values())
        for _ in range(min(room, int(spent * rate_per_s) - count)):
            sale = next(sales)
            assert sale.lane is not None
            tills[sale.lane].send(sale)
            count += 1
        await asyncio.sleep(TICK_S)
