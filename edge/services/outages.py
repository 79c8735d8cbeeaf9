"""The bridge's report of an outage becomes a fact: ``tillgate.link.restored.v1``.

Strategy: the bridge tells until it hears that the fact is on disk. The fact's id is the outage's and its time is when
the outage ended, so that the same report is the same fact, recorded once.
"""

from __future__ import annotations

import logging
from asyncio import Future
from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic import ValidationError

from edge.bus import envelope, topics
from edge.bus.client import Message
from edge.bus.messages.facts import FACTS, TYPE_OF, Outage, first_error
from edge.bus.messages.links import OutageRecorded
from edge.journal.store import NewFact, Store

log = logging.getLogger(__name__)


class OutageDesk:
    """Takes ``bridge/outage``; answers on ``bridge/outage/recorded``."""

    def __init__(self, store: Store, store_id: str, publish: Callable[..., None]) -> None:
        self._store = store
        self._source = envelope.gateway_source(store_id)
        self._publish = publish

    def on_message(self, message: Message) -> None:
        """Record one outage that is over."""
        message.ack()
        try:
            outage = Outage.model_validate_json(message.payload)
        except ValidationError as error:
            log.error("the bridge's report of an outage cannot be read: %s", first_error(error))
            return
        row = FACTS[TYPE_OF[Outage]]
        event: dict[str, Any] = envelope.build(row.name, self._source, outage.model_dump(mode="json"), id_=outage.id)
        event["time"] = outage.ended or outage.began
        fact = NewFact(outage.id, row.name, row.fact_class, self._source, event["time"], None, None, event)
        self._store.append(fact).add_done_callback(partial(self._recorded, outage))

    def _recorded(self, outage: Outage, done: Future[Any]) -> None:
        if done.cancelled():
            return  # stopping; the bridge tells again
        if (error := done.exception()) is not None:
            log.error("the outage of %s is not recorded (%s); the bridge tells again", outage.began, error)
            return
        answer = OutageRecorded(id=outage.id)
        self._publish(topics.BRIDGE_OUTAGE_RECORDED, answer.model_dump_json().encode(), qos=1)
