"""What a technician at the box asks of the running gateway: always answered, within its deadline.

Strategy: requests and replies have the form of a till's, on topics that only the broker's own socket reaches: whoever
can open that socket may do this. Nothing is remembered: a command that was cut off is given again by the person.

Source: design page "The local bus" (requests, problems).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson
from pydantic import ValidationError

from edge.bus import topics
from edge.bus.client import Message
from edge.bus.errors import BusFull
from edge.bus.messages import base, replies
from edge.bus.messages.facts import first_error
from edge.bus.messages.replies import Code, ProblemError
from edge.bus.messages.requests import Request
from edge.services.requests import Asked, Handler, reply_to
from edge.supervisor import Background

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """One operation: the model of its parameters, and who does it. `secret`: nothing of them is shown in a problem."""

    parameters: type[base.Message]
    handler: Handler
    secret: bool = False


class TechnicianDesk:
    """Reads requests, runs each in a task of its own, answers. `serve` comes before the first message."""

    def __init__(self, publish: Callable[..., None]) -> None:
        self._publish = publish
        self._services: dict[str, Service] = {}
        self._running = Background()

    def serve(self, services: Mapping[str, Service]) -> None:
        """Let these serve these operations."""
        self._services.update(services)

    def on_message(self, message: Message) -> None:
        """Take one message from ``technician/requests/{operation}``."""
        message.ack()
        self._running.start(self._answer(message.topic, message.payload), f"technician {message.topic}")

    async def _answer(self, topic: str, payload: bytes) -> None:
        request_id: str | None = None
        try:
            request = _request(payload)
            request_id = request.id
            reply = await self._outcome(topics.operation_of(topic), request)
        except ProblemError as problem:
            reply = replies.refused(request_id, problem)
        try:
            self._publish(topics.TECHNICIAN_REPLIES, reply, qos=1)
        except BusFull as error:
            log.error("an answer to the technician is not sent: %s", error)

    async def _outcome(self, operation: str, request: Request) -> bytes:
        service = self._services.get(operation)
        if service is None:
            raise ProblemError(Code.UNKNOWN_OPERATION, f"{operation!r}; known: {', '.join(self._services)}")
        try:
            parameters = service.parameters.model_validate(request.parameters)
        except ValidationError as error:
            raise ProblemError(Code.BAD_MESSAGE, f"parameters.{first_error(error, shown=not service.secret)}") from None
        until_s = asyncio.get_running_loop().time() + request.deadline_ms / 1000
        asked = Asked("technician", request.id, until_s)
        return await reply_to(asked, service.handler, parameters)

    async def stop(self) -> None:
        """Cancel what is in hand."""
        await self._running.stop()


def _request(payload: bytes) -> Request:
    try:
        return Request.model_validate(orjson.loads(payload))
    except orjson.JSONDecodeError as error:
        raise ProblemError(Code.BAD_MESSAGE, f"not JSON: {error}") from None
    except ValidationError as error:
        raise ProblemError(Code.BAD_MESSAGE, first_error(error)) from None
