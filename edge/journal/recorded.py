"""What is recorded already: finding a fact by id or by its lane's number, and the answer its repeat gets.

Strategy: one query per batch for all ids; by lane and number only for the few facts whose number was seen before. A
repeat of a fact gets the answer the first one got, also when that was a conflict.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import orjson

from edge.bus.messages.facts import FactClass
from edge.journal.entries import Accepted, Conflict, ConflictKind

_COLUMNS = "row, id, class, seq, digest, conflict, conflict_row, NULL"
_Values = tuple[int | None, str, str, int, bytes, ConflictKind | None, int | None, str | None]


@dataclass(frozen=True, slots=True)
class Known:
    """A fact that is recorded already; `row` is None for one salvaged from an earlier epoch."""

    row: int | None
    id: str
    fact_class: FactClass
    seq: int
    digest: bytes
    conflict: ConflictKind | None
    conflict_row: int | None
    epoch: str


class Recorded:
    """Looks up facts in the open file."""

    def __init__(self, db: sqlite3.Connection, epoch: str) -> None:
        self._db = db
        self._epoch = epoch
        self._salvaged = db.execute("SELECT 1 FROM salvaged LIMIT 1").fetchone() is not None

    def by_ids(self, ids: list[str]) -> dict[str, list[Known]]:
        """The facts that have one of `ids`, per id in the order they were recorded."""
        found: dict[str, list[Known]] = {}
        if not ids:
            return found
        wanted = (orjson.dumps(ids).decode(),)
        rows: list[_Values] = []
        if self._salvaged:
            rows += self._db.execute(
                "SELECT NULL, id, class, seq, digest, conflict, NULL, epoch FROM salvaged"
                " WHERE id IN (SELECT value FROM json_each(?)) ORDER BY rowid",
                wanted,
            ).fetchall()
        rows += self._db.execute(
            f"SELECT {_COLUMNS} FROM facts WHERE id IN (SELECT value FROM json_each(?)) ORDER BY row",  # noqa: S608
            wanted,
        ).fetchall()
        for row in rows:
            found.setdefault(row[1], []).append(self._known(row))
        return found

    def by_lane(self, lane: str, lane_seq: int) -> Known | None:
        """The first fact that has this number of this lane."""
        row = self._db.execute(
            f"SELECT {_COLUMNS} FROM facts WHERE lane = ? AND lane_seq = ? ORDER BY row LIMIT 1",  # noqa: S608
            (lane, lane_seq),
        ).fetchone()
        return self._known(row) if row is not None else None

    def by_row(self, number: int | None) -> Known | None:
        """The fact in this row."""
        row = self._db.execute(f"SELECT {_COLUMNS} FROM facts WHERE row = ?", (number,)).fetchone()  # noqa: S608
        return self._known(row) if row is not None else None

    def _known(self, row: _Values) -> Known:
        return Known(row[0], row[1], FactClass(row[2]), row[3], row[4], row[5], row[6], row[7] or self._epoch)


def answer(known: Known, other: Known | None, *, repeated: bool) -> Accepted | Conflict:
    """What the sender of `known` is told; `other` is the first of the conflict that `known` may be in."""
    if known.conflict is None:
        return Accepted(known.fact_class, known.seq, known.epoch, repeated=repeated)
    return Conflict(
        kind=known.conflict,
        fact_class=known.fact_class,
        seq=known.seq,
        other_id=other.id if other is not None else None,
        other_class=other.fact_class if other is not None else known.fact_class,
        other_seq=other.seq if other is not None else 0,
        repeated=repeated,
    )
