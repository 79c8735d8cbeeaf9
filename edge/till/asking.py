"""Requests to the gateway: answered within their deadline, or ended here, never left hanging.

Strategy: a request is one future under its id. It is sent when the gateway can be reached and sent again, with the same
id, whenever its answer may have been lost: after a reconnect, when the gateway came back, after a long silence. The
gateway does an id once and repeats the answer, so sending again is always safe. At the deadline it ends here as
``timed_out``, which for paper and drawers means: look, or ask ``print.state``, before asking anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from edge.bus.envelope import new_id
from edge.bus.messages.replies import Code, ProblemError
from edge.bus.messages.requests import DEFAULT_DEADLINE_MS, MAX_DEADLINE_MS, is_secret

Send = Callable[[str, bytes, float], Awaitable[bool]]
"""Publish (operation, payload, expiry in seconds); False when it could not be sent now."""

SILENCE_S = 10.0
"""With no answer for this long, send again although nothing was seen to break."""

RETRY_S = 0.5


@dataclass(slots=True)
class _Asked:
    answer: asyncio.Future[dict[str, Any]]
    patient: bool = True
    again: asyncio.Event = field(default_factory=asyncio.Event)
    not_before_s: float = 0.0


class Asking:
    """The requests in flight. `on_reply` and `state` are told by the till, `ask` is what its program awaits."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._open: dict[str, _Asked] = {}
        self._reachable = asyncio.Event()

    def state(self, *, reachable: bool) -> None:
        """Whether a request can get to the gateway now; on coming back, everything open is sent again."""
        if reachable and not self._reachable.is_set():
            self._reachable.set()
            for asked in self._open.values():
                asked.again.set()
        elif not reachable:
            self._reachable.clear()

    def on_reply(self, to: str, result: dict[str, Any] | None, problem: ProblemError | None) -> bool:
        """Take the answer to the request `to`; False when no such request is open."""
        asked = self._open.get(to)
        if asked is None:
            return False
        if problem is None:
            if not asked.answer.done():
                asked.answer.set_result(result or {})
        elif problem.code is Code.TOO_FAST and asked.patient:
            wait_s = problem.retry_after_ms / 1000 if problem.retry_after_ms is not None else RETRY_S
            asked.not_before_s = asyncio.get_running_loop().time() + wait_s
            asked.again.set()
        elif not asked.answer.done():
            asked.answer.set_exception(problem)
        return True

    async def ask(
        self,
        operation: str,
        parameters: dict[str, Any],
        *,
        deadline_ms: int = DEFAULT_DEADLINE_MS,
        id_: str | None = None,
        beside: Mapping[str, str] = {},
    ) -> dict[str, Any]:
        """The result; ProblemError with the gateway's code, or ``timed_out`` at the deadline.

        The same `id_` may be asked again after a time-out, but not twice at the same time (ValueError). `beside` stands
        beside the id: ``session``, ``grant``. What asks for a password is not asked again by itself when the gateway
        wants a pause: that is the person's to decide.
        """
        if not 1 <= deadline_ms <= MAX_DEADLINE_MS:
            raise ValueError(f"deadline_ms must be 1 to {MAX_DEADLINE_MS}, not {deadline_ms}")
        loop = asyncio.get_running_loop()
        request_id = id_ or new_id()
        if request_id in self._open:
            raise ValueError(f"request {request_id!r} is already being asked")
        asked = self._open[request_id] = _Asked(loop.create_future(), patient=not is_secret(operation))
        asked.answer.add_done_callback(lambda _: asked.again.set())
        ends_s = loop.time() + deadline_ms / 1000
        try:
            async with asyncio.timeout_at(ends_s):
                await self._until_answered(
                    asked, operation, {"id": request_id, "parameters": parameters, **beside}, ends_s
                )
            return asked.answer.result()
        except TimeoutError:
            why = "no answer within the deadline" if self._reachable.is_set() else "the gateway is away"
            raise ProblemError(Code.TIMED_OUT, f"{operation}: {why} ({deadline_ms} ms)") from None
        finally:
            del self._open[request_id]
            asked.answer.cancel()

    async def _until_answered(self, asked: _Asked, operation: str, request: dict[str, Any], ends_s: float) -> None:
        loop = asyncio.get_running_loop()
        while not asked.answer.done():
            await self._reachable.wait()
            await asyncio.sleep(asked.not_before_s - loop.time())
            if asked.answer.done():
                return
            asked.again.clear()
            left_s = max(0.001, ends_s - loop.time())
            payload = orjson.dumps({**request, "deadline_ms": max(1, int(left_s * 1000))})
            sent = await self._send(operation, payload, left_s)
            await self._answer_or(asked, SILENCE_S if sent else RETRY_S)

    async def _answer_or(self, asked: _Asked, wait_s: float) -> None:
        """Until the answer is there, or something says to send again, or `wait_s` have passed."""
        try:
            async with asyncio.timeout(wait_s):
                await asked.again.wait()
        except TimeoutError:
            return
