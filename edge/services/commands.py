"""HQ's commands: believed, run once, answered, and all of it in the journal.

    received   on disk, and with it `tillgate.command.received.v1`; the bridge hears `Committed`
    started    on disk before the effect
    finished   on disk together with `tillgate.command.finished.v1`, which is the answer

Strategy: the ledger is the truth; what has been received is run from there, each in a task of its own, so that a long
one holds up neither the stream nor the others. A process that died between started and finished cannot know what
happened: an operation that may be repeated is run again, any other is answered with ``unknown_outcome``.

A message that nobody can prove to be HQ's names no command: its answer carries no id, and of many only some are
journalled (all are counted in quarantine), so that a broker gone bad cannot fill the disk.

Source: design page "Journal, bridge, HQ" (downlink: signed, expire, run once, answered, audited).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

import orjson
from pydantic import ValidationError

from edge.bus.messages.base import Message
from edge.bus.messages.commands import COMMANDS, Command, CommandOperation
from edge.bus.messages.facts import CommandFinished, CommandProblem, CommandReceived, first_error
from edge.bus.messages.replies import Code, ProblemError
from edge.journal.clock import Clock
from edge.journal.store import Statement, StorageFull, Store, StoreFaulted
from edge.services import lifetimes
from edge.services.facts import Report
from edge.services.from_hq import Believed, Delivery, NotTaken
from edge.services.lifetimes import Lifetime
from edge.supervisor import Background, Bug, caught

log = logging.getLogger(__name__)

AT_ONCE = 4
"""Commands that run at the same time; more wait, in the order of their numbers."""

RESULT_BYTES = 32 * 1024
"""A larger result is not sent: a fact must stay a message that every broker takes."""

FORGED_KEPT = 20
FORGED_WITHIN_S = 3600.0
"""So many unbelievable messages an hour become facts."""

LEDGER_ROWS = 10_000
"""Finished commands beyond this are forgotten, the oldest first. What is that old has long expired."""

RETRY_S = 5.0

Run = Callable[[str, Any], Awaitable[dict[str, Any]]]
"""(command id, checked parameters) -> the result; ProblemError when it cannot be done."""

COMMANDS_SCHEMA = """
CREATE TABLE IF NOT EXISTS commands (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    command TEXT NOT NULL,          -- the signed text
    boot TEXT NOT NULL,             -- of receipt
    mono_ms INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('received', 'started', 'finished'))
) STRICT;
CREATE INDEX IF NOT EXISTS commands_open ON commands (row) WHERE state <> 'finished';
"""


class Commands:
    """Takes the stream ``commands``. `serve` and `load` before the first message; `run` runs what was received."""

    def __init__(self, store: Store, clock: Clock, believed: Believed, report: Report) -> None:
        self._store = store
        self._clock = clock
        self._believed = believed
        self._report = report
        self._handlers: dict[str, Run] = {}
        self._begun: set[str] = set()
        self._arrived = asyncio.Event()
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._running = Background(StoreFaulted)
        self._forged: list[float] = []
        self.on_end: list[Callable[[Command, CommandFinished], None]] = []
        """Called with a command of HQ's and what became of it, once that is on disk."""

    def serve(self, handlers: Mapping[str, Run]) -> None:
        """Let these run these operations of `COMMANDS`."""
        self._handlers.update(handlers)

    @property
    def busy(self) -> bool:
        """Whether a command is being run or answered."""
        return bool(self._begun)

    # -- taking --------------------------------------------------------------------------------------------------------

    async def take(self, delivery: Delivery) -> None:
        """Put one command on disk, or its refusal; NotTaken after a refusal."""
        try:
            command, text = self._read(delivery)
        except NotTaken as refused:
            await self._note_forged(refused)
            raise
        if await self._store.fetch_one("SELECT 1 FROM commands WHERE id = ?", (command.id,)) is not None:
            return  # came twice: it is being run, or was
        life = lifetimes.received(self._clock, command.issued_at, command.expires_at)
        try:
            self._may_run(command, delivery, life)
        except NotTaken as refused:
            log.warning("command %s (%s) is refused: %s", command.id, command.operation, refused.detail)
            answer = _finished(command, problem=CommandProblem(code=refused.code, detail=refused.detail))
            await self._report(answer, also=[_kept(command.id, text, life, "finished")])
            self._ended(command, answer)
            raise
        fact = CommandReceived(
            command=command.id,
            operation=command.operation,
            parameters=command.parameters,
            by=command.by,
            group=command.group,
            issued_at=command.issued_at,
            expires_at=command.expires_at,
        )
        await self._report(fact, also=[_kept(command.id, text, life, "received")])
        self._arrived.set()

    def _read(self, delivery: Delivery) -> tuple[Command, str]:
        """The command and its signed text; NotTaken unless HQ signed just this message of the stream."""
        text = self._believed.text_of(delivery.body)
        try:
            command = Command.model_validate_json(text)
        except ValidationError as error:
            raise NotTaken(Code.BAD_MESSAGE, first_error(error)) from None
        if (command.epoch, command.seq) != (delivery.epoch, delivery.seq):
            raise NotTaken(Code.BAD_MESSAGE, f"was signed as {command.seq} of {command.epoch}, came as another message")
        return command, text

    def _may_run(self, command: Command, delivery: Delivery, life: Lifetime) -> None:
        self._believed.speaks_to_us(command, delivery.group)
        operation = COMMANDS.get(command.operation)
        if operation is None or operation.name not in self._handlers:
            known = ", ".join(name for name in COMMANDS if name in self._handlers)
            raise NotTaken(Code.UNKNOWN_OPERATION, f"{command.operation!r}; this gateway knows {known}")
        try:
            operation.parameters.model_validate(command.parameters)
        except ValidationError as error:
            raise NotTaken(Code.BAD_MESSAGE, f"parameters.{first_error(error)}") from None
        if self._over(life):
            raise NotTaken(Code.EXPIRED, self._expired(life))

    async def _note_forged(self, refused: NotTaken) -> None:
        now = time.monotonic()
        self._forged = [at for at in self._forged if now - at < FORGED_WITHIN_S]
        if len(self._forged) < FORGED_KEPT:
            self._forged.append(now)
            await self._report(_finished(None, problem=CommandProblem(code=refused.code, detail=refused.detail)))

    def _over(self, life: Lifetime) -> bool:
        return lifetimes.left_ms(self._clock, life, after_reboot_ms=0) <= 0

    def _expired(self, life: Lifetime) -> str:
        now = self._clock.now()
        return f"was to begin before {life.until}; here it is {now.wall} (clock {now.trust.value})"

    # -- running -------------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """What an earlier life of this process began: what may be repeated is run again, the rest is answered."""
        rows = await self._store.fetch_all("SELECT id, command FROM commands WHERE state = 'started' ORDER BY row")
        for id_, text in rows:
            command = Command.model_validate_json(text)
            operation = COMMANDS.get(command.operation)
            if operation is not None and operation.repeatable:
                await self._store.write([_moved(id_, "received")])
                continue
            self._begun.add(id_)
            problem = CommandProblem(
                code=Code.UNKNOWN_OUTCOME, detail="the gateway was restarted while it ran; look, then decide"
            )
            self._running.start(self._finish(command, _finished(command, problem=problem)), f"command {id_}")

    async def run(self) -> NoReturn:
        """Begin whatever was received, until cancelled."""
        while True:
            self._arrived.clear()
            rows = await self._store.fetch_all(
                "SELECT id, command, boot, mono_ms FROM commands WHERE state = 'received' ORDER BY row"
            )
            for id_, text, boot, mono_ms in rows:
                if id_ not in self._begun:
                    self._begun.add(id_)
                    command = Command.model_validate_json(text)
                    life = Lifetime(command.issued_at, command.expires_at, boot, mono_ms)
                    self._running.start(self._carry_out(command, life), f"command {id_}")
            await self._arrived.wait()

    async def stop(self) -> None:
        """Cancel what is in hand; what had an effect is found as begun by the next life."""
        await self._running.stop()

    async def _carry_out(self, command: Command, life: Lifetime) -> None:
        async with self._at_once:
            if self._over(life):
                problem = CommandProblem(code=Code.EXPIRED, detail=self._expired(life))
                await self._finish(command, _finished(command, problem=problem))
                return
            await self._start(command)
            outcome = await caught(f"command {command.id} ({command.operation})", self._bounded(command))
        if isinstance(outcome, Bug):
            outcome = ProblemError(Code.FAULTED, "a fault of the gateway's own; it is logged")
        if isinstance(outcome, ProblemError):
            problem = CommandProblem(code=outcome.code, detail=outcome.detail)
            await self._finish(command, _finished(command, problem=problem))
        else:
            await self._finish(command, _finished(command, result=_fitting(outcome)))

    async def _start(self, command: Command) -> None:
        while True:
            try:
                await self._store.write([_moved(command.id, "started")])
            except StorageFull as error:
                log.error("command %s waits: %s", command.id, error)
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _bounded(self, command: Command) -> dict[str, Any] | ProblemError:
        operation = COMMANDS[command.operation]
        parameters = _parameters(operation, command)
        try:
            async with asyncio.timeout(operation.within_s):
                return await self._handlers[operation.name](command.id, parameters)
        except TimeoutError:
            return ProblemError(Code.TIMED_OUT, f"not done within {operation.within_s:.0f} s; look before repeating it")
        except ProblemError as problem:
            return problem

    def _ended(self, command: Command, answer: CommandFinished) -> None:
        for heard in self.on_end:
            heard(command, answer)

    async def _finish(self, command: Command, answer: CommandFinished) -> None:
        """The answer into the journal and the ledger at once, as soon as the disk lets us."""
        id_ = command.id
        also: list[Statement] = [
            _moved(id_, "finished"),
            (
                "DELETE FROM commands WHERE state = 'finished' AND row <= (SELECT max(row) FROM commands) - ?",
                (LEDGER_ROWS,),
            ),
        ]
        while True:
            try:
                await self._report(answer, also=also)
            except StorageFull as error:
                log.error("the answer to command %s waits: %s", id_, error)
                await asyncio.sleep(RETRY_S)
            else:
                break
        self._begun.discard(id_)
        self._ended(command, answer)
        log.info("command %s (%s): %s", id_, answer.operation, "done" if answer.ok else answer.problem)


def _parameters(operation: CommandOperation, command: Command) -> Message:
    return operation.parameters.model_validate(command.parameters)


def _kept(id_: str, text: str, life: Lifetime, state: str) -> Statement:
    return (
        "INSERT INTO commands(id, command, boot, mono_ms, state) VALUES (?, ?, ?, ?, ?)",
        (id_, text, life.boot, life.mono_ms, state),
    )


def _moved(id_: str, state: str) -> Statement:
    return "UPDATE commands SET state = ? WHERE id = ?", (state, id_)


def _finished(
    command: Command | None, *, result: dict[str, Any] | None = None, problem: CommandProblem | None = None
) -> CommandFinished:
    return CommandFinished(
        command=command.id if command else None,
        operation=command.operation if command else None,
        ok=problem is None,
        result=result,
        problem=problem,
    )


def _fitting(result: dict[str, Any]) -> dict[str, Any]:
    size = len(orjson.dumps(result))
    return result if size <= RESULT_BYTES else {"left_out": f"the result is {size} bytes, more than {RESULT_BYTES}"}
