"""Who did what in the stores, from the facts that HQ has, and the heads of a store's chains.

Strategy: entries are facts of one type, found by store and type in the order of their chain.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Engine, and_, select

from cloud_bridge.hq import schema
from edge.bus.messages.facts import TYPE_OF, AuditRecorded, FactClass

PAGE = 1_000


def newest(engine: Engine, store: str | None) -> Iterator[tuple[str, str | None, str]]:
    """(store, recorded_at, body) of every audit entry, those recorded last first; of one store or of all.

    A body is the fact as the store's journal has it.
    """
    facts = schema.facts.c
    of_audit = and_(facts.type == TYPE_OF[AuditRecorded], facts["class"] == FactClass.OPERATION.value)
    query = select(facts.store, facts.recorded_at, facts.body).where(
        of_audit if store is None else and_(of_audit, facts.store == store)
    )
    with engine.connect() as db:
        ordered = query.order_by(facts.recorded_at.desc(), facts.store, facts.epoch, facts.seq.desc())
        for row in db.execution_options(stream_results=True, yield_per=PAGE).execute(ordered):
            yield str(row[0]), row[1], str(row[2])


def heads(engine: Engine, store: str) -> list[dict[str, Any]]:
    """Per class the last contiguous fact of the epoch that was begun last, with the hash of its chain."""
    columns = schema.heads.c
    query = (
        select(columns.epoch, columns["class"], columns.contiguous, columns.hash, columns.first_seen)
        .where(columns.store == store)
        .order_by(columns.first_seen.desc())
    )
    with engine.connect() as db:
        rows = db.execute(query).all()
    latest = rows[0].epoch if rows else None
    return [
        {"epoch": row.epoch, "class": row[1], "seq": int(row.contiguous), "hash": bytes(row.hash).hex()}
        for row in rows
        if row.epoch == latest and row.hash is not None
    ]
