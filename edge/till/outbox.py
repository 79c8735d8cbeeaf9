"""Facts on their way from the till's disk to the gateway's journal: in order, a window at a time, until answered.

Strategy: the ledger is the queue; this module only knows which of its pending facts are in flight. A fact leaves the
window when its answer is in the ledger. Whenever something was lost or may have been (the connection, the gateway, a
reply that does not come) everything unanswered is sent again in order, same ids, same bytes: the gateway records a fact
once however often it comes.

    answer                                  what the till does
    accepted                                kept in the ledger as accepted; `Pending.accepted()` returns
    storage_full, too_fast, faulted         keeps the fact, waits as long as asked, sends again from there
    any other problem                       kept in the ledger as refused; `on_refused` is called; the next one follows
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from edge.bus.messages.replies import Code, ProblemError
from edge.card_guard import guarded
from edge.till.ledger import Answer, Fact, FactState, Ledger

log = guarded(__name__)

Done = Callable[[bool], None]
"""True when the broker has the fact, False when it could not be sent now (it is sent again later)."""

Send = Callable[[bytes, Done], None]
"""Publish one fact; `Done` is called once. Until then it is on its way, over a reconnect too."""

TRY_AGAIN = frozenset({Code.STORAGE_FULL, Code.TOO_FAST, Code.FAULTED})
WINDOW = 32
REPLY_S = 5.0
"""Without an answer for this long, send again: far above a commit on a slow SD card, below a cashier's patience."""

AWAY_S = 15.0
"""While the gateway says it is away, knock this often: its word may be out of date."""

