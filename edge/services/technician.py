"""What a technician at the box asks of the running gateway: always answered, within its deadline.

Strategy: requests and replies have the form of a till's, on topics that only the broker's own socket reaches: whoever
can open that socket may do this. What needs a right asks for a log-in besides, once there is an owner, so that the
audit has a name; `Permit` decides that, here and nowhere else. Nothing is remembered: a command that was cut off is
given again by the person.

Source: design page "The local bus" (requests, problems).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ConfigDict, Field, ValidationError

from edge.access.roles import Right
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
    """One operation: the model of its parameters, and who does it.

    `right`: what whoever asks needs; None: everybody at the box may. `own`: the person whom it is about may without it.
    `noted`: what the audit says of it where the handler records nothing. `secret`: no parameter is shown in a problem.
    """

    parameters: type[base.Message]
    handler: Handler
    right: Right | None = None
    own: bool = False
    noted: Callable[[Any], str] | None = None
    secret: bool = False


class BoxRequest(Request):
    """A request as commands at the box send it: `session` is that of `people.log_in`, `user` the system's."""

    model_config = ConfigDict(defer_build=True)

    user: str = Field(default="", max_length=32)
    without_log_in: bool = False

    @property
    def somebody(self) -> str:
        """How the audit calls whoever is not logged in."""
        return f"box:{self.user or '?'}"


Permit = Callable[[BoxRequest, str, Service, Any], str]
"""Who asks for this operation with these parameters, as `Asked.by`; ProblemError `not_logged_in`, `not_allowed`."""


class TechnicianDesk:
    """Reads requests, runs each in a task of its own, answers. `serve` comes before the first message."""

    def __init__(self, publish: Callable[..., None], permit: Permit) -> None:
        self._publish = publish
        self._permit = permit
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

    async def _outcome(self, operation: str, request: BoxRequest) -> bytes:
        service = self._services.get(operation)
        if service is None:
            raise ProblemError(Code.UNKNOWN_OPERATION, f"{operation!r}; known: {', '.join(self._services)}")
        try:
            parameters = service.parameters.model_validate(request.parameters)
        except ValidationError as error:
            raise ProblemError(Code.BAD_MESSAGE, f"parameters.{first_error(error, shown=not service.secret)}") from None
        until_s = asyncio.get_running_loop().time() + request.deadline_ms / 1000
        by = None if service.right is None else self._permit(request, operation, service, parameters)
        asked = Asked("technician", request.id, until_s, session=request.session, by=by)
        return await reply_to(asked, service.handler, parameters)

    async def stop(self) -> None:
        """Cancel what is in hand."""
        await self._running.stop()


def _request(payload: bytes) -> BoxRequest:
    try:
        return BoxRequest.model_validate(orjson.loads(payload))
    except orjson.JSONDecodeError as error:
        raise ProblemError(Code.BAD_MESSAGE, f"not JSON: {error}") from None
    except ValidationError as error:
        raise ProblemError(Code.BAD_MESSAGE, first_error(error, shown=False)) from None  # a session is a secret
