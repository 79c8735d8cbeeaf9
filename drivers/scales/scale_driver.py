"""A scale that is asked: one command at a time, a gap between commands, and never an old answer to a new
question.

Scales do not number their answers. A command that went unanswered may be answered late, by the weight of what
lay on the plate before; so a new request first waits until every late answer has come or can no longer come.
A scale that sends by itself is not asked but listened to: a weight whose transmission had begun before the request
is left out, and so is the first report of one that repeats itself: nobody knows how long it waited to be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal

from drivers.driver import Driver, OnEvent, OnOpen
from drivers.errors import BadOption, DeviceLost, Garbled, NotReady
from drivers.events import Event, Noise, ScaleStatus, Unit, Weight
from drivers.scales.base import ScaleProtocol
from drivers.transports.base import Transport

Answer = Weight | ScaleStatus | Noise


class Scale:
    """One scale, asked over a link that it may share with others: whoever runs the link tells it what is `heard`, and
    when the link is `opened` and `closed`.

    Requests queue up behind each other; each ends within its own `timeout_s`.
    """

    transport: Transport
    protocol: ScaleProtocol

    def __init__(self, transport: Transport, protocol: ScaleProtocol) -> None:
        self.transport = transport
        self.protocol = protocol
        self.is_open = False
        self.on_answer: Callable[[Weight | ScaleStatus], None] | None = None
        """Sees every answer to the question for the weight, also those within a `weigh`; must not block or raise."""
        self._turn = asyncio.Lock()
        self._answer: asyncio.Future[Answer] | None = None
        self._unanswered = 0
        self._stale = False
        self._first = False
        self._last_command = -float("inf")

    async def weigh(self, timeout_s: float) -> Weight:
        """Return a stable weight, not below zero, measured after this call began.

        Of a scale that does not tell whether it is at rest: the second of two answers that are the same.

        Raises NotReady (the reasons of scales), Garbled (only rubbish came) or DeviceLost.
        """
        last: Answer | None = None
        answer: Answer | None = None
        try:
            async with asyncio.timeout(timeout_s), self._turn:
                await self._quiet()
                while True:
                    answer = await self._weight_after(answer)
                    told = _told(answer)
                    if isinstance(told, Weight):
                        return told
                    last = told or last
        except TimeoutError:
            pass
        if isinstance(last, ScaleStatus):
            raise self._not_ready(last.reason or "no_weight")
        raise self._no_sense(last)

    async def read(self, timeout_s: float = 1.0) -> Weight | ScaleStatus:
        """Return what the scale says now, stable or not, negative or not (to watch it live); raises as `weigh` does."""
        return await self._once(lambda: self._weight_after(None), timeout_s)

    async def zero(self, timeout_s: float = 1.5) -> ScaleStatus:
        """Zero the scale; the status tells whether it is at zero now. Raises as `weigh` does."""
        return await self._command(self.protocol.zero(), timeout_s)

    async def tare(self, timeout_s: float = 1.5) -> ScaleStatus:
        """Take what lies on the plate as tare; `net` tells whether it did. Raises as `weigh` does."""
        return await self._command(self.protocol.tare(), timeout_s)

    async def tare_value(self, value: str, unit: Unit, timeout_s: float = 1.5) -> ScaleStatus:
        """Set a known tare; raises BadOption when the scale weighs in another unit, and as `weigh` does."""
        command = self.protocol.tare_value(value, unit)
        if command is None:
            raise self._not_ready("unsupported")
        until = asyncio.get_running_loop().time() + timeout_s
        weight = await self.read(timeout_s)
        if isinstance(weight, ScaleStatus):
            raise self._not_ready(weight.reason or "no_weight")
        if weight.unit != unit:
            raise BadOption("unit", f"is {unit!r}; {self.transport.name} weighs in {weight.unit}")
        return await self._command(command, until - asyncio.get_running_loop().time())

    async def clear_tare(self, timeout_s: float = 1.5) -> ScaleStatus:
        """Clear the tare. Raises as `weigh` does."""
        return await self._command(self.protocol.clear_tare(), timeout_s)

    async def _command(self, command: bytes | None, timeout_s: float) -> ScaleStatus:
        if command is None:
            raise self._not_ready("unsupported")
        if self.protocol.acknowledges == "not":
            return await self._command_and_look(command, timeout_s)
        answer = await self._once(lambda: self._ask(command, timeout_s), timeout_s)
        if not isinstance(answer, Weight):
            return answer
        if self.protocol.acknowledges == "weight":
            return _seen(answer)
        raise Garbled(f"{self.transport.name} answered a command with a weight; ask again")

    async def _command_and_look(self, command: bytes, timeout_s: float) -> ScaleStatus:
        """For scales that obey without a word: what they weigh afterwards tells whether they did."""
        last: Answer | None = None
        try:
            async with asyncio.timeout(timeout_s), self._turn:
                await self._quiet()
                await self._gap()
                self._write(command)
                # A stream shows the old weight a moment longer.
                await asyncio.sleep(self.protocol.command_gap_ms / 1000)
                while not isinstance(last, Weight) or not last.stable:
                    last = await self._weight_after(last) or last
        except TimeoutError:
            pass
        if isinstance(last, ScaleStatus):
            return last
        if not isinstance(last, Weight):
            raise self._no_sense(last)
        return _seen(last)

    async def _once(self, ask: Callable[[], Awaitable[Answer | None]], timeout_s: float) -> Weight | ScaleStatus:
        """One exchange, when its turn has come."""
        answer: Answer | None = None
        try:
            async with asyncio.timeout(timeout_s), self._turn:
                await self._quiet()
                answer = await ask()
        except TimeoutError:
            pass
        if answer is None or isinstance(answer, Noise):
            raise self._no_sense(answer)
        return answer

    def _not_ready(self, reason: str) -> NotReady:
        return NotReady(reason, f"{self.transport.name}: {ADVICE[reason]}")

    def _no_sense(self, last: Answer | None) -> NotReady | Garbled:
        if isinstance(last, Noise):
            name = self.transport.name
            return Garbled(f"{name} answers with rubbish ({last.reason}); check its line settings and cable")
        return self._not_ready(self.protocol.silence)

    async def _quiet(self) -> None:
        # Late answers belong to an earlier request: wait for them, or until they can no longer come.
        self._first = self.protocol.repeats
        self._answer = None
        loop = asyncio.get_running_loop()
        while self._unanswered:
            left = self._last_command + self.protocol.late_ms / 1000 - loop.time()
            if left <= 0:
                self._unanswered = 0
                return
            self._answer = loop.create_future()
            await asyncio.wait((self._answer,), timeout=left)
            if self._answer.done():
                self._answer.result()  # raises DeviceLost when the link went meanwhile
            self._answer = None

    async def _weight_after(self, before: Answer | None) -> Answer | None:
        """Ask for the weight. Where the scale does not tell whether it is at rest, it is when `before` was the same."""
        answer = await self._ask(self.protocol.weigh())
        if isinstance(answer, Weight) and not self.protocol.tells_motion:
            same = isinstance(before, Weight) and (before.value, before.unit) == (answer.value, answer.unit)
            answer = replace(answer, stable=same)
        if self.on_answer is not None and isinstance(answer, Weight | ScaleStatus):
            self.on_answer(answer)
        return answer

    async def _ask(self, command: bytes, answer_s: float | None = None) -> Answer | None:
        """Send one command when the gap allows (or only listen); return its answer, or None when none came in time.

        An answer to this request's command before, which came in the gap, is as good: a scale that gives a weight only
        once would not give it again.
        """
        if answer_s is None:
            answer_s = self.protocol.answer_ms / 1000
        if command:
            await self._gap()
            if self._answer is not None and self._answer.done():
                return self._taken(self._answer)
            self._write(command)
            self._unanswered += 1
        elif not self.is_open:
            raise self._gone_away()
        self._stale = not command and (self.protocol.pending or self._first)
        self._first = False
        self._answer = asyncio.get_running_loop().create_future()
        await asyncio.wait((self._answer,), timeout=answer_s)
        return self._taken(self._answer) if self._answer.done() else None

    def _taken(self, answer: asyncio.Future[Answer]) -> Answer:
        self._answer = None
        return answer.result()

    async def _gap(self) -> None:
        """Leave the scale the pause that it wants between two commands."""
        await asyncio.sleep(
            self._last_command + self.protocol.command_gap_ms / 1000 - asyncio.get_running_loop().time()
        )
        if not self.is_open:
            raise self._gone_away()

    def _write(self, command: bytes) -> None:
        self._last_command = asyncio.get_running_loop().time()
        self.transport.write(command)

    def _gone_away(self) -> DeviceLost:
        return DeviceLost(f"{self.transport.name} is not connected; it is tried again by itself")

    def heard(self, event: Event) -> None:
        """Take what came over the link; what is no scale's is left alone."""
        if not isinstance(event, Weight | ScaleStatus | Noise):
            return
        if not isinstance(event, Noise):  # rubbish may be a stray byte: the answer itself may still be on its way
            self._unanswered = max(0, self._unanswered - 1)
        if self._stale:
            self._stale = False  # it was on its way before anybody asked
        elif self._answer is not None and not self._answer.done():
            self._answer.set_result(event)

    def opened(self) -> None:
        """The link is up."""
        self.is_open = True
        self._unanswered = 0

    def closed(self) -> None:
        """The link is gone: so is whoever waits."""
        self.is_open = False
        self._unanswered = 0
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(DeviceLost(f"{self.transport.name} went away; it is tried again by itself"))
            self._answer.exception()  # marked as seen: there may be nobody waiting any more


