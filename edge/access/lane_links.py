"""A connection to the broker for each lane: what a lane sends waits in a queue of its own.

Strategy: the broker queues per connection. If all lanes came in on one, a lane that sends more than edge can read would
fill its queue, and the broker would drop what the others send. So each lane has its own link, read no faster than the
lane may send: a lane above its budget is answered `too_fast`, and when it does not heed that its link is held; the
broker keeps what fits for that lane and drops the rest. Nobody else waits.

A link asks for messages as they were published: so a message that its sender wants *retained* is known, which on
anything but presence is either a mistake or poison that would wait for the gateway's next life. It is handed on (and
refused there), and the broker's copy is taken away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, Self

from edge.bus import topics
from edge.bus.address import Address
from edge.bus.client import Client
from edge.bus.message import Handler, Message
from edge.bus.terms import NEARBY

HOLD_S = 0.05
"""How long a lane above its budget is not read. Short, so that one that calms down is served again at once."""
IN_FLIGHT = 200
"""Messages of one lane that the broker may send ahead of our acknowledgements."""
ANSWERS = 2.5
"""So often its rate a lane above its budget is told `too_fast`; what it sends beyond that is dropped. A till that heeds
the answer and waits never comes near it, also when it catches up on a day of sales."""
KEEPALIVE_S = 30.0


class Budget(Protocol):
    """`edge.services.limits.LaneBudget`."""

    def wait_ms(self, lane: str) -> int: ...

    def over(self, lane: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Takers:
    """Who takes what a lane sends."""

    facts: Handler
    requests: Handler
    presence: Handler


class LaneLinks:
    """The links of all lanes. Enter it with ``async with``.

    `on_flood(lane)` hears of each message that was dropped; `clear(topic)` takes the broker's retained copy away.
    `on_change` is called when a link has come.
    """

    def __init__(
        self,
        address: Address,
        client_id: str,
        lanes: Iterable[str],
        takers: Takers,
        budget: Budget,
        *,
        rate_per_s: int,
        on_flood: Callable[[str], None],
        clear: Callable[[str], None],
    ) -> None:
        self.on_change: list[Callable[[], None]] = []
        self._links = [
            _LaneLink(
                Client(
                    address,
                    client_id=f"{client_id}.{lane}",
                    keepalive_s=KEEPALIVE_S,
                    receive_maximum=IN_FLIGHT,
                    backoff=NEARBY,
                ),
                lane,
                takers,
                budget,
                rate_per_s,
                on_flood,
                clear,
            )
            for lane in sorted(lanes)
        ]
        self._heard = False
        self._stack = contextlib.AsyncExitStack()
        for link in self._links:
            link.client.on_connect.append(lambda _: self._changed())

    async def __aenter__(self) -> Self:
        for link in self._links:
            await self._stack.enter_async_context(link.client)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def heard(self) -> bool:
        """Whether every lane can be heard, or could at some time since the broker was last `lost`: one link that has
        to come again is no reason to tell all lanes that the gateway is away.
        """
        self._heard = self._heard or all(link.client.connected for link in self._links)
        return self._heard

    def lost(self) -> None:
        """The broker is away: its next life knows none of our links yet."""
        self._heard = False

    @property
    def dropped(self) -> dict[str, int]:
        """Messages dropped unanswered, by lane, where there were any."""
        return {link.lane: link.dropped for link in self._links if link.dropped}

    def _changed(self) -> None:
        for changed in self.on_change:
            changed()


class _LaneLink:
    """One lane's link."""

    def __init__(
        self,
        client: Client,
        lane: str,
        takers: Takers,
        budget: Budget,
        rate_per_s: int,
        on_flood: Callable[[str], None],
        clear: Callable[[str], None],
    ) -> None:
        self.client = client
        self.lane = lane
        self.dropped = 0
        self._takers = takers
        self._budget = budget
        self._on_flood = on_flood
        self._clear = clear
        self._answers_per_s = self._answers = ANSWERS * rate_per_s
        self._answered_at_s = 0.0
        self._loop = asyncio.get_running_loop()
        client.on_message(topics.lane_facts(lane), self._facts, as_published=True)
        client.on_message(topics.lane_requests_any(lane), self._requests, as_published=True)
        client.on_message(topics.lane_presence(lane), self._presence)

    def _facts(self, message: Message) -> None:
        if self._let_through(message):
            self._takers.facts(message)

    def _requests(self, message: Message) -> None:
        if self._let_through(message):
            self._takers.requests(message)

    def _presence(self, message: Message) -> None:
        """Handed on however many there are, so that the last one counts; read no faster than other messages."""
        self._budget.wait_ms(self.lane)
        self._floods()
        self._takers.presence(message)

    def _let_through(self, message: Message) -> bool:
        if message.retain:
            if not message.payload:  # somebody took a retained message away, as we do
                message.ack()
                return False
            self._clear(message.topic)
        if self._floods():
            self.dropped += 1
            message.ack()
            return False
        return True

    def _floods(self) -> bool:
        """Whether the lane has sent so much that it is not even answered any more. Its link is held then."""
        if not self._budget.over(self.lane):
            return False
        now_s = self._loop.time()
        self._answers = min(self._answers_per_s, self._answers + (now_s - self._answered_at_s) * self._answers_per_s)
        self._answered_at_s = now_s
        if self._answers >= 1.0:
            self._answers -= 1.0
            return False
        self.client.hold(HOLD_S)
        self._on_flood(self.lane)
        return True
