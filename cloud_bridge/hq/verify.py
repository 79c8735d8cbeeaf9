"""The hash chains in HQ's database, walked from their beginning: what is whole, what is missing, what was changed.

Strategy: a chain is read in pages of `PAGE` facts by key, each in a transaction of its own, so that receivers are never
held up and memory stays the same however long it is. Every body is hashed behind the hash before it and compared with
the hash that was recorded; what stands in a row beside its body (id, type, class, sequence) is compared with the body.
After a hole nothing stands before the next fact: its own body is then unproven, the one after it is not.

Not shown: rows that were changed by somebody who computed every later hash anew and wrote them, and `heads`, too. The
store's journal has the same chain; its ``tillgate journal verify`` prints the hash of the last fact to compare with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, and_, func, select

from cloud_bridge.hq import schema
from edge.journal import chain

PAGE = 2_000
SHOWN = 50
"""Ranges and sequences that are kept of a chain's report; all are counted."""


@dataclass(slots=True)
class ChainReport:
    """One chain as it lies in the database. `missing` and `changed` list the first of them."""

    store: str
    epoch: str
    fact_class: str
    facts: int = 0
    last: int = 0
    hash: bytes = b""
    """Of `last`, as it was computed."""
    missing_facts: int = 0
    missing: list[tuple[int, int]] = field(default_factory=list)
    gone_facts: int = 0
    """Not here and accounted for: evicted, expired, refused."""
    changed_facts: int = 0
    changed: list[tuple[int, str]] = field(default_factory=list)
    """(sequence, what does not fit)"""
    unproven: int = 0
    """Facts with a hole before them: nothing says that they are unchanged."""
    problems: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Nothing is missing and nothing was changed."""
        return not (self.missing_facts or self.changed_facts or self.problems)


def count(engine: Engine, store: str | None = None) -> int:
    """How many facts `verify` will look at."""
    heads = schema.heads.c
    query = select(func.coalesce(func.sum(heads.facts), 0))
    with engine.connect() as db:
        return int(db.execute(query if store is None else query.where(heads.store == store)).scalar() or 0)


def verify(
    engine: Engine, store: str | None = None, progress: Callable[[int], None] = lambda facts: None
) -> Iterator[ChainReport]:
    """Walk every chain, or those of one store; `progress` hears after each page how many facts were in it."""
    heads = schema.heads.c
    query = select(heads.store, heads.epoch, heads["class"]).order_by(heads.store, heads.first_seen, heads["class"])
    with engine.connect() as db:
        chains = db.execute(query if store is None else query.where(heads.store == store)).all()
    for name, epoch, fact_class in chains:
        yield _Walk(engine, ChainReport(name, epoch, fact_class), progress).done()


class _Walk:
    """One chain, once."""

    def __init__(self, engine: Engine, report: ChainReport, progress: Callable[[int], None]) -> None:
        self._engine, self._report, self._progress = engine, report, progress
        self._before: bytes | None = chain.genesis(report.epoch, report.fact_class)

    def done(self) -> ChainReport:
        report = self._report
        while True:
            with self._engine.connect() as db:
                rows = self._page(db)
                gone = self._gone(db, report.last, rows[-1][0]) if rows else []
            if not rows:
                break
            for row in rows:
                self._take(row, gone)
            self._progress(len(rows))
        self._end()
        return report

    def _page(self, db: Connection) -> list[Any]:
        facts = schema.facts.c
        query = (
            select(facts.seq, facts.id, facts.type, facts.body, facts.hash)
            .where(and_(self._of(facts), facts.seq > self._report.last))
            .order_by(facts.seq)
            .limit(PAGE)
        )
        return list(db.execute(query).all())

    def _gone(self, db: Connection, after: int, upto: int) -> list[tuple[int, int]]:
        """Ranges accounted for that touch the sequences above `after` up to `upto`."""
        gone = schema.gone.c
        query = select(gone.first, gone.last).where(and_(self._of(gone), gone.last > after, gone.first <= upto))
        return [(int(first), int(last)) for first, last in db.execute(query.order_by(gone.first))]

    def _of(self, columns: Any) -> Any:
        report = self._report
        return and_(columns.store == report.store, columns.epoch == report.epoch, columns["class"] == report.fact_class)

    def _take(self, row: Any, gone: list[tuple[int, int]]) -> None:
        report = self._report
        if row.seq != report.last + 1:
            self._hole(report.last + 1, row.seq - 1, gone)
        body = row.body.encode()
        if (wrong := self._misfit(row, body)) is not None:
            self._changed(row.seq, wrong)
        if self._before is None:
            report.unproven += 1
            self._before = row.hash
        else:
            found = chain.link(self._before, body)
            if row.hash is not None and found != row.hash:
                self._changed(row.seq, "its hash is another: the body or the one before it was changed")
                found = row.hash
            self._before = found
        report.facts += 1
        report.last = row.seq

    def _misfit(self, row: Any, body: bytes) -> str | None:
        """What of the row does not stand in its body so."""
        try:
            event = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            return f"its body is not JSON: {error}"
        said = (event.get("tgseq"), event.get("tgclass")) if isinstance(event, dict) else None
        if said != (row.seq, self._report.fact_class):
            return f"its body says {said}"
        for name in ("id", "type"):
            if event.get(name, "")[:200].replace("\0", "\N{REPLACEMENT CHARACTER}") != getattr(row, name):
                return f"its {name} is not the body's"
        return None

    def _changed(self, seq: int, what: str) -> None:
        report = self._report
        if report.changed and report.changed[-1][0] == seq:
            return
        report.changed_facts += 1
        if len(report.changed) < SHOWN:
            report.changed.append((seq, what))

    def _hole(self, first: int, last: int, gone: list[tuple[int, int]]) -> None:
        """`first` to `last` are not here: what of them is accounted for, and what is missing."""
        report, at = self._report, first
        self._before = None
        for start, end in [*gone, (last + 1, last + 1)]:
            start, end = max(start, first), min(end, last)
            if start > at:
                report.missing_facts += start - at
                if len(report.missing) < SHOWN:
                    report.missing.append((at, start - 1))
            if end >= at and start <= end:
                report.gone_facts += end - max(start, at) + 1
            at = max(at, end + 1)
            if at > last:
                break

    def _end(self) -> None:
        """What the chain's row says, against what was found."""
        report, heads = self._report, schema.heads
        with self._engine.connect() as db:
            head = db.execute(select(heads).where(self._of(heads.c))).mappings().one()
            more = self._page(db)
            gone = self._gone(db, report.last, head["highest"])
            hash_there = self._hash_at(db, head["contiguous"])
        if more:  # a receiver has added facts meanwhile: they are looked at next time
            return
        report.hash = self._before or b""
        if head["highest"] > report.last:
            self._hole(report.last + 1, head["highest"], gone)
        if head["facts"] != report.facts:
            report.problems.append(f"{head['facts']} facts were recorded, {report.facts} are here")
        if head["hash"] is not None and hash_there is not None and head["hash"] != hash_there:
            report.problems.append(f"the hash at {head['contiguous']} is not the one that was confirmed to the store")

    def _hash_at(self, db: Connection, seq: int) -> bytes | None:
        facts = schema.facts.c
        found = db.execute(select(facts.hash).where(and_(self._of(facts), facts.seq == seq))).scalar()
        return bytes(found) if found is not None else None
