"""A scale that is asked: one command at a time, a gap between commands, and never an old answer to a new
question.

Scales do not number their answers. A command that went unanswered may be answered late, by the weight of what
lay on the plate before; so a new request first waits until every late answer has come or can no longer come.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from drivers.driver import Driver, OnEvent, OnOpen
from drivers.errors import DeviceLost, Garbled, NotReady
from drivers.events import Event, Noise, ScaleStatus, Weight
from drivers.protocol import DeviceProtocol
from drivers.transports.base import Transport

ANSWER_MS = 600
"""A scale that answers at all does so in far less (a tare takes 150 ms); after this it is asked again."""
LATE_MS = 2000
"""After this an unanswered command will not be answered any more."""


class ScaleProtocol(DeviceProtocol, Protocol):
    """What a scale's protocol adds: command builders and the pause that the scale needs between commands."""

    command_gap_ms: int

    def weigh(self) -> bytes:
        """Ask for the weight."""

    def zero(self) -> bytes:
        """Ask to be zeroed."""

    def tare(self) -> bytes:
        """Ask to take what lies on the plate as tare."""

    def tare_value(self, digits: str) -> bytes:
        """Set a known tare; raises ValueError when it cannot be written so."""

    def clear_tare(self) -> bytes:
        """Clear the tare."""


class ScaleDriver(Driver):
    """One scale. Requests queue up behind each other; each ends within its own `timeout_s`."""

    protocol: ScaleProtocol

    def __init__(
        self, transport: Transport, protocol: ScaleProtocol, on_event: OnEvent, on_open: OnOpen | None = None
    ) -> None:
        super().__init__(transport, protocol, on_event, on_open)
        self._turn = asyncio.Lock()
        self._answer: asyncio.Future[Weight | ScaleStatus | Noise] | None = None
        self._unanswered = 0
        self._last_command = -float("inf")

    async def weigh(self, timeout_s: float) -> Weight:
        """Return a stable weight measured after this call began.

        Raises NotReady ("in_motion", "over", "under_zero", "no_weight", "no_answer"), Garbled (only rubbish
        came) or DeviceLost.
        """
        last: ScaleStatus | Noise | None = None
        try:
            async with asyncio.timeout(timeout_s), self._turn:
                await self._quiet()
                while True:
                    answer = await self._ask(self.protocol.weigh())
                    if isinstance(answer, Weight) and answer.stable:
                        return answer
                    if isinstance(answer, ScaleStatus | Noise):
                        last = answer
        except TimeoutError:
            pass
        if isinstance(last, ScaleStatus):
            reason = last.reason or "no_weight"
            raise NotReady(reason, f"{self.transport.name}: {_ADVICE[reason]}")
        raise self._no_sense(last)

    async def read(self, timeout_s: float = 1.0) -> Weight | ScaleStatus:
        """Return what the scale says now, stable or not (to watch it live); raises as `weigh` does."""
        return await self._request(self.protocol.weigh(), timeout_s)

    async def zero(self, timeout_s: float = 1.5) -> ScaleStatus:
        """Zero the scale; the status tells whether it is at zero now. Raises as `weigh` does."""
        return await self._command(self.protocol.zero(), timeout_s)

    async def tare(self, timeout_s: float = 1.5) -> ScaleStatus:
        """Take what lies on the plate as tare; `net` tells whether it did. Raises as `weigh` does."""
        return await self._command(self.protocol.tare(), timeout_s)

    async def tare_value(self, digits: str, timeout_s: float = 1.5) -> ScaleStatus:
        """Set a known tare (digits as the protocol writes them, or ValueError). Raises as `weigh` does."""
        return await self._command(self.protocol.tare_value(digits), timeout_s)

    async def clear_tare(self, timeout_s: float = 1.5) -> ScaleStatus:
        """Clear the tare. Raises as `weigh` does."""
        return await self._command(self.protocol.clear_tare(), timeout_s)

    async def _command(self, command: bytes, timeout_s: float) -> ScaleStatus:
        answer = await self._request(command, timeout_s)
        if isinstance(answer, Weight):
            raise Garbled(f"{self.transport.name} answered a command with a weight; ask again")
        return answer

    async def _request(self, command: bytes, timeout_s: float) -> Weight | ScaleStatus:
        answer: Weight | ScaleStatus | Noise | None = None
        try:
            async with asyncio.timeout(timeout_s), self._turn:
                await self._quiet()
                answer = await self._ask(command)
        except TimeoutError:
            pass
        if answer is None or isinstance(answer, Noise):
            raise self._no_sense(answer)
        return answer

    def _no_sense(self, last: Noise | None) -> NotReady | Garbled:
        name = self.transport.name
        if last is not None:
            return Garbled(f"{name} answers with rubbish ({last.reason}); check its line settings and cable")
        return NotReady("no_answer", f"{name}: {_ADVICE['no_answer']}")

    async def _quiet(self) -> None:
        # Late answers belong to an earlier request: wait for them, or until they can no longer come.
        loop = asyncio.get_running_loop()
        while self._unanswered:
            left = self._last_command + LATE_MS / 1000 - loop.time()
            if left <= 0:
                self._unanswered = 0
                return
            self._answer = loop.create_future()
            await asyncio.wait((self._answer,), timeout=left)
            if self._answer.done():
                self._answer.result()  # raises DeviceLost when the link went meanwhile

    async def _ask(self, command: bytes) -> Weight | ScaleStatus | Noise | None:
        """Send one command when the gap allows; return its answer, or None when none came in time."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._last_command + self.protocol.command_gap_ms / 1000 - loop.time())
        if not self.is_open:
            raise DeviceLost(f"{self.transport.name} is not connected; it is tried again by itself")
        self._answer = loop.create_future()
        self._unanswered += 1
        self._last_command = loop.time()
        self.transport.write(command)
        await asyncio.wait((self._answer,), timeout=ANSWER_MS / 1000)
        return self._answer.result() if self._answer.done() else None

    def _heard(self, event: Event) -> None:
        if not isinstance(event, Weight | ScaleStatus | Noise):
            return
        if not isinstance(event, Noise):  # rubbish may be a stray byte: the answer itself may still be on its way
            self._unanswered = max(0, self._unanswered - 1)
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(event)

    def _opened(self) -> None:
        self._unanswered = 0

    def _closed(self) -> None:
        self._unanswered = 0
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(DeviceLost(f"{self.transport.name} went away; it is tried again by itself"))
            self._answer.exception()  # marked as seen: there may be nobody waiting any more


_ADVICE = {
    "in_motion": "still moving; let it come to rest and weigh again",
    "over": "too much on it; take something off",
    "under_zero": "below zero; clear the plate and zero it",
    "no_weight": "gives no weight; clear the plate and weigh again",
    "no_answer": "does not answer; check its power and cable",
}