RETRY_S = 2.0
"""How long to wait after a problem that names no time itself."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The gateway's promise: on its disk as number `seq` of `fact_class` in journal life `epoch`."""

    fact_class: str
    seq: int
    epoch: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A fact that the gateway will not take as it is. It stays in the ledger; a person has to look at it."""

    fact: Fact
    problem: ProblemError


class Pending:
    """A fact that is on this machine's disk. `accepted()` waits until it is on the gateway's too."""

    def __init__(self, fact: Fact) -> None:
        self.fact = fact
        self.outcome: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        # Nobody has to wait for it, and then nobody has to hear of a refusal here: `on_refused` does.
        self.outcome.add_done_callback(lambda done: done.cancelled() or done.exception())

    @property
    def id(self) -> str:
        return self.fact.id

    @property
    def sequence(self) -> int:
        return self.fact.sequence

    async def accepted(self) -> Accepted:
        """Wait for the answer, as long as it takes; ProblemError when the gateway refused the fact for good."""
        return await asyncio.shield(self.outcome)


class Outbox:
    """Sends the ledger's pending facts. `run` does the work; everything else only tells it something."""

    def __init__(self, ledger: Ledger, send: Send, on_refused: Callable[[Refused], None] | None = None) -> None:
        self._ledger = ledger
        self._send = send
        self._on_refused = on_refused
        self._window: OrderedDict[str, Fact] = OrderedDict()  # in order of sequence
        self._unsent: set[str] = set()  # those of the window that have to be sent (again)
        self._on_its_way: set[str] = set()  # those that the bus client has and the broker has not
        self._last_read = 0
        self._waiters: dict[str, Pending] = {}
        self._answers: list[tuple[Fact, Accepted | ProblemError, dict[str, Any]]] = []
        self._adding = 0
        self._wake = asyncio.Event()
        self._nothing_left = asyncio.Event()
        self._connected = False
        self._away = False
        self._hold_until = 0.0

    async def add(self, type_: str, data: dict[str, Any]) -> Pending:
        """Put a fact on this machine's disk; it is sent in its turn."""
        self._adding += 1
        self._nothing_left.clear()
        try:
            fact = await self._ledger.add(type_, data)
            pending = self._waiters[fact.id] = Pending(fact)
        finally:
            self._adding -= 1
            self._wake.set()
        return pending

    async def nothing_left(self) -> None:
        """Wait until every fact of the ledger has its answer."""
        await self._nothing_left.wait()

    def state(self, *, connected: bool, away: bool) -> None:
        """Whether the broker is reached, and whether the gateway behind it says that it is away."""
        came_back = (connected and not self._connected) or (connected and self._away and not away)
        self._connected, self._away = connected, away
        if came_back:
            self._hold_until = 0.0
            self._send_again()

    def on_reply(self, to: str, result: dict[str, Any] | None, problem: ProblemError | None) -> bool:
        """Take the answer to the fact `to`; False when no such fact is in flight."""
        fact = self._window.get(to)
        if fact is None:
            return False
        if problem is None:
            kept = result or {}
            accepted = Accepted(str(kept.get("class", "")), int(kept.get("seq", 0)), str(kept.get("epoch", "")))
            self._answers.append((fact, accepted, kept))
        elif problem.code in TRY_AGAIN:
            wait_s = problem.retry_after_ms / 1000 if problem.retry_after_ms is not None else RETRY_S
            self._hold(wait_s, problem)
            self._wake.set()
            return True
        else:
            self._answers.append((fact, problem, {"code": problem.code, "detail": problem.detail}))
        del self._window[to]  # a second answer to it finds nothing
        self._unsent.discard(to)
        self._wake.set()
        return True

    async def run(self) -> NoReturn:
        """Send, settle, send again; ends only by being cancelled or by the till's own disk failing (sqlite3.Error)."""
        while True:
            self._wake.clear()
            await self._settle()
            await self._fill()
            if self._connected and self._may_send():
                self._send_window()
            if self._answers:
                continue
            if not self._window and not self._adding and self._last_read >= self._ledger.last_sequence:
                self._nothing_left.set()
            await self._wait()

    def _may_send(self) -> bool:
        return asyncio.get_running_loop().time() >= self._hold_until

    def _hold(self, wait_s: float, problem: ProblemError) -> None:
        """Stop sending for a while; jitter, so that all lanes do not come back in the same moment."""
        now = asyncio.get_running_loop().time()
        if now >= self._hold_until:
            log.warning("the gateway asks to wait %.1f s before more facts: %s", wait_s, problem)
        self._hold_until = max(self._hold_until, now + wait_s * random.uniform(1.0, 1.25))
        self._unsent.update(self._window)

    def _send_again(self) -> None:
        self._unsent.update(self._window)
        self._wake.set()

    async def _settle(self) -> None:
        """Put the answers that have come into the ledger, in one transaction, then tell those who wait."""
        if not self._answers:
            return
        answers, self._answers = self._answers, []
        states = {True: FactState.ACCEPTED, False: FactState.REFUSED}
        await self._ledger.settle(
            [Answer(fact.sequence, states[isinstance(outcome, Accepted)], kept) for fact, outcome, kept in answers]
        )
        for fact, outcome, _ in answers:
            waiter = self._waiters.pop(fact.id, None)
            if isinstance(outcome, Accepted):
                if waiter is not None:
                    waiter.outcome.set_result(outcome)
                continue
            log.error("fact %s (%s) is refused and stays in the ledger: %s", fact.sequence, fact.type, outcome)
            if waiter is not None:
                waiter.outcome.set_exception(outcome)
            if self._on_refused is not None:
                self._on_refused(Refused(fact, outcome))

    async def _fill(self) -> None:
        room = WINDOW - len(self._window)
        highest = self._ledger.last_sequence
        # By the half, so that a replay reads and settles in groups.
        if room < WINDOW // 2 or self._last_read >= highest:
            return
        facts = await self._ledger.pending(self._last_read, room)
        for fact in facts:
            self._window[fact.id] = fact
            self._unsent.add(fact.id)
        # A file from an earlier life ends in facts that are answered: nothing pending up to `highest` is all read.
        self._last_read = facts[-1].sequence if len(facts) == room else max(highest, *(f.sequence for f in facts), 0)

    def _send_window(self) -> None:
        """Send what has to be sent, in order. While the gateway is away only the first: one knock is enough."""
        facts = list(self._window.values())[: 1 if self._away else None]
        due = [fact for fact in facts if fact.id in self._unsent and fact.id not in self._on_its_way]
        self._unsent.clear()
        for fact in due:
            self._on_its_way.add(fact.id)
            self._send(fact.body, partial(self._sent, fact.id))

    def _sent(self, fact_id: str, taken: bool) -> None:
        """The broker has the fact, or it could not be sent."""
        self._on_its_way.discard(fact_id)
        if not taken and fact_id in self._window:
            self._unsent.add(fact_id)
            self._hold_until = max(self._hold_until, asyncio.get_running_loop().time() + RETRY_S)
            self._wake.set()

    async def _wait(self) -> None:
        """Until there is something to do; with facts in flight, no longer than an answer may take."""
        wait_s: float | None = None
        if self._window and self._connected:
            wait_s = AWAY_S if self._away else REPLY_S
            held_s = self._hold_until - asyncio.get_running_loop().time()
            if held_s > 0:
                wait_s = held_s
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            self._unsent.update(self._window)
