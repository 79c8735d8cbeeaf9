"""HQ's receiver: takes batches from the cloud broker, commits them, then confirms, then acknowledges. In this order.

Strategy: messages gather while a transaction is on its way to disk, and all of them go into the next one (`lane`).
Critical facts have a lane of their own, with its own transactions: they overtake a backlog here as they did on the
line. After the commit each store touched is told what HQ has: of critical facts at once, of others at most ten times a
second, since a later word replaces an earlier one. A database that is away stops nothing but the acknowledgements: the
broker's window closes, the stores keep their facts and send them again.

Any number of receivers may run: they share one subscription, and the database keeps them apart. Where the broker has
no shared subscriptions each of them gets everything and records what is not there yet: a second one is then a spare,
not more speed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import NoReturn

from pydantic import ValidationError
from sqlalchemy import Engine

from cloud_bridge.hq.downlog import Downlog
from cloud_bridge.hq.lane import Lane
from cloud_bridge.hq.record import Outcome, Recorder, Told, Unpacked, merge
from cloud_bridge.hq.renewals import Renewals
from cloud_bridge.hq.replay import Replays
from cloud_bridge.hq.schema import AWAY
from cloud_bridge.hq.statuses import STATUS_TOPIC_LEVEL, Statuses
from cloud_bridge.hq.turns import Turns
from cloud_bridge.hq.voice import Voice
from cloud_bridge.pace import Budget
from edge.bus import topics
from edge.bus.client import BusError, Client, Message
from edge.bus.messages.facts import FactClass, first_error
from edge.bus.messages.links import Confirmed, Need
from edge.bus.messages.renewal import CERTIFICATE_LEVEL

log = logging.getLogger(__name__)

CONFIRMATION_BYTES = 350
"""About what one is, with topic and header."""

TOLD_HASH_DIGITS = 16
"""Of a hash in a confirmation. It tells two journals apart; the chain itself is verified here."""

TELL_EVERY_S = 0.1
TRIM_EVERY_S = 3600.0
DOWNLOG_KEPT_S = 7 * 24 * 3600.0
"""Messages to stores that are obsolete stay so long in HQ's log all the same, for people to look at."""

NEED_TOPIC_LEVEL = "need"


@dataclass(frozen=True, slots=True)
class _Work:
    """`count` messages, sorted: facts unpacked, and what stores say of themselves and ask."""

    count: int
    facts: Unpacked | None
    statuses: list[tuple[str, bytes]]
    needs: list[Message]
    renewals: list[tuple[str, bytes]]


