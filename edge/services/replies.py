"""Where an answer goes: the lane's replies, or the MQTT 5 Response Topic when it lies inside the same lane."""

from __future__ import annotations

import logging
from collections.abc import Callable

from edge.bus import topics
from edge.bus.client import Message
from edge.bus.errors import BusFull

log = logging.getLogger(__name__)

Publish = Callable[..., None]
"""`Client.publish_soon`."""


class Replies:
    """Publishes answers; one per process."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish

    def send(self, message: Message, lane: str, payload: bytes) -> None:
        """Answer `message` of `lane` with `payload`. QoS 1: the broker keeps it for a till with a session."""
        try:
            self._send(message, lane, payload)
        except BusFull as error:
            log.error("an answer to lane %s is not sent: %s; the till asks again", lane, error)

    def _send(self, message: Message, lane: str, payload: bytes) -> None:
        asked_for = message.response_topic
        if asked_for is None:
            self._publish(topics.lane_replies(lane), payload, qos=1)
        elif topics.belongs_to_lane(asked_for, lane):
            self._publish(asked_for, payload, qos=1, correlation=message.correlation)
        else:
            # An answer into another lane would let one till speak to another in the gateway's name.
            self._publish(topics.lane_replies(lane), payload, qos=1, correlation=message.correlation)
