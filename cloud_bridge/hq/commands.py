"""HQ's end of commands: signed into the log, and what the stores answered.

Strategy: a command is one row of `commands_sent` and one message of the stream ``commands``, written together. What
stores say of it arrives as facts; the recorder keeps the newest of each store beside them (`commands_answered`), so a
list needs no search through all facts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import ValidationError
from sqlalchemy import Connection, Engine, Row, and_, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from cloud_bridge.hq.downlog import Downlog
from cloud_bridge.hq.recipients import Recipient
from cloud_bridge.hq.schema import commands_answered, commands_sent
from cloud_bridge.hq.signing import signed
from cloud_bridge.hq.text import aligned
from edge.bus.envelope import Event, new_id, now_utc
from edge.bus.messages.commands import COMMANDS, COMMANDS_STREAM, Command
from edge.bus.messages.facts import TYPE_OF, CommandFinished, CommandReceived, first_error
from edge.card_numbers import in_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

RECEIVED, FINISHED = TYPE_OF[CommandReceived], TYPE_OF[CommandFinished]
KEPT_ANSWER_BYTES = 256 * 1024
SHOWN_STRANGERS = 20

State = Literal["pending", "received", "done", "failed", "expired"]
"""pending: nothing heard yet; expired: nothing was heard, and no store begins it any more."""


class BadCommand(ValueError):
    """The command cannot be given; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One store's word on a command, times by the store's clock; `answer` is a `CommandFinished`."""

    store: str
    state: State
    received_at: str | None
    finished_at: str | None
    answer: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class CommandView:
    """A command and its answers. For one store there is always one answer; for a group, of each store that said any."""

    id: str
    to: str
    operation: str
    parameters: dict[str, Any]
    by: str
    issued_at: str
    expires_at: str
    answers: list[Answer]

    def as_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def checked(operation: str, parameters: dict[str, Any]) -> None:
    """BadCommand when there is no such operation, it has other parameters, or they hold card data."""
    row = COMMANDS.get(operation)
    if row is None:
        raise BadCommand(f"there is no operation {operation!r}; known: {', '.join(COMMANDS)}")
    if (place := in_json(parameters)) is not None:
        raise BadCommand(f"{operation}: {place}; stores refuse it")
    try:
        row.parameters.model_validate(parameters)
    except ValidationError as error:
        raise BadCommand(f"{operation}: {first_error(error)}") from None


def give(
    engine: Engine,
    key: Ed25519PrivateKey,
    to: Recipient,
    operation: str,
    parameters: dict[str, Any],
    *,
    by: str,
    lifetime: timedelta,
    also: Callable[[Connection, str], None] = lambda db, id_: None,
) -> tuple[str, str, bytes]:
    """Number, sign and log one command; returns its id, and topic and payload to publish. BadCommand.

    `also` is called in the same transaction, with the id.
    """
    checked(operation, parameters)
    now = datetime.now(UTC)
    fields = {
        "id": new_id(),
        "operation": operation,
        "parameters": parameters,
        "by": by,
        "issued_at": _utc(now),
        "expires_at": _utc(now + lifetime),
    }

    def note(db: Connection, _: str, seq: int) -> None:
        row = {**fields, "parameters": orjson.dumps(parameters).decode(), "scope": to.scope, "seq": seq}
        db.execute(insert(commands_sent).values(row))
        also(db, str(fields["id"]))

    make = signed(COMMANDS_STREAM, "command", to, Command, fields, key)
    ((_, payload),) = Downlog(engine).append(to.scope, COMMANDS_STREAM, [make], note)
    return str(fields["id"]), to.topic(COMMANDS_STREAM), payload


def _utc(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# -- what stores said --------------------------------------------------------------------------------------------------


def note(db: Connection, store: str, event: Event) -> None:
    """A store has received or finished a command: keep it where it is found. Called while the fact is recorded."""
    at = str(event.get("time") or "")[:40]
    values: dict[str, Any]
    try:
        if event["type"] == RECEIVED:
            command: str | None = CommandReceived.model_validate(event.get("data"), strict=False).command
            values = {"received_at": at}
        else:
            said = CommandFinished.model_validate(event.get("data"), strict=False)
            command, text = said.command, orjson.dumps(event["data"]).decode()
            if command is None and said.problem is None:
                return
            kept = text if len(text) <= KEPT_ANSWER_BYTES else None
            values = {"finished_at": at, "ok": said.ok, "answer": kept}
    except ValidationError:
        return  # it stays a fact like any other
    ours = command is not None
    command = command if command is not None else str(event["id"])[:64]
    if "\0" in f"{command}{at}":
        return  # PostgreSQL has no place for it; it stays a fact like any other
    make: Any = sqlite.insert if db.dialect.name == "sqlite" else postgresql.insert
    row = make(commands_answered).values(store=store, command=command, ours=ours, **values)
    db.execute(row.on_conflict_do_update(index_elements=["store", "command"], set_=values))


def look(engine: Engine, *, store: str | None = None, id_: str | None = None, limit: int = 50) -> list[CommandView]:
    """Commands, the newest first: of all, to one store (with what its answers tell), or one."""
    query = select(commands_sent).order_by(commands_sent.c.issued_at.desc(), commands_sent.c.seq.desc()).limit(limit)
    if id_ is not None:
        query = query.where(commands_sent.c.id == id_)
    if store is not None:
        answered = select(commands_answered.c.command).where(commands_answered.c.store == store)
        query = query.where((commands_sent.c.scope == f"stores/{store}") | commands_sent.c.id.in_(answered))
    with engine.connect() as db:
        rows = db.execute(query).all()
        answers: dict[str, list[Row[Any]]] = {}
        columns = commands_answered.c
        heard = select(commands_answered).where(columns.command.in_([row.id for row in rows])).order_by(columns.store)
        for answer in db.execute(heard).all():
            answers.setdefault(answer.command, []).append(answer)
    return [_view(row, answers.get(row.id, []), store) for row in rows]


def strangers(
    engine: Engine, store: str | None = None, limit: int = SHOWN_STRANGERS
) -> Sequence[tuple[str, str, dict[str, Any]]]:
    """(store, time, problem) of the last that stores refused because nobody could prove it to be HQ's, in order."""
    columns = commands_answered.c
    query = select(commands_answered).where(and_(columns.ours.is_(False), columns.answer.is_not(None)))
    if store is not None:
        query = query.where(columns.store == store)
    with engine.connect() as db:
        rows = db.execute(query.order_by(columns.finished_at.desc()).limit(limit)).all()
    return [(row.store, row.finished_at, orjson.loads(row.answer)["problem"]) for row in reversed(rows)]


