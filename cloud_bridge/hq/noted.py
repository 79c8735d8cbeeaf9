"""Facts that HQ itself takes note of while it records them: one table from type to what is done.

Called inside the recording transaction, once per new fact. All of them are of class operation, so the hot classes are
not even looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson
from pydantic import ValidationError
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from cloud_bridge.hq import commands, dating, schema, subjects
from edge.bus.envelope import Event, parse
from edge.bus.messages.facts import FACTS, TYPE_OF, FactClass, Outage

KEPT_OUTAGE_BYTES = 16 * 1024


def note(db: Connection, store: str, fact_class: FactClass, facts: Iterable[tuple[object, bytes]]) -> None:
    """Take note of what these new facts of `store` say: each its type and its body."""
    if fact_class not in _CLASSES:
        return
    for kind, body in facts:
        take = _TAKES.get(str(kind))
        if take is None:
            continue
        try:
            event = parse(body)
        except ValueError:
            continue  # nested too deeply for us: it stays a fact like any other
        take(db, store, event)


def _outage(db: Connection, store: str, event: Event) -> None:
    try:
        told = Outage.model_validate(event.get("data"), strict=False)
    except ValidationError:
        return  # it stays a fact like any other
    body = orjson.dumps(event["data"], option=orjson.OPT_SORT_KEYS).decode()
    if told.ended is None or len(told.ended) > 40 or "\0" in told.id + told.ended or len(body) > KEPT_OUTAGE_BYTES:
        return
    insert: Any = sqlite.insert if db.dialect.name == "sqlite" else postgresql.insert
    row = insert(schema.outages).values(store=store, id=told.id, ended=told.ended, body=body)
    db.execute(row.on_conflict_do_nothing())


_TAKES: dict[str, Callable[[Connection, str, Event], None]] = {
    dating.CLOCK_TRUSTED: dating.note,
    TYPE_OF[Outage]: _outage,
    commands.RECEIVED: commands.note,
    commands.FINISHED: commands.note,
    subjects.ERASED: subjects.note_erased,
}
_CLASSES = frozenset(FACTS[name].fact_class for name in _TAKES)
