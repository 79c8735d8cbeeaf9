"""Facts of tills into the journal, and the gateway's own facts beside them.

Strategy: the hot path of the gateway. A message is checked and handed to the journal in one go, without a task or a
queue of its own; the journal's group commit gathers whatever arrives meanwhile. When the commit is on disk, the reply
leaves and the broker's copy is acknowledged. A fact that cannot be kept as such is answered with a problem, kept in
quarantine, and acknowledged too: it blocks nothing.

Source: design pages "The local bus" (facts) and "Journal, bridge, HQ" (what accepted promises).
"""

from __future__ import annotations

import logging
import time
from asyncio import Future
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from edge.bus import envelope, topics
from edge.bus.client import Message
from edge.bus.messages import facts, replies
from edge.bus.messages.base import Recorded
from edge.bus.messages.personal import Person, about
from edge.bus.messages.replies import Code, ProblemError
from edge.card_numbers import in_payload, masked
from edge.journal.store import Accepted, Conflict, NewFact, NotStored, Statement, StorageFull, Store
from edge.services.limits import LaneBudget
from edge.services.quarantine import Quarantine
from edge.services.replies import Replies, not_stored
from edge.supervisor import bug

log = logging.getLogger(__name__)

Outcome = Accepted | Conflict


class FactIntake:
    """Takes ``lanes/{lane}/facts``; answers each with `accepted` or a problem."""

    def __init__(
        self,
        store: Store,
        store_id: str,
        lanes: frozenset[str],
        replies_: Replies,
        quarantine: Quarantine,
        budget: LaneBudget,
        *,
        message_bytes: int,
        lets: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._lets = lets
        self._sources = {lane: envelope.lane_source(store_id, lane) for lane in lanes}
        self._replies = replies_
        self._quarantine = quarantine
        self._budget = budget
        self._message_bytes = message_bytes
        self.full = False
        """Whether the last fact was refused because the disk is full."""
        self.on_full: list[Callable[[], None]] = []
        """Called when `full` has changed."""

    def on_message(self, message: Message) -> None:
        """Take one fact; the answer follows its commit."""
        lane, began_s = topics.lane_of(message.topic), time.thread_time()
        self._take(message, lane)
        self._budget.charge(lane, time.thread_time() - began_s)

    def _take(self, message: Message, lane: str) -> None:
        fact_id: str | None = None
        wait_ms = self._budget.wait_ms(lane)  # of every message, also of rubbish
        try:
            source = self._sources.get(lane)
            if source is None:
                raise ProblemError(Code.NOT_YOURS, f"there is no lane {lane!r} in this store")
            if not self._lets(lane):
                raise ProblemError(Code.NOT_YOURS, f"lane {lane!r} is shut")
            if len(message.payload) > self._message_bytes:
                raise ProblemError(Code.TOO_LARGE, f"at most {self._message_bytes} bytes")
            event = _parsed(message.payload)
            fact_id = masked(event["id"]) if isinstance(event.get("id"), str) else None
            if message.retain:
                raise ProblemError(Code.BAD_MESSAGE, "a fact is not retained: publish it without the retain flag")
            if wait_ms:
                raise ProblemError(Code.TOO_FAST, "too many messages a second", retry_after_ms=wait_ms)
            if (place := in_payload(message.payload, event)) is not None:
                raise ProblemError(Code.CARD_NUMBER_REFUSED, str(place))
            new = _checked(event, source, lane)
        except ProblemError as problem:
            self._refuse(message, lane, fact_id, problem)
            return
        self._store.append(new).add_done_callback(partial(self._committed, message, lane, new.id))

    def _committed(self, message: Message, lane: str, fact_id: str, done: Future[Outcome]) -> None:
        """The journal has an answer: pass it on. Runs in the event loop, once per fact."""
        if done.cancelled():
            return  # stopping: the broker still has the fact and gives it to our next life
        error = done.exception()
        if self.full != isinstance(error, StorageFull):
            self.full = not self.full
            for changed in self.on_full:
                changed()
        if error is None:
            outcome = done.result()
            if isinstance(outcome, Accepted):
                payload = replies.accepted(fact_id, outcome.fact_class, outcome.seq, outcome.epoch)
            else:
                kept = f"{outcome.fact_class}/{outcome.seq}"
                payload = replies.refused(
                    fact_id,
                    ProblemError(
                        Code.CONFLICT, f"same {outcome.kind} as {outcome.other_id}, other content; kept as {kept}"
                    ),
                )
        elif isinstance(error, NotStored):
            payload = replies.refused(fact_id, not_stored(error))
        elif isinstance(error, ValueError):  # JSON that can be read and not written: nested too deeply
            self._refuse(message, lane, fact_id, ProblemError(Code.BAD_MESSAGE, str(error)))
            return
        else:
            bug(f"fact {fact_id} of lane {lane}", error)
            problem = ProblemError(
                Code.FAULTED, "a fault of the gateway's own; it is logged. Send the fact again later"
            )
            payload = replies.refused(fact_id, problem)
        self._replies.send(message, lane, payload)
        message.ack()

    def _refuse(self, message: Message, lane: str, fact_id: str | None, problem: ProblemError) -> None:
        if problem.code is not Code.TOO_FAST:  # the till sends that one again, whole
            self._quarantine.keep(message.topic, lane, problem.code, problem.detail, message.payload)
        if lane in self._sources:
            self._replies.send(message, lane, replies.refused(fact_id, problem))
        message.ack()


def _parsed(payload: bytes) -> envelope.Event:
    try:
        return envelope.parse(payload)
    except ValueError as error:
        raise ProblemError(Code.BAD_MESSAGE, str(error)) from None


def _checked(event: envelope.Event, source: str, lane: str) -> NewFact:
    try:
        row, sequence = facts.check(event, source)
    except facts.BadFact as error:
        raise ProblemError(Code.BAD_MESSAGE, str(error)) from None
    whose = about(row.data)
    return NewFact(
        id=event["id"],
        type=row.name,
        fact_class=row.fact_class,
        source=source,
        time=event["time"],
        lane=lane,
        lane_seq=sequence,
        event=event,
        person=Person(whose.subject, event["data"][whose.subject]) if whose is not None else None,
        impersonal=whose.impersonal if whose is not None else frozenset(),
    )


Report = Callable[..., Awaitable[Any]]
"""A `Reporter`: record a fact of the gateway's own; keyword `also`: statements of the same transaction. Done when on
disk."""


class Reporter:
    """Records the gateway's own facts: a drawer that opened, a price version in force, a hole in a lane's sequence."""

    def __init__(self, store: Store, store_id: str) -> None:
        self._store = store
        self._source = envelope.gateway_source(store_id)

    def __call__(self, data: Recorded, *, also: Sequence[Statement] = ()) -> Future[Outcome]:
        """Record `data`; `also` is committed in the same transaction. Done when it is on disk."""
        row = facts.FACTS[facts.TYPE_OF[type(data)]]
        body: dict[str, Any] = data.model_dump(mode="json")
        event = envelope.build(row.name, self._source, body)
        new = NewFact(
            id=event["id"],
            type=row.name,
            fact_class=row.fact_class,
            source=self._source,
            time=event["time"],
            lane=None,
            lane_seq=None,
            event=event,
        )
        done = self._store.append_with(new, also) if also else self._store.append(new)
        done.add_done_callback(partial(_log_lost, row.name))
        return done


def _log_lost(what: str, done: Future[Outcome]) -> None:
    """A fact of our own that could not be kept: nobody else may be listening."""
    if not done.cancelled() and (error := done.exception()) is not None:
        log.error("%s is not recorded: %s", what, error)
