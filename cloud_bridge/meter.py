"""What leaves on the line, counted per class: batches, bytes, facts, and facts that leave again.

Strategy: it stands between the uplink and the client and looks at the header of what passes; neither knows of it.
With single events there is no header: each message is one fact, and what leaves again cannot be told apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from edge.bus import frame, topics
from edge.bus.client import BusError, Message
from edge.bus.messages.facts import FactClass


@dataclass(slots=True)
class Sent:
    """Of one class, since this process started. `failed` batches the broker did not take."""

    batches: int = 0
    bytes: int = 0
    facts: int = 0
    resent_facts: int = 0
    failed: int = 0

    @property
    def bytes_per_fact(self) -> float | None:
        """On the line, as far as it is known."""
        return self.bytes / self.facts if self.facts else None


class Meter:
    """`publish` is `Client.publish_soon`; give `Meter.publish` to the uplink in its place."""

    def __init__(self, publish: Callable[..., None]) -> None:
        self.sent = {fact_class: Sent() for fact_class in FactClass}
        self.other_bytes = 0
        """Of messages that carry no facts."""
        self.received_bytes = 0
        self._publish = publish
        self._highest: dict[FactClass, tuple[str, int]] = {}

    def publish(self, topic: str, payload: bytes, *, on_done: Callable[[BusError | None], None], **more: Any) -> None:
        """Count it, and pass it on."""
        fact_class = FactClass(topics.last_level(topic))
        sent = self.sent[fact_class]
        sent.batches += 1
        sent.bytes += len(topic) + len(payload)
        epoch, first, last = _span(payload)
        sent.facts += last - first + 1
        before_epoch, highest = self._highest.get(fact_class, (epoch, 0))
        if before_epoch == epoch and epoch:
            sent.resent_facts += max(0, min(highest, last) - first + 1)
            highest = max(highest, last)
        self._highest[fact_class] = (epoch, highest if before_epoch == epoch else last)
        self._publish(topic, payload, on_done=partial(self._done, sent, on_done), **more)

    def hears(self, handler: Callable[[Message], None]) -> Callable[[Message], None]:
        """`handler`, with what it takes counted."""

        def take(message: Message) -> None:
            self.received_bytes += len(message.topic) + len(message.payload)
            handler(message)

        return take

    @staticmethod
    def _done(sent: Sent, on_done: Callable[[BusError | None], None], error: BusError | None) -> None:
        if error is not None:
            sent.failed += 1
        on_done(error)


def _span(payload: bytes) -> tuple[str, int, int]:
    """Epoch, first and last sequence of a batch; a single event counts as one fact of no known place."""
    try:
        header, _ = frame.unpack(payload)
        return str(header["epoch"]), int(header["first"]), int(header["last"])
    except (frame.BadFrame, KeyError):
        return "", 1, 1