def _view(row: Row[Any], answers: Sequence[Row[Any]], store: str | None) -> CommandView:
    kind, _, name = row.scope.partition("/")
    heard = [_answer(row, answer) for answer in answers if store in (None, answer.store)]
    silent: State = "expired" if row.expires_at <= now_utc() else "pending"
    if kind == "stores" and not any(answer.store == name for answer in heard):
        heard.append(Answer(name, silent, None, None, None))
    to = f"store {name}" if kind == "stores" else f"group {name}"
    parameters = orjson.loads(row.parameters)
    return CommandView(row.id, to, row.operation, parameters, row.by, row.issued_at, row.expires_at, heard)


def _answer(row: Row[Any], answer: Row[Any]) -> Answer:
    told = orjson.loads(answer.answer) if answer.answer else None
    state: State = "received"
    if answer.finished_at is not None:
        problem = (told or {}).get("problem") or {}
        state = "done" if answer.ok else "expired" if problem.get("code") == "expired" else "failed"
    return Answer(answer.store, state, answer.received_at, answer.finished_at, told)


def table(views: Sequence[CommandView]) -> str:
    """As text: one line per command and store that it is for."""
    lines = [["issued", "to", "operation", "store", "state", "answer", "id"]]
    for view in views:
        for answer in view.answers or [Answer("-", "pending", None, None, None)]:
            what = f"{view.operation} {' '.join(str(value) for value in view.parameters.values())}".strip()
            lines.append([view.issued_at, view.to, what, answer.store, answer.state, _said(answer), view.id])
    return aligned(lines)


def _said(answer: Answer) -> str:
    problem = (answer.answer or {}).get("problem")
    if problem:
        return f"{problem['code']}: {problem['detail']}"[:70]
    return "with a result" if (answer.answer or {}).get("result") else "-"
