"""What of a chain never comes: said by the store (tombstones, damaged journals) or refused here for good. And holes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, select
from sqlalchemy.dialects import postgresql, sqlite

from cloud_bridge.hq import heads, schema
from cloud_bridge.hq.heads import Chain
from cloud_bridge.wire import Batch
from edge.bus.envelope import parse
from edge.bus.messages.facts import TYPE_OF, JournalDamaged, Tombstone

TOLD_REFUSED = 100
MAX_SEQ = 2**53
REFUSED = "refused"
OMITTED = "omitted"

_TOMBSTONE = TYPE_OF[Tombstone]
SPEAKING = (_TOMBSTONE, TYPE_OF[JournalDamaged])
"""Types of facts that speak of such ranges."""

_EPOCH = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True)
class Gone:
    """Sequences of a chain that will never come, as the store says itself, and why."""

    first: int
    last: int
    reason: str


def told_by(kind: object, batch: Batch, body: bytes) -> list[tuple[Chain, Gone]]:
    """The ranges that this fact of `batch` speaks of; `kind` is one of `SPEAKING`."""
    told = _tombstone(batch, body) if kind == _TOMBSTONE else _lost(batch, body)
    return [(chain, stone) for chain, stone in told if 1 <= stone.first <= stone.last <= MAX_SEQ]


def _tombstone(batch: Batch, body: bytes) -> list[tuple[Chain, Gone]]:
    """What the tombstone says; nothing when it says nothing usable: it is recorded then, and the hole stays visible."""
    try:
        stone = Tombstone.model_validate(parse(body).get("data"), strict=False)
    except ValueError:
        return []
    return [((batch.store, batch.epoch, stone.of_class.value), Gone(stone.first, stone.last, stone.reason))]


def _lost(batch: Batch, body: bytes) -> list[tuple[Chain, Gone]]:
    """What of an earlier epoch cannot be read any more, because its journal was damaged."""
    try:
        said = JournalDamaged.model_validate(parse(body).get("data"), strict=False)
    except ValueError:
        return []
    if not _EPOCH.fullmatch(said.epoch):
        return []
    return [((batch.store, said.epoch, one.of_class.value), Gone(one.first, one.last, "damaged")) for one in said.lost]


def with_refused(db: Connection, chains: Collection[Chain]) -> list[Chain]:
    """Those of which anything was refused for good: few, if any."""
    if not chains:
        return []
    gone = schema.gone.c
    query = select(gone.store, gone.epoch, gone["class"]).where(and_(gone.why == REFUSED, heads.among(gone, chains)))
    return [(row[0], row[1], row[2]) for row in db.execute(query.distinct())]


def refused(db: Connection, chain: Chain) -> list[int]:
    """The chain's latest sequences that were refused for good; told every time, since a message may be lost."""
    gone = schema.gone.c
    query = select(gone.first).where(and_(heads.of(gone, chain), gone.why == REFUSED)).order_by(gone.first.desc())
    return sorted(row[0] for row in db.execute(query.limit(TOLD_REFUSED)))


def note(db: Connection, chain: Chain, first: int, last: int, why: str, now: str) -> None:
    """Sequences `first` to `last` will never come."""
    insert: Any = sqlite.insert if db.dialect.name == "sqlite" else postgresql.insert
    values = {"store": chain[0], "epoch": chain[1], "class": chain[2]}
    row = insert(schema.gone).values(**values, first=first, last=last, why=why, at=now)
    longest = func.max if db.dialect.name == "sqlite" else func.greatest
    db.execute(
        row.on_conflict_do_update(
            index_elements=["store", "epoch", "class", "first"],
            set_={"last": longest(schema.gone.c.last, row.excluded.last)},
        )
    )


def holes(db: Connection, store: str) -> dict[Chain, list[tuple[int, int]]]:
    """Per chain of the store the ranges that are neither here nor accounted for, below the highest that is here."""
    found: dict[Chain, list[tuple[int, int]]] = defaultdict(list)
    for row in db.execute(select(schema.heads).where(schema.heads.c.store == store)).mappings():
        if row["highest"] <= row["contiguous"]:
            continue
        chain: Chain = (store, row["epoch"], row["class"])
        facts, gone = schema.facts.c, schema.gone.c
        spans = [(seq, seq) for (seq,) in db.execute(_after(facts, facts.seq, chain, row["contiguous"]))]
        ranges = select(gone.first, gone.last).where(and_(heads.of(gone, chain), gone.last > row["contiguous"]))
        spans += [(first, last) for first, last in db.execute(ranges)]
        expected = row["contiguous"] + 1
        for first, last in sorted(spans):
            if first > expected:
                found[chain].append((expected, first - 1))
            expected = max(expected, last + 1)
    return dict(found)


def _after(columns: Any, seq: Any, chain: Chain, contiguous: int) -> Any:
    return select(seq).where(and_(heads.of(columns, chain), seq > contiguous)).order_by(seq)
