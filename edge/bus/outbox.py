"""What this client has still to send, and what it has sent that the broker has not yet taken.

Strategy: one queue in the order of the calls, one table of messages in flight by packet id. While there is a link
(`attach`) the queue moves into the table as fast as the window allows; when the link goes (`detach`) the table moves
back to the head of the queue, with its packet ids, so that the next connection starts with what is unanswered (MQTT
5.0, section 4.4). No task and no timer: everything happens in a call from the client.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from edge.bus.errors import BusError, BusFull, Disconnected, PublishRejected, TooLarge
from edge.bus.link import Link
from edge.bus.packets import PUBACK_REASONS, encode_properties, encode_publish

log = logging.getLogger(__name__)

PACKET_IDS = 65_535
REJECTED = 0x80
PACKET_TOO_LARGE = 0x95
NO_PROPERTIES = b"\0"

Done = Callable[[BusError | None], None]
"""Called once: with None when the broker has taken the message (QoS 1) or it was sent (QoS 0), else with the reason."""


@dataclass(slots=True, eq=False)
class Outgoing:
    """One message to send. `deadline` is in the event loop's time; `packet_id` 0 until it is first sent."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    on_done: Done | None
    deadline: float | None
    response_topic: str | None
    correlation: bytes | None
    properties: dict[str, str] | None
    packet_id: int = 0
    sent: bool = False
    resend: bool = True

    def encode(self, version: int, now: float) -> bytes:
        """The PUBLISH, with what is left of the expiry."""
        packed: bytes | None = None
        if version == 5:
            packed = NO_PROPERTIES
            if self.deadline is not None or self.response_topic or self.correlation is not None or self.properties:
                left_s = None if self.deadline is None else max(1, math.ceil(self.deadline - now))
                packed = encode_properties(left_s, self.response_topic, self.correlation, self.properties)
        return encode_publish(
            self.topic.encode(),
            self.payload,
            qos=self.qos,
            retain=self.retain,
            duplicate=self.sent,
            packet_id=self.packet_id,
            properties=packed,
        )


