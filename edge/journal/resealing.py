"""Sealing anew, a slice at a time: what an earlier version left in plain, and what an older key sealed.

Strategy: while `seal_keys` names anything but the present key there is work. The tables are walked by their keys, a few
rows in a transaction, so that a sale's commit waits for one slice at most; whatever is written meanwhile is sealed by
the present key already. What is replaced is overwritten with zeros, and at the end the write-ahead log is folded in.
What cannot be opened, or was put there in plain, stays as it is, and its key stays listed. A walk that is cut short
begins again in the next life.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from edge.journal.opening import transaction
from edge.journal.sealing import PLAIN, Bodies, Place, keys_of
from edge.seal import Unsealable, sealed_by

SLICE_ROWS = 40


class Resealing:
    """One walk through the file. `step` until it says False; everything here runs on the writer's thread."""

    def __init__(self, db: sqlite3.Connection, epoch: str, bodies: Bodies, places: Sequence[Place]) -> None:
        self.count = 0
        """Rows that were sealed anew."""
        self._db = db
        self._epoch = epoch
        self._bodies = bodies
        self._left: set[tuple[str, str]] = set()
        self._walks = iter(
            [
                self._facts("facts", ("row",), "?1"),
                self._facts("salvaged", ("epoch", "class", "seq"), "epoch"),
                *(self._place(place) for place in places),
            ]
        )
        self._walk: Iterator[None] | None = None

    def needed(self) -> bool:
        """Whether anything may be there that the present key did not seal."""
        return any(found - {self._bodies.current_id()} for found in keys_of(self._db).values())

    def step(self) -> bool:
        """The next slice; False when that was all."""
        if self._walk is None:
            self._walk = next(self._walks, None)
        if self._walk is None:
            self._finish()
            return False
        if next(self._walk, self) is self:
            self._walk = None
        return True

    def _facts(self, table: str, keys: tuple[str, ...], epoch: str) -> Iterator[None]:
        for rows in self._slices(table, keys, f"{epoch}, class, seq, body"):
            changes: list[tuple[Any, ...]] = []
            for row in rows:
                names, (of, fact_class, seq, stored) = row[: len(keys)], row[len(keys) :]
                if self._is_due(of, stored):
                    try:
                        plain = self._bodies.plain(of, fact_class, seq, stored)
                    except Unsealable:
                        self._left.add((of, sealed_by(stored) or PLAIN))
                    else:
                        changes.append((self._bodies.sealed(of, fact_class, seq, plain), *names))
            self._update(table, keys, "body", changes)
            yield

    def _place(self, place: Place) -> Iterator[None]:
        seal, lets_plain = self._bodies.seal_of(place.purpose), self._bodies.lets_plain(self._epoch)
        for rows in self._slices(place.table, place.keys, place.column):
            changes: list[tuple[Any, ...]] = []
            for *names, stored in rows:
                if stored is not None and self._is_due(self._epoch, stored):
                    try:
                        plain = place.plain(seal, names, stored, lets_plain=lets_plain)
                    except Unsealable:
                        self._left.add((self._epoch, sealed_by(stored) or PLAIN))
                    else:
                        changes.append((place.sealed(seal, names, plain), *names))
            self._update(place.table, place.keys, place.column, changes)
            yield

    def _is_due(self, epoch: str, stored: object) -> bool:
        return isinstance(stored, bytes) and sealed_by(stored) != self._bodies.current_id()

    def _slices(self, table: str, keys: tuple[str, ...], columns: str) -> Iterator[list[tuple[Any, ...]]]:
        names = ", ".join(keys)
        marks = ", ".join(f"?{number + 2}" for number in range(len(keys)))
        begin = f"SELECT {names}, {columns} FROM {table}"  # noqa: S608
        end = f"ORDER BY {names} LIMIT {SLICE_ROWS}"
        rows = self._db.execute(f"{begin} WHERE ?1 IS NOT NULL {end}", (self._epoch,)).fetchall()
        while rows:
            yield rows
            after = rows[-1][: len(keys)]
            sql = f"{begin} WHERE ?1 IS NOT NULL AND ({names}) > ({marks}) {end}"
            rows = self._db.execute(sql, (self._epoch, *after)).fetchall()

    def _update(self, table: str, keys: tuple[str, ...], column: str, changes: list[tuple[Any, ...]]) -> None:
        if not changes:
            return
        where = " AND ".join(f"{key} = ?" for key in keys)
        # Overwritten with zeros: what lay in plain is not to be found in the free parts of a page.
        self._db.execute("PRAGMA secure_delete = ON")
        try:
            with transaction(self._db):
                self._db.executemany(f"UPDATE {table} SET {column} = ? WHERE {where}", changes)  # noqa: S608
        finally:
            self._db.execute("PRAGMA secure_delete = OFF")
        self.count += len(changes)

    def _finish(self) -> None:
        """Only the present key and those of what could not be opened are needed now."""
        present = self._bodies.current_id()
        with transaction(self._db):
            for epoch, found in keys_of(self._db).items():
                for key_id in found - {present}:
                    if (epoch, key_id) not in self._left:
                        self._db.execute("DELETE FROM seal_keys WHERE epoch = ? AND id = ?", (epoch, key_id))
                if self._epoch != epoch and (epoch, present) not in self._left:
                    self._db.execute(
                        "INSERT OR IGNORE INTO seal_keys (epoch, id, own, since)"
                        " SELECT ?1, ?2, 0, since FROM seal_keys WHERE epoch = ?3 AND id = ?2",
                        (epoch, present, self._epoch),
                    )
