"""Which tills are there: heard from their retained presence, told to whoever wants to know.

A presence that is none (unreadable, far too long, with a card number in it) changes nothing and is taken away: the
broker would tell it to whoever asks.

Source: design page "The local bus" (presence: retained, with a last will, so that a till that died is seen to be gone).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from pydantic import ValidationError

from edge.bus import topics
from edge.bus.client import Message
from edge.bus.errors import BusFull, Disconnected
from edge.bus.messages.facts import first_error
from edge.bus.messages.replies import Code
from edge.bus.messages.statuses import Presence
from edge.card_numbers import in_payload
from edge.services.quarantine import Quarantine

log = logging.getLogger(__name__)

MESSAGE_BYTES = 4_096


class Presences:
    """Passes on who comes and goes: each of `watchers` is called with the lane and whether its till is online."""

    def __init__(self, publish: Callable[..., None], quarantine: Quarantine) -> None:
        self._publish = publish
        self._quarantine = quarantine
        self.watchers: list[Callable[[str, bool], None]] = []

    def on_message(self, message: Message) -> None:
        """Take one message from ``lanes/{lane}/presence``; what cannot be read changes nothing."""
        message.ack()
        lane = topics.lane_of(message.topic)
        if not message.payload:
            return  # cleared
        if len(message.payload) > MESSAGE_BYTES:
            self._refuse(message, lane, Code.TOO_LARGE, f"at most {MESSAGE_BYTES} bytes")
            return
        if (place := in_payload(message.payload)) is not None:
            self._refuse(message, lane, Code.CARD_NUMBER_REFUSED, str(place))
            return
        try:
            presence = Presence.model_validate_json(message.payload)
        except ValidationError as error:
            self._refuse(message, lane, Code.BAD_MESSAGE, first_error(error))
            return
        for watcher in self.watchers:
            watcher(lane, presence.online)

    def _refuse(self, message: Message, lane: str, code: Code, why: str) -> None:
        self._quarantine.keep(message.topic, lane, code, why, message.payload)
        try:
            self._publish(message.topic, b"", qos=1, retain=True)
        except (BusFull, Disconnected) as error:
            log.error("the presence of lane %s is not cleared: %s", lane, error)
