"""Keeps what runs for ever running, and is the only place that catches broadly.

Strategy: an expected loss (a device unplugged, a broker away) is logged once when it begins and once when it is over;
in between the work is tried again with growing pauses. Anything else is a bug: its traceback is logged, the part is
marked faulted, and it is started again with the same pauses, while everything else carries on.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NoReturn, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

State = Literal["running", "lost", "faulted"]


@dataclass(frozen=True, slots=True)
class Pauses:
    """The pause before try n doubles from `first_s` to `longest_s`, with up to a quarter of it as jitter.

    Work that ran longer than `good_life_s` starts with the first pause again.
    """

    first_s: float = 0.2
    longest_s: float = 5.0
    good_life_s: float = 10.0

    def before(self, attempt: int) -> float:
        """Seconds before try number `attempt` (1 is the first repetition)."""
        return float(min(self.longest_s, self.first_s * 2 ** min(attempt - 1, 16)) * random.uniform(0.75, 1.0))


async def keep_running(
    name: str,
    work: Callable[[], Awaitable[object]],
    *,
    expected: tuple[type[Exception], ...] = (),
    on_state: Callable[[State], None] | None = None,
    pauses: Pauses = Pauses(),
    pause: Callable[[float], Awaitable[bool | None]] = asyncio.sleep,
) -> NoReturn:
    """Run ``work()`` again and again until cancelled.

    `pause` waits so many seconds; where it returns True, what was waited for is there, and pauses begin short again.

    `expected` are losses that are no bugs. `on_state` hears "lost" and "faulted" when they begin and "running" when a
    life after them has lasted `good_life_s` or ended by itself.
    """
    attempt = 0
    troubled: State = "running"

    def settle(state: State) -> None:
        nonlocal troubled
        if state != troubled:
            troubled = state
            if on_state is not None:
                try:
                    on_state(state)
                except Exception as error:
                    bug(f"telling that {name} is {state}", error)

    def back() -> None:
        log.info("%s is back", name)
        settle("running")

    while True:
        started = time.monotonic()
        try:
            if troubled == "running":
                await work()
            else:
                await _watched(work, pauses.good_life_s, back)
        except expected as error:
            if troubled != "lost":
                log.warning("%s is lost (%s); trying again", name, error)
            settle("lost")
        except (Exception, asyncio.CancelledError) as error:
            if _cancels_us(error):
                raise
            log.critical("%s met a bug and is started again", name, exc_info=error)
            settle("faulted")
        else:
            settle("running")
        attempt = 1 if time.monotonic() - started > pauses.good_life_s else attempt + 1
        if await pause(pauses.before(attempt)):
            attempt = 0


async def _watched(work: Callable[[], Awaitable[object]], good_life_s: float, good: Callable[[], object]) -> None:
    handle = asyncio.get_running_loop().call_later(good_life_s, good)
    try:
        await work()
    finally:
        handle.cancel()


async def caught(what: str, work: Awaitable[T]) -> T | Bug:
    """Await a single piece of `work`; a bug in it is logged with its traceback and returned instead of raised."""
    try:
        return await work
    except (Exception, asyncio.CancelledError) as error:
        if _cancels_us(error):
            raise
        return bug(what, error)


def _cancels_us(error: BaseException) -> bool:
    """Whether it is we who are cancelled; otherwise something that was waited for is, and nobody expected that."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling() > 0)


class Background:
    """Work that perhaps nobody waits for: held on to, heard of when it fails, and ended together with its owner.

    `expected` are failures that are no bugs.
    """

    def __init__(self, *expected: type[Exception]) -> None:
        self._expected = expected
        self._running: set[asyncio.Future[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Begin `work`."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._hold(task, name, logging.WARNING)
        return task

    def hold(self, future: asyncio.Future[T], name: str) -> asyncio.Future[T]:
        """The same for what has begun already: a write on its way to the disk."""
        return self._hold(future, name, logging.WARNING)

    async def finish(self, work: Coroutine[Any, Any, T], name: str) -> T:
        """Do `work` to its end, also when whoever awaits this is cancelled: a till whose deadline is over."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        return await asyncio.shield(self._hold(task, name, logging.DEBUG))  # its failure is told to whoever awaits it

    async def stop(self) -> None:
        """Cancel what is in hand; what is on its way to the disk gets there."""
        tasks = [future for future in self._running if isinstance(future, asyncio.Task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _hold(self, future: asyncio.Future[T], name: str, level: int) -> asyncio.Future[T]:
        self._running.add(future)
        future.add_done_callback(partial(self._ended, name, level))
        return future

    def _ended(self, name: str, level: int, future: asyncio.Future[Any]) -> None:
        self._running.discard(future)
        if future.cancelled() or (error := future.exception()) is None:
            return
        if isinstance(error, self._expected):
            log.log(level, "%s: %s", name, error)
        else:
            bug(name, error)


@dataclass(frozen=True, slots=True)
class Bug:
    """Something that should not have happened, already logged; `what` was being done."""

    what: str
    error: BaseException


def bug(what: str, error: BaseException) -> Bug:
    """Log an exception that nobody expected, where the traceback is seen."""
    log.critical("a bug while doing %s", what, exc_info=error)
    return Bug(what, error)
