"""Answers stores that ask what they miss: an offer, then the messages, in order and not too fast.

Strategy: questions are taken one after the other, beside the facts: a thousand stores that come back at once hold up no
confirmation. One question, one answer: every receiver may hear it (where the broker knows no shared subscriptions all
do), the database says whose it is. A store asks again only when it has what was sent, has waited in vain, or has a new
connection; so a new question ends the answer to the one before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

from sqlalchemy import Engine

from cloud_bridge.hq.downlog import Downlog
from cloud_bridge.hq.schema import AWAY
from cloud_bridge.hq.turns import Turns
from cloud_bridge.hq.voice import Voice
from cloud_bridge.pace import Bucket
from edge.bus import topics
from edge.bus.client import BusError, Client
from edge.bus.messages.links import Need, Offer

log = logging.getLogger(__name__)

REPLAY_PER_S = 50
REPLAY_BURST = 50
"""To one store."""

REPLAY_AT_ONCE = 8
"""Messages read from the log at a time: half a megabyte."""

OFFER_EXPIRY_S = 60


class Replays:
    """Takes questions (`put`), answers them (`run`) in its `turns`. `greet(need)` tells a store what HQ has of it."""

    def __init__(
        self,
        engine: Engine,
        client: Client,
        greet: Callable[[Need], Awaitable[None]],
        turns: Turns | None = None,
        voice: Voice | None = None,
    ) -> None:
        self._voice = voice
        self._log = Downlog(engine)
        self._client = client
        self._greet = greet
        self._turns = turns or Turns()
        self._asked: dict[tuple[str, bool], Need] = {}
        self._arrived = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}

    def put(self, need: Need) -> None:
        """A store asks; a question of its own that still waits is then over."""
        self._asked[need.store, need.only_confirmed] = need
        self._arrived.set()

    async def run(self) -> NoReturn:
        """Answer until cancelled. While the database is away nobody is answered: stores ask again."""
        async with asyncio.TaskGroup() as group:
            while True:
                if not self._asked:
                    self._arrived.clear()
                    await self._arrived.wait()
                need = self._asked.pop(next(iter(self._asked)))
                with contextlib.suppress(*AWAY):
                    if await asyncio.to_thread(self._log.claim, need):
                        await self._greet(need)
                        if not need.only_confirmed:
                            self._start(need, group)
        raise AssertionError("a task group with an endless body does not end")

    def _start(self, need: Need, group: asyncio.TaskGroup) -> None:
        before = self._running.pop(need.store, None)
        if before is not None:
            before.cancel()
        task = group.create_task(self._replay(need), name=f"replay {need.store}")
        self._running[need.store] = task
        task.add_done_callback(lambda done: self._ended(need.store, done))

    def _ended(self, store: str, task: asyncio.Task[None]) -> None:
        if self._running.get(store) is task:
            del self._running[store]

    async def _replay(self, need: Need) -> None:
        pace = Bucket(REPLAY_PER_S, REPLAY_BURST)
        loop = asyncio.get_running_loop()
        with contextlib.suppress(*AWAY, BusError):  # the store asks again
            windows = await asyncio.to_thread(self._log.windows, need)
            offer = Offer(ask=need.ask, streams={window.key: window.offered for window in windows})
            if self._voice is None:
                told = offer.model_dump_json().encode()
            else:
                told = self._voice.say(need.store, "offer", offer, introduce=True)
            await self._turns.wait(len(told))
            await self._client.publish(topics.down_offer(need.store), told, expiry_s=OFFER_EXPIRY_S)
            for window in windows:
                position, until = window.offered.first - 1, window.offered.until
                while position < until:
                    limit = min(REPLAY_AT_ONCE, until - position)
                    rows = await asyncio.to_thread(self._log.read, window.scope, window.stream, position, limit)
                    if not rows or rows[0][0] != position + 1:
                        return  # trimmed in this moment; asked again, it is not offered any more
                    for seq, payload in rows:
                        await asyncio.sleep(pace.wait_s(loop.time()))
                        pace.spend(1, loop.time())
                        await self._turns.wait(len(payload))
                        await self._client.publish(topics.down(need.store, window.stream), payload)
                        position = seq
                if until >= window.offered.first:
                    log.info("sent %s to store %s: %d to %d of %d", window.key, need.store, window.offered.first, until,
                             window.offered.last)  # fmt: skip
