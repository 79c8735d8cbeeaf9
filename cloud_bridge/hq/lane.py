"""One way into the database: messages gather, are prepared together, committed together, and then acknowledged.

Strategy: while one transaction is on its way to disk, the messages of the next are prepared, and those of the one
after that gather. Both kinds of work are done in threads, where they let go of the interpreter for most of the time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, NoReturn, TypeVar

from cloud_bridge.hq.schema import AWAY
from edge.bus.client import Message

log = logging.getLogger(__name__)

MAX_MESSAGES = 64
MAX_BYTES = 512 * 1024
"""What one transaction holds at most, as it came: compressed, so some ten times as much in memory."""

RETRY_S = 2.0

Work = TypeVar("Work")


class Lane(Generic[Work]):
    """`prepare`, blocking, makes of messages what `commit` takes; `commit` may raise `AWAY`: tried again."""

    def __init__(self, prepare: Callable[[list[Message]], Work], commit: Callable[[Work], Awaitable[None]]) -> None:
        self._prepare = prepare
        self._commit = commit
        self._inbox: deque[Message] = deque()
        self._arrived = asyncio.Event()

    def put(self, message: Message) -> None:
        """A message has come. It is acknowledged after its commit."""
        self._inbox.append(message)
        self._arrived.set()

    @property
    def waiting(self) -> int:
        """Messages that no transaction has taken yet."""
        return len(self._inbox)

    async def run(self) -> NoReturn:
        """Work until cancelled."""
        ready: asyncio.Queue[tuple[list[Message], Work]] = asyncio.Queue(maxsize=1)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._commit_on(ready), name="commit")
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while messages := self._next():
                    await ready.put((messages, await asyncio.to_thread(self._prepare, messages)))
        raise AssertionError("a task group with an endless body does not end")

    def _next(self) -> list[Message]:
        """The messages of the next transaction."""
        taken: list[Message] = []
        size = 0
        while self._inbox and len(taken) < MAX_MESSAGES:
            size += len(self._inbox[0].payload)
            if taken and size > MAX_BYTES:
                break
            taken.append(self._inbox.popleft())
        return taken

    async def _commit_on(self, ready: asyncio.Queue[tuple[list[Message], Work]]) -> NoReturn:
        while True:
            messages, work = await ready.get()
            troubled = False
            while True:
                try:
                    await self._commit(work)
                    break
                except AWAY as error:
                    if not troubled:
                        log.error(
                            "the database does not take anything now (%s); trying again",
                            getattr(error, "orig", None) or error,
                        )
                    troubled = True
                    await asyncio.sleep(RETRY_S)
            if troubled:
                log.info("the database takes facts again")
            for message in messages:
                message.ack()
