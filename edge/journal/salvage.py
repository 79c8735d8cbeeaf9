"""What can still be read in a damaged file is carried into the new one, as facts of their old epoch.

Strategy: the journal accepted these facts, so it still owns them. They are copied as they are into the table
`salvaged`, where they are found by id (a till that repeats one is told it is recorded), read by the bridge, and
counted; HQ gets those it has not under the numbers they always had, so that none can count twice. Reading goes row by
row number; where a range cannot be read it is halved until only the unreadable rows are left out. The lanes go on from
where they were. An interrupted salvage starts again: every step can be repeated.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from edge.bus.messages.facts import FactClass
from edge.journal.clock import Stamp
from edge.journal.lanes import ranges
from edge.journal.opening import APPLICATION_ID, PAGE_BYTES, damage_in, transaction
from edge.journal.sealing import PLAIN, Bodies, note_key
from edge.seal import Unsealable, sealed_by

log = logging.getLogger(__name__)

_COLUMNS = "class, seq, id, lane, lane_seq, type, recorded_at, boot, mono_ms, clock, digest, body, hash, conflict"
_BODY = 12
"""Where the body stands in a row of epoch and columns."""
_SLICE = 1_000
MAGIC = b"SQLite format 3\0"
_PAGE_BYTES = (PAGE_BYTES, 4096)
"""What the pages of our files may have, the present first."""
UNREADABLE = "unreadable"
"""Stands for an epoch that nothing in the damaged file tells: HQ could not tell such facts from new ones."""


def pending(db: sqlite3.Connection) -> str | None:
    """The name of the set-aside file whose salvage has not been finished, or None."""
    row = db.execute("SELECT value FROM meta WHERE key = 'salvage_pending'").fetchone()
    return str(row[0]) if row else None


@dataclass(frozen=True, slots=True)
class Found:
    """What was carried over: the damaged file's epoch, how many facts, and which of its numbers are missing now."""

    epoch: str
    facts: int
    lost: tuple[tuple[FactClass, int, int], ...]


def salvage(db: sqlite3.Connection, damaged: Path, stamp: Stamp, bodies: Bodies) -> Found:
    """Copy what `damaged` still holds into `db`. `pending` says so until `done` is committed.

    What is sealed stays so, also by a key that is not here now: the fact is known by its id, and read when the key is
    back. What an earlier version left in plain is sealed.
    """
    epoch, heads, bases = UNREADABLE, dict[str, int](), dict[str, int]()
    rescue = _with_header(damaged)
    try:
        old = sqlite3.connect(rescue or damaged, isolation_level=None, timeout=10)
        # A file that is shorter than its header says is read as far as it goes.
        old.execute("PRAGMA writable_schema = ON")
    except sqlite3.Error as error:
        log.error("%s cannot be opened at all: %s", damaged, error)
    else:
        try:
            epoch = _copy(old, db, stamp, bodies.with_permits_of(old))
            heads = dict(_try(old, "SELECT class, max(seq) FROM facts GROUP BY class"))
            bases = dict(_try(old, "SELECT class, seq FROM bases"))
        finally:
            old.close()
    if rescue is not None:
        for part in rescue.parent.glob(rescue.name + "*"):
            part.unlink()
    (count,) = db.execute("SELECT count(*) FROM salvaged").fetchone()
    log.warning("%d facts of earlier epochs were carried over from %s", count, damaged)
    lost = tuple(_missing(db, epoch, heads, bases)) if epoch != UNREADABLE else ()
    return Found(epoch, int(count), lost)


def _with_header(damaged: Path) -> Path | None:
    """A copy of a file whose first bytes are gone, with new ones; None when they are there, or no copy can be made.

    The tables stand on the page behind them, and everything else that a reader needs of them is always the same here.
    """
    with damaged.open("rb") as file:
        if file.read(16) in (MAGIC, b""):
            return None
    rescue = damaged.with_name(damaged.name + ".rescue")
    page_bytes = _page_bytes(damaged)
    pages = damaged.stat().st_size // page_bytes
    # Section 1.3 of the SQLite file format: WAL (2, 2), one change, no free pages, schema format 4, UTF-8.
    numbers = (1, pages, 0, 0, 1, 4, 0, 0, 1, 0, 0, APPLICATION_ID)
    header = struct.pack(">16sH6B12I20xII", MAGIC, page_bytes, 2, 2, 0, 64, 32, 32, *numbers, 1, 3_040_000)
    try:
        shutil.copyfile(damaged, rescue)
        log_file = damaged.with_name(damaged.name + "-wal")
        if log_file.exists():
            shutil.copyfile(log_file, rescue.with_name(rescue.name + "-wal"))
        with rescue.open("r+b") as file:
            file.write(header)
    except OSError as error:
        log.error("no copy of %s can be made to give it a new header: %s", damaged, error)
        rescue.unlink(missing_ok=True)
        return None
    return rescue


def _page_bytes(damaged: Path) -> int:
    """The size of a page, from where the first page's cells stand: they are laid from its end on.

    Section 1.6 of the SQLite file format: the page's own header begins at byte 100 here, 12 bytes in an interior page.
    """
    with damaged.open("rb") as file:
        first = file.read(max(_PAGE_BYTES))
    if len(first) < max(_PAGE_BYTES):
        return PAGE_BYTES
    (count,) = struct.unpack_from(">H", first, 103)
    pointers = struct.unpack_from(f">{min(count, 200)}H", first, 112 if first[100] == 5 else 108)
    return next((size for size in _PAGE_BYTES if max(pointers, default=0) < size), PAGE_BYTES)