class Outbox:
    """The messages of one client on their way to the broker.

    `report` is given each `Outgoing.on_done` with its outcome and calls it later, never from inside.
    """

    def __init__(
        self,
        *,
        version: int,
        max_in_flight: int,
        max_queued: int,
        now: Callable[[], float],
        report: Callable[[Done, BusError | None], None],
    ) -> None:
        self.dropped_qos0 = self.expired = self.rejected = 0
        self._version = version
        self._max_in_flight = min(max_in_flight, PACKET_IDS // 2)
        self._max_queued = max_queued
        self._now = now
        self._report = report
        self._queue: deque[Outgoing] = deque()
        self._in_flight: dict[int, Outgoing] = {}
        self._ids: set[int] = set()
        self._last_id = 0
        self._window = 0
        self._max_packet_bytes: int | None = None
        self._link: Link | None = None
        self._drained: list[asyncio.Future[None]] = []

    @property
    def waiting(self) -> int:
        """Messages that the broker has not taken yet."""
        return len(self._queue) + len(self._in_flight)

    # -- the link comes and goes ---------------------------------------------------------------------------------------

    def attach(self, link: Link, *, session_present: bool, receive_maximum: int, max_packet_bytes: int | None) -> None:
        """Send on `link` from now on. Without a session the broker knows nothing of what was sent before."""
        if not session_present:
            for item in self._queue:
                item.sent = False
        self._link = link
        self._window = min(self._max_in_flight, receive_maximum)
        self._max_packet_bytes = max_packet_bytes
        self.pump()

    def detach(self) -> None:
        """The link has gone: what is unanswered waits for the next one, ahead of everything newer, or fails."""
        self._link = None
        self._queue.extendleft(reversed(self._in_flight.values()))
        self._in_flight.clear()
        if not all(item.resend for item in self._queue):
            over = [item for item in self._queue if not item.resend]
            self._queue = deque(item for item in self._queue if item.resend)
            for item in over:
                self._finish(item, Disconnected("closed", "the connection went before the broker had taken it"))
            self._release_drained()

    def close(self, reason: BusError) -> None:
        """Fail everything that waits."""
        self.detach()
        while self._queue:
            self._finish(self._queue.popleft(), reason)
        self._release_drained()

    def expire(self) -> None:
        """Fail what has waited longer than its expiry."""
        now = self._now()
        if any(item.deadline is not None and item.deadline <= now for item in self._queue):
            kept = deque(item for item in self._queue if item.deadline is None or item.deadline > now)
            late = [item for item in self._queue if item.deadline is not None and item.deadline <= now]
            self._queue = kept
            for item in late:
                self._finish_expired(item)
            self._release_drained()

    # -- messages ------------------------------------------------------------------------------------------------------

    def check_room(self) -> None:
        """Raise `BusFull` when no further message should be queued without waiting."""
        if len(self._queue) >= self._max_queued:
            raise BusFull(f"{len(self._queue)} messages wait for the broker already; slow down, or check the broker")

    def submit(self, item: Outgoing) -> None:
        """Send `item` now if it can leave now, else queue it. QoS 0 without a link is dropped and counted."""
        link = self._link
        if link is None and item.qos == 0:
            self.dropped_qos0 += 1
            self._finish(item, Disconnected("closed", "no connection: a message of QoS 0 is dropped then"))
        elif link is None and not item.resend:
            self._finish(item, Disconnected("closed", "no connection"))
        elif link is None or not link.writable or (item.qos and (self._queue or len(self._in_flight) >= self._window)):
            self._queue.append(item)
        else:
            self._send(link, item)

    def withdraw(self, item: Outgoing) -> None:
        """Nobody waits for `item` any more: forget it if it is still queued."""
        if item in self._queue:
            self._queue.remove(item)
            self._ids.discard(item.packet_id)
            self._release_drained()

    def pump(self) -> None:
        """Send what waits, as far as window and link allow."""
        link, queue = self._link, self._queue
        while link is not None and queue and link.writable:
            if queue[0].qos and len(self._in_flight) >= self._window:
                break
            self._send(link, queue.popleft())
        self._release_drained()

    def puback(self, packet_id: int, code: int) -> None:
        """The broker has answered; unknown ids are ignored."""
        item = self._in_flight.pop(packet_id, None)
        if item is None:
            return
        self._ids.discard(packet_id)
        if code < REJECTED:
            if item.on_done is not None:
                self._report(item.on_done, None)
        else:
            self.rejected += 1
            reason = PUBACK_REASONS.get(code, "no reason given")
            if code == PACKET_TOO_LARGE:
                self._finish(item, TooLarge(item.topic, len(item.payload), None))
            else:
                self._finish(item, PublishRejected(item.topic, code, reason))
        if self._queue:
            self.pump()
        elif self._drained:
            self._release_drained()

    async def drain(self) -> None:
        """Wait until nothing waits."""
        if self.waiting:
            drained: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._drained.append(drained)
            await drained

    def take_id(self) -> int:
        """A packet id that no message has. Subscriptions take theirs from here too, and forget them at once."""
        while True:
            self._last_id = self._last_id % PACKET_IDS + 1
            if self._last_id not in self._ids:
                return self._last_id

    def _send(self, link: Link, item: Outgoing) -> None:
        now = self._now()
        if item.deadline is not None and item.deadline <= now:
            self._finish_expired(item)
            return
        if item.qos and not item.packet_id:
            item.packet_id = self.take_id()
        data = item.encode(self._version, now)
        if self._max_packet_bytes is not None and len(data) > self._max_packet_bytes:
            self._finish(item, TooLarge(item.topic, len(data), self._max_packet_bytes))
            return
        link.write(data)
        if item.qos:
            item.sent = True
            self._ids.add(item.packet_id)
            self._in_flight[item.packet_id] = item
        else:
            self._finish(item, None)

    def _finish_expired(self, item: Outgoing) -> None:
        self.expired += 1
        self._finish(item, Disconnected("expired", f"a message on {item.topic!r} waited longer than its expiry"))

    def _finish(self, item: Outgoing, error: BusError | None) -> None:
        self._ids.discard(item.packet_id)
        if item.on_done is not None:
            self._report(item.on_done, error)
        elif error is not None and item.qos:
            log.warning("a message on %r was not sent: %s", item.topic, error)

    def _release_drained(self) -> None:
        if self._drained and not self._queue and not self._in_flight:
            for drained in self._drained:
                if not drained.done():
                    drained.set_result(None)
            self._drained.clear()
