"""Requests of tills: always answered, within their deadline, and never done twice.

Strategy: `Router` reads and checks a request, finds the handler of its operation, and runs it in a task of its own with
the deadline as time-out. Operations marked `remembered` (paper, money, drawer) have a row on disk before the handler
starts and their answer on disk before the reply leaves; repeating the id repeats the answer. A row that a crash left
unfinished goes to the operation's recovery, which knows what may have happened.

The broker's copy is acknowledged when the reply is on its way: a request that was in hand when the process died comes
again, finds its row, and is answered.

Source: design page "The local bus" (operations, problems, idempotence).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import orjson
from pydantic import ValidationError

from edge.bus import topics
from edge.bus.client import Message
from edge.bus.envelope import now_utc
from edge.bus.messages import replies
from edge.bus.messages.facts import first_error
from edge.bus.messages.replies import Code, ProblemError
from edge.bus.messages.requests import OPERATIONS, Operation, Print, Request, is_secret
from edge.card_numbers import in_payload, masked
from edge.journal import lifetime
from edge.journal.sealing import Place
from edge.journal.store import NotStored, Statement, Store
from edge.seal import Unsealable
from edge.services.limits import LaneBudget
from edge.services.quarantine import Quarantine
from edge.services.replies import Replies, not_stored
from edge.supervisor import Bug, caught

log = logging.getLogger(__name__)

REMEMBERED_S = 24 * 3600
"""How long the answer to a remembered request is kept."""
ANSWERS = Place("requests", ("lane", "id"), "answer", "answers")


ANSWER_S = 0.1
"""What is left of a deadline for the answer itself: the till hears the reason, not only that time is up."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks, under which id, and until when: `deadline_s` in the event loop's own time."""

    lane: str
    request_id: str
    deadline_s: float
    session: str | None = field(default=None, repr=False)
    grant: str | None = field(default=None, repr=False)
    operator: str | None = None
    """The person who is logged in at the lane, as the gateway itself found; not what the till says."""
    by: str | None = None
    """Who asks at the box for what needs a right: a person's id, or ``box:USER`` where nobody is logged in."""

    @property
    def answer_by_s(self) -> float:
        """Until when to wait for what is asked, so that what there is to say of it still comes in time."""
        return self.deadline_s - ANSWER_S


Handler = Callable[[Asked, Any], Awaitable[dict[str, Any]]]
"""Does the operation with its checked parameters; returns the reply's result or raises ProblemError."""

Guard = Callable[[Asked, Any, Handler], Awaitable[dict[str, Any]]]
"""Stands before a handler: calls it, perhaps with other words, or raises ProblemError."""

Recovery = Handler
"""The same for a request that a crash interrupted: tell what became of it, do not do it again."""