class ScaleDriver(Scale, Driver):
    """A scale with a link of its own."""

    protocol: ScaleProtocol

    def __init__(
        self, transport: Transport, protocol: ScaleProtocol, on_event: OnEvent, on_open: OnOpen | None = None
    ) -> None:
        Driver.__init__(self, transport, protocol, on_event, on_open)
        Scale.__init__(self, transport, protocol)

    def _heard(self, event: Event) -> None:
        self.heard(event)

    def _opened(self) -> None:
        self.opened()

    def _closed(self) -> None:
        self.closed()


def _told(answer: Answer | None) -> Answer | None:
    """A weight that may be sold by, or what keeps it from being one."""
    if not isinstance(answer, Weight):
        return answer
    if answer.value.startswith("-"):
        return ScaleStatus(answer.raw, motion=not answer.stable, under_zero=True, net=bool(answer.net))
    return answer if answer.stable else ScaleStatus(answer.raw, motion=True, net=bool(answer.net))


def _seen(weight: Weight) -> ScaleStatus:
    """What a weight shows of a command that was given before it."""
    value = Decimal(weight.value)
    tared = value == 0 if weight.net is None else weight.net  # a scale that does not say shows zero once it is tared
    return ScaleStatus(weight.raw, motion=not weight.stable, under_zero=value < 0, centre_of_zero=value == 0, net=tared)


ADVICE = {
    "in_motion": "still moving; let it come to rest and weigh again",
    "over": "too much on it; take something off",
    "under_zero": "below zero; clear the plate and zero it",
    "no_weight": "gives no weight; clear the plate and weigh again",
    "no_answer": "does not answer; check its power and cable",
    "unchanged": "says nothing while the weight stays the same; lift the goods, put them back and weigh again",
    "unsupported": "has no such command; use its own keys",
    "busy": "busy with something else; wait a moment and weigh again",
    "below_minimum": "too little on it to be weighed; put more on",
    "out_of_range": "too little or too much on it; clear the plate, zero it and weigh again",
    "not_moved": "nothing was lifted since the last weight; lift the goods, put them back and weigh again",
    "needs_zero": "must be zeroed; clear the plate and zero it",
    "needs_calibration": "must be calibrated; call service",
    "needs_price": "refuses the unit price; set its option unit_price to one that it takes",
    "needs_checksum": "wants its maker's checksum; set its option polynomial to the constant that the maker gives",
    "device_fault": "a fault; switch it off and on, then call service",
    "refused": "refused the command; clear the plate, let it come to rest and try again",
}
"""What a person should do, by reason of NotReady; the name of the scale stands before it."""
