"""What can still be read in a damaged file is carried into the new one, as facts of their old epoch.

Strategy: the journal accepted these facts, so it still owns them. They are copied as they are into the table
`salvaged`, where they are found by id (a till that repeats one is told it is recorded), read by the bridge, and
counted. Reading goes row by row number; where a range cannot be read it is halved until only the unreadable rows are
left out. The lanes go on from where they were. An interrupted salvage starts again: every step can be repeated.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge.journal.clock import Stamp
from edge.journal.lanes import ranges
from edge.journal.opening import damage_in, transaction

log = logging.getLogger(__name__)

_COLUMNS = "class, seq, id, lane, lane_seq, type, recorded_at, boot, mono_ms, clock, digest, body, hash, conflict"
_SLICE = 1_000


def pending(db: sqlite3.Connection) -> str | None:
    """The name of the set-aside file whose salvage has not been finished, or None."""
    row = db.execute("SELECT value FROM meta WHERE key = 'salvage_pending'").fetchone()
    return str(row[0]) if row else None


def salvage(db: sqlite3.Connection, damaged: Path, stamp: Stamp) -> int:
    """Copy what `damaged` still holds into `db`; returns how many facts `db` now holds of earlier epochs."""
    try:
        old = sqlite3.connect(damaged, isolation_level=None, timeout=10)
    except sqlite3.Error as error:
        log.error("%s cannot be opened at all: %s", damaged, error)
    else:
        try:
            _copy(old, db, stamp)
        finally:
            old.close()
    with transaction(db):
        db.execute("DELETE FROM meta WHERE key = 'salvage_pending'")
    (count,) = db.execute("SELECT count(*) FROM salvaged").fetchone()
    log.warning("%d facts of earlier epochs were carried over from %s", count, damaged)
    return int(count)


def _copy(old: sqlite3.Connection, db: sqlite3.Connection, stamp: Stamp) -> None:
    epoch = next((str(value) for (value,) in _try(old, "SELECT value FROM meta WHERE key = 'epoch'")), "unreadable")
    batch: list[tuple[Any, ...]] = []
    lost: list[int] = []
    for row in readable_rows(old, _COLUMNS, lost):
        batch.append((epoch, *row))
        if len(batch) == _SLICE:
            _keep(db, batch)
            batch.clear()
    _keep(db, batch)
    if lost:
        log.error("%d row numbers stand in damaged pages and could not be read", len(lost))
    earlier = _try(old, f"SELECT epoch, {_COLUMNS} FROM salvaged")  # noqa: S608
    for start in range(0, len(earlier), _SLICE):
        _keep(db, earlier[start : start + _SLICE])
    _carry_lanes(old, db, stamp)


def _keep(db: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> None:
    if not rows:
        return
    marks = ", ".join("?" * len(rows[0]))
    with transaction(db):
        # A row whose content no longer fits its column types is left to the set-aside file.
        db.executemany(f"INSERT OR IGNORE INTO salvaged (epoch, {_COLUMNS}) VALUES ({marks})", rows)  # noqa: S608


def _carry_lanes(old: sqlite3.Connection, db: sqlite3.Connection, stamp: Stamp) -> None:
    """Lanes go on counting: everything up to their highest number was seen, except what is missing now."""
    floors: dict[str, int] = dict(_try(old, "SELECT lane, floor FROM lanes"))
    missing: dict[str, set[tuple[int, int]]] = {}
    for lane, first, last in _try(old, "SELECT lane, first, last FROM lane_gaps"):
        if last <= floors.get(lane, 0):
            missing.setdefault(lane, set()).add((first, last))
    seen: dict[str, set[int]] = {}
    for lane, lane_seq in db.execute("SELECT lane, lane_seq FROM salvaged WHERE lane_seq IS NOT NULL"):
        seen.setdefault(lane, set()).add(lane_seq)
    with transaction(db):
        for lane in floors.keys() | seen.keys():
            above = floors.get(lane, 0)
            for first, last in ranges(number for number in seen.get(lane, ()) if number > above):
                if first > above + 1:
                    missing.setdefault(lane, set()).add((above + 1, first - 1))
                above = last
            db.execute(
                "INSERT INTO lanes (lane, first_seen, floor) VALUES (?, ?, ?)"
                " ON CONFLICT (lane) DO UPDATE SET floor = max(floor, excluded.floor)",
                (lane, stamp.wall, above),
            )
            db.executemany(
                "INSERT OR IGNORE INTO lane_gaps (lane, first, last, noticed_at) VALUES (?, ?, ?, ?)",
                [(lane, first, last, stamp.wall) for first, last in sorted(missing.get(lane, ()))],
            )


def readable_rows(db: sqlite3.Connection, columns: str, lost: list[int]) -> Iterator[tuple[Any, ...]]:
    """The rows of `facts` in row order; the row numbers that stand in damaged pages are added to `lost`."""
    bounds = _try(db, "SELECT min(row), max(row) FROM facts")
    if bounds and bounds[0][0] is None:
        return
    first, last = bounds[0] if bounds else (1, _row_bound(db))
    spans = [(start, min(start + _SLICE - 1, last)) for start in range(first, last + 1, _SLICE)]
    spans.reverse()
    while spans:
        low, high = spans.pop()
        try:
            rows = db.execute(
                f"SELECT {columns} FROM facts WHERE row BETWEEN ? AND ? ORDER BY row",  # noqa: S608
                (low, high),
            ).fetchall()
        except sqlite3.Error as error:
            if not damage_in(error) and not isinstance(error, sqlite3.OperationalError):
                raise
            if low == high:
                lost.append(low)
                continue
            middle = (low + high) // 2
            spans += [(middle + 1, high), (low, middle)]
            continue
        yield from rows


def _row_bound(db: sqlite3.Connection) -> int:
    """More rows than the file can hold, when it cannot say itself: no row takes less than 300 bytes."""
    pages = _try(db, "PRAGMA page_count")
    return (int(pages[0][0]) * 4096 // 300) if pages else 0


def _try(db: sqlite3.Connection, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query, none when the file is too damaged for it."""
    try:
        return db.execute(sql).fetchall()
    except sqlite3.Error as error:
        log.warning("not readable: %s (%s)", sql, error)
        return []