class Router:
    """Dispatches requests to handlers. `serve` registers a module's operations before the first message."""

    def __init__(
        self,
        store: Store,
        lanes: frozenset[str],
        replies_: Replies,
        quarantine: Quarantine,
        budget: LaneBudget,
        *,
        message_bytes: int,
        in_flight: int,
        lets: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._lets = lets
        self._lanes = lanes
        self._replies = replies_
        self._quarantine = quarantine
        self._budget = budget
        self._message_bytes = message_bytes
        self._in_flight = in_flight
        self._handlers: dict[str, Handler] = {"help": _help}
        self._recoveries: dict[str, Recovery] = {}
        self._guards: dict[str, Guard] = {}
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._busy: dict[str, int] = {}

    def serve(self, operations: Mapping[str, Handler]) -> None:
        """Let these handlers serve these operations."""
        self._handlers.update(operations)

    def recover(self, recoveries: Mapping[str, Recovery]) -> None:
        """Let these tell what became of operations that a crash interrupted."""
        self._recoveries.update(recoveries)

    def guard(self, guards: Mapping[str, Guard]) -> None:
        """Let these stand before what lanes ask for."""
        self._guards.update(guards)

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """What is served, by operation; for those who do the same without being a lane."""
        return self._handlers

    @property
    def busy(self) -> bool:
        """Whether a request is being served."""
        return bool(self._running)

    def on_message(self, message: Message) -> None:
        """Take one message from ``lanes/{lane}/requests/{operation}``."""
        lane, began_s = topics.lane_of(message.topic), time.thread_time()
        self._take(message, lane)
        self._budget.charge(lane, time.thread_time() - began_s)

    def _take(self, message: Message, lane: str) -> None:
        request_id: str | None = None
        wait_ms = self._budget.wait_ms(lane)  # of every message, also of rubbish
        try:
            if lane not in self._lanes:
                raise ProblemError(Code.NOT_YOURS, f"there is no lane {lane!r} in this store")
            if not self._lets(lane):
                raise ProblemError(Code.NOT_YOURS, f"lane {lane!r} is shut")
            if len(message.payload) > self._message_bytes:
                raise ProblemError(Code.TOO_LARGE, f"at most {self._message_bytes} bytes")
            fields = _fields(message.payload)
            request_id = masked(fields["id"]) if isinstance(fields.get("id"), str) else None
            if message.retain:
                raise ProblemError(Code.BAD_MESSAGE, "a request is not retained: publish it without the retain flag")
            if wait_ms:
                raise ProblemError(Code.TOO_FAST, "too many messages a second", retry_after_ms=wait_ms)
            if (place := in_payload(message.payload, fields)) is not None:
                raise ProblemError(Code.CARD_NUMBER_REFUSED, str(place))
            request, operation, parameters = _read(topics.operation_of(message.topic), fields)
            if isinstance(parameters, Print) and parameters.raw and (place := in_payload(parameters.raw)) is not None:
                raise ProblemError(Code.CARD_NUMBER_REFUSED, f"parameters.raw: {place}")
            if operation.name not in self._handlers:
                raise ProblemError(Code.NOT_FOUND, f"this store has no device or service for {operation.name}")
            if (lane, request.id) in self._running:
                message.ack()  # the answer that is on its way answers this one too
                return
            if self._busy.get(lane, 0) >= self._in_flight:
                raise ProblemError(Code.TOO_FAST, f"at most {self._in_flight} requests at once", retry_after_ms=100)
        except ProblemError as problem:
            self._refuse(message, lane, request_id, problem)
            return
        self._start(message, lane, request, operation, parameters)

    def _start(self, message: Message, lane: str, request: Request, operation: Operation, parameters: Any) -> None:
        key = (lane, request.id)
        self._busy[lane] = self._busy.get(lane, 0) + 1
        task = asyncio.create_task(
            self._answer(message, lane, request, operation, parameters), name=f"{operation.name} {lane} {request.id}"
        )
        self._running[key] = task

        def ended(_: asyncio.Task[None]) -> None:
            self._running.pop(key, None)
            self._busy[lane] -= 1

        task.add_done_callback(ended)

    async def _answer(
        self, message: Message, lane: str, request: Request, operation: Operation, parameters: Any
    ) -> None:
        deadline_s = request.deadline_ms / 1000
        if message.expiry_s is not None:
            deadline_s = min(deadline_s, float(message.expiry_s))
        asked = Asked(lane, request.id, asyncio.get_running_loop().time() + deadline_s, request.session, request.grant)
        if operation.remembered:
            try:
                payload = await self._remembered(asked, operation, request, parameters)
            except NotStored as error:
                payload = replies.refused(request.id, not_stored(error))
        else:
            payload = await reply_to(asked, self._handler(operation), parameters)
        self._replies.send(message, lane, payload)
        message.ack()

    async def _remembered(self, asked: Asked, operation: Operation, request: Request, parameters: Any) -> bytes:
        digest = hashlib.sha256(
            orjson.dumps([operation.name, request.parameters], option=orjson.OPT_SORT_KEYS)
        ).digest()
        row = await self._store.fetch_one(
            "SELECT digest, answer FROM requests WHERE lane = ? AND id = ?", (asked.lane, asked.request_id)
        )
        if row is not None:
            before, answer = row
            if before != digest:
                return replies.refused(
                    asked.request_id, ProblemError(Code.CONFLICT, "this id was used for another request")
                )
            if answer is not None:
                return self._answered(asked, bytes(answer))
            recovery = self._recoveries.get(operation.name, _unknown)
            payload = await reply_to(asked, recovery, parameters)
        else:
            await self._store.write(
                [
                    (
                        "INSERT INTO requests(lane, id, operation, digest, asked_at, lived_ms)"  # noqa: S608  # a constant
                        f" VALUES (?, ?, ?, ?, ?, {lifetime.NOW})",
                        (asked.lane, asked.request_id, operation.name, digest, now_utc()),
                    )
                ]
            )
            payload = await reply_to(asked, self._handler(operation), parameters)
        names = (asked.lane, asked.request_id)
        sealed = self._store.sealed(ANSWERS, names, payload)
        keep = "UPDATE requests SET answer = ? WHERE lane = ? AND id = ?", (sealed, *names)
        try:
            await self._store.write([keep])
        except NotStored as error:  # what was done is said all the same; asked again, recovery tells
            log.error("the answer to %s of lane %s is not kept: %s", asked.request_id, asked.lane, error)
        return payload

    def _handler(self, operation: Operation) -> Handler:
        handler, guard = self._handlers[operation.name], self._guards.get(operation.name)
        return handler if guard is None else lambda asked, parameters: guard(asked, parameters, handler)

    def _answered(self, asked: Asked, stored: bytes) -> bytes:
        """The answer of the first time; unknown_outcome where that was changed on the disk: it is not done again."""
        try:
            return self._store.plain(ANSWERS, (asked.lane, asked.request_id), stored)
        except Unsealable as error:
            log.error("the answer to %s of lane %s cannot be read: %s", asked.request_id, asked.lane, error)
            return replies.refused(
                asked.request_id, ProblemError(Code.UNKNOWN_OUTCOME, "it was answered before, and that answer is lost")
            )

    def _refuse(self, message: Message, lane: str, request_id: str | None, problem: ProblemError) -> None:
        if problem.code not in (Code.TOO_FAST, Code.NOT_FOUND):
            payload = _without_secrets(message.topic, message.payload)
            self._quarantine.keep(message.topic, lane, problem.code, problem.detail, payload)
        if lane in self._lanes:
            self._replies.send(message, lane, replies.refused(request_id, problem))
        message.ack()

    async def stop(self) -> None:
        """Cancel what is in hand; the broker gives it to the next life of this process."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def forget_old_answers() -> Statement:
    """The statement that removes answers older than they are promised to be kept."""
    return f"DELETE FROM requests WHERE {lifetime.older_than(REMEMBERED_S)}", ()  # noqa: S608  # constants


_REQUESTS = """
CREATE TABLE IF NOT EXISTS requests (
    lane TEXT NOT NULL,
    id TEXT NOT NULL,
    operation TEXT NOT NULL,
    digest BLOB NOT NULL,
    asked_at TEXT NOT NULL,
    answer BLOB,  -- sealed (ANSWERS)
    PRIMARY KEY (lane, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS requests_by_age ON requests (asked_at);
"""
_BY_LIFETIME = """
ALTER TABLE requests ADD COLUMN lived_ms INTEGER NOT NULL DEFAULT 0;
DROP INDEX requests_by_age;
"""
REQUESTS_SCHEMAS = (("requests-1", _REQUESTS), ("requests-2", _BY_LIFETIME))


def _fields(payload: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise ProblemError(Code.BAD_MESSAGE, f"not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ProblemError(Code.BAD_MESSAGE, "not a JSON object")
    return fields


_DEEPEST = 20


def _without_secrets(topic: str, payload: bytes) -> bytes:
    """What of a refused request may be kept: no password, and no session that is still good."""
    if is_secret(topics.operation_of(topic)):
        return _NOT_KEPT
    if _SECRET_NAME.search(_ESCAPED.sub(lambda found: bytes((int(found[1], 16),)), payload)) is None:
        return payload
    try:
        return orjson.dumps(_blanked(orjson.loads(payload)))
    except orjson.JSONDecodeError:
        return _NOT_KEPT  # where a value of what is no JSON ends, nobody can tell


def _blanked(value: Any, deeper: int = _DEEPEST) -> Any:
    """The same without what stands in secret fields; what lies too deep goes whole."""
    if isinstance(value, (dict, list)) and not deeper:
        return "..."
    if isinstance(value, dict):
        return {
            key: "..." if key.lower() in _SECRET_FIELDS else _blanked(item, deeper - 1) for key, item in value.items()
        }
    return [_blanked(item, deeper - 1) for item in value] if isinstance(value, list) else value


_NOT_KEPT = b"(not kept: it may hold a password)"
_SECRET_FIELDS = frozenset({"session", "grant", "password", "pin"})
_SECRET_NAME = re.compile("|".join(sorted(_SECRET_FIELDS)).encode(), re.IGNORECASE)
_ESCAPED = re.compile(rb"\\u00([2-7][0-9a-fA-F])")
"""A letter of ASCII, written as JSON may write any: "p\\u0061ssword" is that name, too."""


def _read(name: str, fields: dict[str, Any]) -> tuple[Request, Operation, Any]:
    operation = OPERATIONS.get(name)
    if operation is None:
        raise ProblemError(Code.UNKNOWN_OPERATION, f"{masked(name)!r}; known: {', '.join(OPERATIONS)}")
    try:
        request = Request.model_validate(fields)
    except ValidationError as error:
        raise ProblemError(Code.BAD_MESSAGE, first_error(error, shown=_may_be_shown(operation, error))) from None
    try:
        return request, operation, operation.parameters.model_validate(request.parameters)
    except ValidationError as error:
        shown = _may_be_shown(operation, error)
        raise ProblemError(Code.BAD_MESSAGE, f"parameters.{first_error(error, shown=shown)}") from None


def _may_be_shown(operation: Operation, error: ValidationError) -> bool:
    """Whether what was found in place of something else may stand in answer and log: not what a secret field holds."""
    where = {str(part).lower() for part in error.errors()[0]["loc"]}
    return not operation.secret and not where & _SECRET_FIELDS


async def reply_to(asked: Asked, handler: Handler, parameters: Any) -> bytes:
    """The reply to one request, within its deadline, whatever happens in the handler."""
    outcome = await caught(f"request {asked.request_id} of {asked.lane}", _bounded(asked, handler, parameters))
    if isinstance(outcome, Bug):
        outcome = ProblemError(Code.FAULTED, "a fault of the gateway's own; it is logged")
    if isinstance(outcome, ProblemError):
        return replies.refused(asked.request_id, outcome)
    return replies.done(asked.request_id, outcome)


async def _bounded(asked: Asked, handler: Handler, parameters: Any) -> dict[str, Any] | ProblemError:
    """What the handler says within the deadline."""
    try:
        async with asyncio.timeout_at(asked.deadline_s):
            return await handler(asked, parameters)
    except TimeoutError:
        return ProblemError(Code.TIMED_OUT, "not done within the deadline; ask for its state before repeating")
    except ProblemError as problem:
        return problem
    except NotStored as error:
        return not_stored(error)


async def _unknown(asked: Asked, parameters: Any) -> dict[str, Any]:
    raise ProblemError(Code.UNKNOWN_OUTCOME, "the gateway was restarted while this was being done")


async def _help(asked: Asked, parameters: Any) -> dict[str, Any]:
    if parameters.operation is not None and parameters.operation not in OPERATIONS:
        raise ProblemError(Code.UNKNOWN_OPERATION, f"{parameters.operation!r}; known: {', '.join(OPERATIONS)}")
    chosen = [OPERATIONS[parameters.operation]] if parameters.operation else list(OPERATIONS.values())
    return {
        "operations": {
            row.name: {
                "summary": row.summary,
                "remembered": row.remembered,
                "parameters": _schema(row.name),
            }
            for row in chosen
        }
    }


@cache
def _schema(name: str) -> dict[str, Any]:
    """Of one operation's parameters; all of them take tens of milliseconds, in which no till would be served."""
    return OPERATIONS[name].parameters.model_json_schema()
