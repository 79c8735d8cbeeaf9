"""Where an answer goes: the lane's replies, or the MQTT 5 Response Topic when it lies inside the same lane."""

from __future__ import annotations

import logging
from collections.abc import Callable

from edge.bus import topics
from edge.bus.client import Message
from edge.bus.errors import BusFull, Disconnected
from edge.bus.messages.replies import Code, ProblemError
from edge.journal.store import NotStored, StorageFull

log = logging.getLogger(__name__)

RETRY_FULL_MS = 10_000
RETRY_FAULTED_MS = 5_000

Publish = Callable[..., None]
"""`Client.publish_soon`."""


def not_stored(error: NotStored) -> ProblemError:
    """What whoever asked is told when the disk did not take it: nothing was kept, ask again after a while."""
    if isinstance(error, StorageFull):
        return ProblemError(Code.STORAGE_FULL, str(error), retry_after_ms=RETRY_FULL_MS)
    return ProblemError(Code.FAULTED, str(error), retry_after_ms=RETRY_FAULTED_MS)


class Replies:
    """Publishes answers; one per process."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish

    def send(self, message: Message, lane: str, payload: bytes) -> None:
        """Answer `message` of `lane` with `payload`. QoS 1: the broker keeps it for a till with a session.

        An answer that comes while this process is ending, after its goodbye to the bus, is not sent.
        """
        try:
            self._send(message, lane, payload)
        except (BusFull, Disconnected) as error:
            log.error("an answer to lane %s is not sent: %s; the till asks again", lane, error)

    def _send(self, message: Message, lane: str, payload: bytes) -> None:
        asked_for = message.response_topic
        if asked_for is None:
            self._publish(topics.lane_replies(lane), payload, qos=1)
        elif topics.takes_replies(asked_for, lane):
            self._publish(asked_for, payload, qos=1, correlation=message.correlation)
        else:
            # An answer into another lane would let one till speak to another in the gateway's name.
            self._publish(topics.lane_replies(lane), payload, qos=1, correlation=message.correlation)
