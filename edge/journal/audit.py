"""Verifying a journal: is every class contiguous, does every chain hold, does every body say what its row says?

Strategy: one walk per class in slices, each slice a short read, so that a journal of any size is verified in little
memory while edge goes on writing. The walk ends at the head that stood when it began. Rows trimmed meanwhile are no
fault: the base they left carries the hash the chain goes on from.

What a chain cannot show by itself is a journal cut off at its end; the lanes' own numbers and HQ's confirmations do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from edge.bus.messages.facts import FactClass
from edge.journal import chain
from edge.journal.entries import content_digest
from edge.journal.reader import LaneGap, connect
from edge.journal.sealing import Bodies
from edge.seal import Keyring, Unsealable

SLICE = 500


@dataclass(slots=True)
class ClassReport:
    """One class: `first` to `last` in the file, `base` the last sequence trimmed before (0: none)."""

    fact_class: FactClass
    base: int = 0
    first: int = 0
    last: int = 0
    count: int = 0
    conflicts: int = 0
    head_hash: bytes = b""
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """The whole file. `ok` when no class has a problem; lane gaps are findings about lanes, not about the file."""

    path: Path
    store: str
    epoch: str
    classes: list[ClassReport]
    lane_gaps: list[LaneGap]
    tombstones: int
    salvaged: int
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems and not any(report.problems for report in self.classes)


def verify(path: Path, keyring: Keyring | None = None) -> Report:
    """Walk the journal at `path`. NoJournal when there is none; damage is reported, not raised.

    Sealed bodies are opened by `keyring`, else by the one of the file's directory.
    """
    bodies = Bodies.by(keyring) if keyring else Bodies.beside(path)
    db = connect(path, bodies=bodies, may_be_copy=True)
    try:
        meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
        report = Report(path, meta.get("store", "?"), meta.get("epoch", "?"), [], [], 0, 0)
        for fact_class in FactClass:
            report.classes.append(_verify_class(db, report.epoch, fact_class, bodies))
        rows = db.execute("SELECT lane, first, last, noticed_at FROM lane_gaps ORDER BY lane, first").fetchall()
        report.lane_gaps = [LaneGap(*row) for row in rows]
        (report.tombstones,) = db.execute("SELECT count(*) FROM tombstones").fetchone()
        (report.salvaged,) = db.execute("SELECT count(*) FROM salvaged").fetchone()
    except sqlite3.Error as error:
        return Report(path, "?", "?", [], [], 0, 0, [f"the file cannot be read any further: {error}"])
    finally:
        db.close()
    return report


def _verify_class(db: sqlite3.Connection, epoch: str, fact_class: FactClass, bodies: Bodies) -> ClassReport:
    report = ClassReport(fact_class, head_hash=chain.genesis(epoch, fact_class.value))
    (end,) = db.execute("SELECT max(seq) FROM facts WHERE class = ?", (fact_class.value,)).fetchone()
    expected, previous = 1, report.head_hash
    try:
        for base, rows in _slices(db, fact_class, end or 0):
            if base is not None and base[0] >= expected:
                expected, previous = base[0] + 1, base[1]
                report.base = max(report.base, base[0]) if report.count == 0 else report.base
            for row in rows:
                if row[0] != expected:
                    report.problems.append(f"after {expected - 1} comes {row[0]}: {row[0] - expected} rows are missing")
                try:
                    body = bodies.plain(epoch, fact_class.value, row[0], row[1])
                except Unsealable as error:
                    report.problems.append(f"{row[0]}: {error}")
                else:
                    if row[0] == expected and chain.link(previous, body) != row[2]:
                        report.problems.append(f"{row[0]}: the hash does not follow from the row before and this body")
                    report.problems += _content_problems(fact_class, row[0], body, *row[2:])
                report.first = report.first or row[0]
                report.last, report.head_hash = row[0], row[2]
                report.count += 1
                report.conflicts += row[5] is not None
                expected, previous = row[0] + 1, row[2]
    except sqlite3.Error as error:
        report.problems.append(f"after {expected - 1} the file cannot be read: {error}")
    return report


def _slices(
    db: sqlite3.Connection, fact_class: FactClass, end: int
) -> Iterator[tuple[tuple[int, bytes] | None, list[tuple[Any, ...]]]]:
    """The base and the next rows, read in one snapshot, until `end`."""
    after = 0
    while after < end:
        db.execute("BEGIN")
        try:
            base = db.execute("SELECT seq, hash FROM bases WHERE class = ?", (fact_class.value,)).fetchone()
            rows = db.execute(
                "SELECT seq, body, hash, id, digest, conflict FROM facts"
                " WHERE class = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
                (fact_class.value, after, end, SLICE),
            ).fetchall()
        finally:
            db.execute("ROLLBACK")
        if not rows:
            return
        yield base, rows
        after = rows[-1][0]


def _content_problems(
    fact_class: FactClass, seq: int, body: bytes, _hash: bytes, id_: str, digest: bytes, conflict: str | None
) -> Iterator[str]:
    try:
        event = orjson.loads(body)
        same_content = content_digest(body) == digest
    except ValueError as error:
        yield f"{seq}: the body is not a readable envelope: {error}"
        return
    for name, said, expected in (
        ("tgseq", event.get("tgseq"), seq),
        ("tgclass", event.get("tgclass"), fact_class.value),
        ("tgconflict", event.get("tgconflict"), conflict),
        ("id", event.get("id"), id_),
    ):
        if said != expected:
            yield f"{seq}: the body says {name} {said!r}, its row {expected!r}"
    if not same_content:
        yield f"{seq}: the body is not what the row's digest was taken of"