def done() -> str:
    """The statement that ends the salvage."""
    return "DELETE FROM meta WHERE key = 'salvage_pending'"


def _missing(
    db: sqlite3.Connection, epoch: str, heads: Mapping[str, int], bases: Mapping[str, int]
) -> Iterator[tuple[FactClass, int, int]]:
    """The numbers between what the damaged file had trimmed and its last that are not among the salvaged."""
    for fact_class in FactClass:
        expected = bases.get(fact_class.value, 0) + 1
        rows = db.execute(
            "SELECT seq FROM salvaged WHERE epoch = ? AND class = ? ORDER BY seq", (epoch, fact_class.value)
        )
        for (seq,) in rows:
            if seq > expected:
                yield fact_class, expected, seq - 1
            expected = max(expected, seq + 1)
        if (head := heads.get(fact_class.value, 0)) >= expected:
            yield fact_class, expected, head


def _epoch_of(old: sqlite3.Connection) -> str:
    """The damaged file's epoch: from where it is kept, or from what the gateway said of itself when it last started."""
    for (value,) in _try(old, "SELECT value FROM meta WHERE key = 'epoch'"):
        return str(value)
    for (value,) in _try(old, "SELECT epoch FROM seal_keys WHERE own = 1"):
        return str(value)
    started: list[tuple[Any, ...]] = []
    for row in readable_rows(old, "type, body", []):
        if row[0] == "tillgate.gateway.started.v1":
            started.append(row)
    for _, body in reversed(started):
        try:
            return str(orjson.loads(body)["data"]["epoch"])
        except (ValueError, KeyError, TypeError):
            continue
    return UNREADABLE


def _copy(old: sqlite3.Connection, db: sqlite3.Connection, stamp: Stamp, bodies: Bodies) -> str:
    epoch = _epoch_of(old)
    batch: list[tuple[Any, ...]] = []
    lost: list[int] = []
    for row in readable_rows(old, _COLUMNS, lost):
        batch.append((epoch, *row))
        if len(batch) == _SLICE:
            _keep(db, batch, stamp, bodies)
            batch.clear()
    _keep(db, batch, stamp, bodies)
    if lost:
        log.error("%d row numbers stand in damaged pages and could not be read", len(lost))
    earlier = _try(old, f"SELECT epoch, {_COLUMNS} FROM salvaged")  # noqa: S608
    for start in range(0, len(earlier), _SLICE):
        _keep(db, earlier[start : start + _SLICE], stamp, bodies)
    _carry_lanes(old, db, stamp)
    _carry_people(old, db)
    return epoch


def _keep(db: sqlite3.Connection, rows: list[tuple[Any, ...]], stamp: Stamp, bodies: Bodies) -> None:
    if not rows:
        return
    marks = ", ".join("?" * len(rows[0]))
    rows = [_sealed(row, bodies) for row in rows]
    with transaction(db):
        for epoch, key in {(row[0], sealed_by(row[_BODY])) for row in rows if isinstance(row[_BODY], bytes)}:
            note_key(db, key or PLAIN, epoch, stamp.wall, own=False)
        # A row whose content no longer fits its column types is left to the set-aside file.
        db.executemany(f"INSERT OR IGNORE INTO salvaged (epoch, {_COLUMNS}) VALUES ({marks})", rows)  # noqa: S608


def _sealed(row: tuple[Any, ...], bodies: Bodies) -> tuple[Any, ...]:
    epoch, fact_class, seq, body = *row[:3], row[_BODY]
    if not isinstance(body, bytes) or sealed_by(body) is not None:
        return row
    try:
        plain = bodies.plain(epoch, fact_class, seq, body)
    except Unsealable:  # put there by somebody else: as it is, and HQ will refuse it
        return row
    return (*row[:_BODY], bodies.sealed(epoch, fact_class, seq, plain), *row[_BODY + 1 :])


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


def _carry_people(old: sqlite3.Connection, db: sqlite3.Connection) -> None:
    """The keys of the customers that the facts are about, and who was erased; who works here, and what was guessed.

    Without the latter a damaged file would be a way around every password: a store without people asks for none.
    """
    tables, here = (
        {name for (name,) in _try(one, "SELECT name FROM sqlite_master WHERE type = 'table'")} for one in (old, db)
    )
    with transaction(db):
        for table, columns in (
            ("subjects", "row, lookup, pseudonym, since, sealed"),
            ("subjects_erased", "lookup, at"),
            ("subjects_secret", "one, sealed"),
            ("people", "id, sealed"),
            ("wrong_tries", "person, place, failures"),
        ):
            rows = _try(old, f"SELECT {columns} FROM {table}") if table in tables & here else []  # noqa: S608
            marks = ", ".join("?" * len(columns.split(", ")))
            if rows:
                db.executemany(f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})", rows)  # noqa: S608


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
    pages = _try(db, "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
    return (int(pages[0][0]) // 300) if pages else 0


def _try(db: sqlite3.Connection, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query, none when the file is too damaged for it."""
    try:
        return db.execute(sql).fetchall()
    except sqlite3.Error as error:
        log.warning("not readable: %s (%s)", sql, error)
        return []