class Receiver:
    """Receives on `client`, which the caller enters, into the database behind `engine`.

    `shared`: this receiver and its like share the stores' messages among them; else it gets all of them. `voice` signs
    confirmations and offers, so that no cloud broker can make them up.
    """

    def __init__(
        self,
        engine: Engine,
        client: Client,
        *,
        shared: bool = True,
        budget: Budget | None = None,
        voice: Voice | None = None,
    ) -> None:
        self.recorded = 0
        """Messages recorded since the start."""
        self._recorder = Recorder(engine)
        self._statuses = Statuses(engine)
        self._downlog = Downlog(engine)
        self._renewals = Renewals(engine)
        self._client = client
        self._critical = Lane(self._prepared, self._commit_critical)
        self._others = Lane(self._prepared, self._commit)
        self._to_tell: Outcome = {}
        self._told_something = asyncio.Event()
        self._turns = Turns(budget)
        self._voice = voice
        self._to_meet: set[str] = set()
        """Stores that have asked and are to be shown whose key the voice is."""
        self._replays = Replays(engine, client, self._tell_store, self._turns, voice)
        client.on_message(topics.HQ_UP_SHARED if shared else topics.HQ_UP_ANY, self._on_up)

    def _on_up(self, message: Message) -> None:
        critical = topics.last_level(message.topic) == FactClass.CRITICAL.value
        (self._critical if critical else self._others).put(message)

    @property
    def waiting(self) -> int:
        """Messages received that no transaction has taken yet."""
        return self._critical.waiting + self._others.waiting

    async def run(self) -> NoReturn:
        """Record and tell, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell_on(), name="confirm")
            group.create_task(self._replays.run(), name="replays")
            group.create_task(self._trim_on(), name="trim")
            group.create_task(self._critical.run(), name="critical")
            await self._others.run()
        raise AssertionError("a task group with an endless body does not end")

    # -- recording -----------------------------------------------------------------------------------------------------

    def _prepared(self, messages: list[Message]) -> _Work:
        facts: list[tuple[str, bytes]] = []
        statuses: list[tuple[str, bytes]] = []
        needs: list[Message] = []
        renewals: list[tuple[str, bytes]] = []
        for message in messages:
            kind = topics.last_level(message.topic)
            if kind == NEED_TOPIC_LEVEL:
                needs.append(message)
            elif kind == CERTIFICATE_LEVEL:
                renewals.append((message.topic, message.payload))
            else:
                (statuses if kind == STATUS_TOPIC_LEVEL else facts).append((message.topic, message.payload))
        return _Work(len(messages), self._recorder.unpack(facts) if facts else None, statuses, needs, renewals)

    async def _commit_critical(self, work: _Work) -> None:
        if work.facts:
            outcome = await asyncio.to_thread(self._recorder.write, work.facts)
            for _ in outcome:
                self._turns.take(CONFIRMATION_BYTES)
            self._publish(outcome)
        self.recorded += work.count

    async def _commit(self, work: _Work) -> None:
        if work.facts:
            self._tell(await asyncio.to_thread(self._recorder.write, work.facts))
        if work.statuses and (bad := await asyncio.to_thread(self._statuses.take, work.statuses)):
            await asyncio.to_thread(self._recorder.refuse, bad)
        if work.renewals:
            for store, answer in await asyncio.to_thread(self._renewals.take, work.renewals):
                payload = answer.model_dump_json().encode()
                self._client.publish_soon(
                    topics.down(store, CERTIFICATE_LEVEL), payload, expiry_s=60, on_done=_note_failure
                )
        for message in work.needs:
            self._take_need(message)
        self.recorded += work.count

    # -- confirming ----------------------------------------------------------------------------------------------------

    def _tell(self, outcome: Outcome) -> None:
        merge(self._to_tell, outcome)
        self._told_something.set()

    async def _tell_on(self) -> NoReturn:
        while True:
            await self._told_something.wait()
            self._told_something.clear()
            for key in list(self._to_tell):
                await self._turns.wait(CONFIRMATION_BYTES)
                self._publish({key: self._to_tell.pop(key)})  # with what has come meanwhile
            await asyncio.sleep(TELL_EVERY_S)

    def _publish(self, outcome: Outcome) -> None:
        for (store, epoch), told in outcome.items():
            hashes = {name: digest.hex()[:TOLD_HASH_DIGITS] for name, digest in told.hashes.items() if digest}
            message = Confirmed(epoch=epoch, confirmed=told.confirmed, hashes=hashes, rejected=told.rejected)
            if self._voice is None:
                payload = message.model_dump_json().encode()
            else:
                payload = self._voice.say(store, "confirmed", message, introduce=store in self._to_meet)
                self._to_meet.discard(store)
            self._client.publish_soon(topics.confirmed(store), payload, expiry_s=60, on_done=_note_failure)

    # -- what stores miss ----------------------------------------------------------------------------------------------

    def _take_need(self, message: Message) -> None:
        """A store says what it has of the downlink: it is told what we have of its facts, and sent what it misses."""
        try:
            need = Need.model_validate_json(message.payload)
            if need.store != topics.store_of(message.topic):
                raise ValueError(f"speaks for {need.store!r}")
        except ValidationError as error:
            log.error("%s: a store's question cannot be read: %s", message.topic, first_error(error))
            return
        except ValueError as error:
            log.error("%s: a store's question cannot be read: %s", message.topic, error)
            return
        self._replays.put(need)

    async def _tell_store(self, need: Need) -> None:
        if self._voice is not None:
            self._to_meet.add(need.store)
        found = await asyncio.to_thread(self._recorder.confirmed, need.store, need.journal)
        self._tell(found or {(need.store, ""): Told()})

    async def _trim_on(self) -> NoReturn:
        """Once an hour, forget what no store needs any more."""
        while True:
            with contextlib.suppress(*AWAY):  # the next hour will do
                if removed := await asyncio.to_thread(self._downlog.trim, DOWNLOG_KEPT_S):
                    log.info("trimmed %d messages to stores that none needs any more", removed)
            await asyncio.sleep(TRIM_EVERY_S)


def _note_failure(error: BusError | None) -> None:
    if error is not None:
        log.warning("a confirmation or a certificate was not sent (%s); the store sends and asks again", error)
