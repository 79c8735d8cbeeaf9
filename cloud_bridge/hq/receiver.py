"""HQ's receiver: takes batches from the cloud broker, commits them, then confirms, then acknowledges. In this order.

Strategy: messages gather while a transaction is on its way to disk, and all of them go into the next one. The database
works in a thread. After the commit each store touched is told what HQ has; at most ten times a second per store, since
a later word replaces an earlier one. A database that is away stops nothing but the acknowledgements: the broker's
window closes, the stores keep their facts and send them again.

Any number of receivers may run: they share one subscription, and the database keeps them apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import NoReturn

from pydantic import ValidationError
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from cloud_bridge.hq.downlog import Downlog
from cloud_bridge.hq.record import Outcome, Recorder, Told, merge
from cloud_bridge.hq.statuses import STATUS_TOPIC_LEVEL, Statuses
from cloud_bridge.pace import Bucket
from edge.bus import topics
from edge.bus.client import BusError, Client, Message
from edge.bus.messages.facts import first_error
from edge.bus.messages.links import Confirmed, Need

log = logging.getLogger(__name__)

MAX_MESSAGES = 64
MAX_BYTES = 1024 * 1024
"""What one transaction holds at most, as it came: compressed, so some ten times as much in memory."""

TELL_EVERY_S = 0.1
RETRY_S = 2.0
REPLAY_PER_S = 50
REPLAY_BURST = 50
REPLAY_AT_ONCE = 20
"""Messages read from the log at a time."""

NEED_TOPIC_LEVEL = "need"


class Receiver:
    """Receives on `client`, which the caller enters, into the database behind `engine`."""

    def __init__(self, engine: Engine, client: Client) -> None:
        self.recorded = 0
        """Messages recorded since the start."""
        self._recorder = Recorder(engine)
        self._statuses = Statuses(engine)
        self._downlog = Downlog(engine)
        self._client = client
        self._inbox: list[Message] = []
        self._arrived = asyncio.Event()
        self._to_tell: Outcome = {}
        self._told_something = asyncio.Event()
        self._replays: dict[str, asyncio.Task[None]] = {}
        self._asked_again: dict[str, Need] = {}
        client.on_message(topics.HQ_UP_SHARED, self._on_up)

    def _on_up(self, message: Message) -> None:
        self._inbox.append(message)
        self._arrived.set()

    async def run(self) -> NoReturn:
        """Record and tell, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell_on(), name="confirm")
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while self._inbox:
                    await self._record(self._next(), group)
        raise AssertionError("a task group with an endless body does not end")

    def _next(self) -> list[Message]:
        """The messages of the next transaction."""
        size, count = 0, 0
        for message in self._inbox[:MAX_MESSAGES]:
            size += len(message.payload)
            if count and size > MAX_BYTES:
                break
            count += 1
        taken, self._inbox = self._inbox[:count], self._inbox[count:]
        return taken

    async def _record(self, messages: list[Message], group: asyncio.TaskGroup) -> None:
        facts: list[Message] = []
        needs: list[Message] = []
        statuses: list[Message] = []
        kinds = {NEED_TOPIC_LEVEL: needs, STATUS_TOPIC_LEVEL: statuses}
        for message in messages:
            kinds.get(topics.last_level(message.topic), facts).append(message)
        troubled = False
        while True:
            try:
                if facts:
                    rows = [(message.topic, message.payload) for message in facts]
                    self._tell(await asyncio.to_thread(self._recorder.record, rows))
                if statuses:
                    rows = [(message.topic, message.payload) for message in statuses]
                    if bad := await asyncio.to_thread(self._statuses.take, rows):
                        await asyncio.to_thread(self._recorder.refuse, bad)
                for message in needs:
                    await self._answer(message, group)
                break
            except OperationalError as error:
                if not troubled:
                    log.error("the database does not take anything now (%s); trying again", error.orig)
                troubled = True
                await asyncio.sleep(RETRY_S)
        if troubled:
            log.info("the database takes facts again")
        self.recorded += len(messages)
        for message in messages:
            message.ack()

    # -- confirming ----------------------------------------------------------------------------------------------------

    def _tell(self, outcome: Outcome) -> None:
        merge(self._to_tell, outcome)
        self._told_something.set()

    async def _tell_on(self) -> NoReturn:
        while True:
            await self._told_something.wait()
            self._told_something.clear()
            outcome, self._to_tell = self._to_tell, {}
            for (store, epoch), told in outcome.items():
                message = Confirmed(epoch=epoch, confirmed=told.confirmed, rejected=told.rejected)
                self._client.publish_soon(
                    topics.confirmed(store), message.model_dump_json().encode(), expiry_s=60, on_done=_note_failure
                )
            await asyncio.sleep(TELL_EVERY_S)

    # -- what stores miss ----------------------------------------------------------------------------------------------

    async def _answer(self, message: Message, group: asyncio.TaskGroup) -> None:
        """A store says what it has of the downlink: tell it what we have of its facts, and send what it misses."""
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
        found = await asyncio.to_thread(self._recorder.confirmed, need.store)
        self._tell(found or {(need.store, ""): Told()})
        running = self._replays.get(need.store)
        if running is not None and not running.done():
            self._asked_again[need.store] = need
            return
        self._replays[need.store] = group.create_task(self._replay(need), name=f"replay {need.store}")

    async def _replay(self, need: Need) -> None:
        """Send, in order and not too fast, what follows the positions in `need`."""
        pace = Bucket(REPLAY_PER_S, REPLAY_BURST)
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OperationalError):  # the store asks again
            for scope, stream, after in await asyncio.to_thread(self._downlog.missing, need):
                position = after
                while rows := await asyncio.to_thread(self._downlog.read, scope, stream, position, REPLAY_AT_ONCE):
                    for seq, payload in rows:
                        await asyncio.sleep(pace.wait_s(loop.time()))
                        pace.spend(1, loop.time())
                        with contextlib.suppress(BusError):
                            await self._client.publish(topics.down(need.store, stream), payload)
                        position = seq
                log.info("replayed %s to store %s from %d to %d", stream, need.store, after + 1, position)
        if again := self._asked_again.pop(need.store, None):
            await self._replay(again)


def _note_failure(error: BusError | None) -> None:
    if error is not None:
        log.warning("a confirmation was not sent (%s); the store sends its facts again", error)
