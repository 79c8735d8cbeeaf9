"""Opening ``store.db`` for writing: the lock, the examination, the schema; a damaged file is set aside.

Strategy: one process writes, made sure by a lock that the kernel takes back when the process dies. Before the file is
used it is examined as far as that is cheap: the header, the schema, the small tables, and per class the last rows with
their chain; a small file, and one that failed in its last life (`failing.py`), is read whole. A file that fails, or
whose key is missing, is renamed together with its write-ahead log (never deleted), a new epoch starts, and `salvage`
carries over what it can.

An error of the disk is no damage: the file may be well. Only where it cannot be read again and again, while the disk
takes and gives back other bytes, is it the file itself whose place on the disk is gone.

Source: SQLite file format, section 1.3 (header string, application id); sqlite.org/wal.html.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge.bus.messages.facts import FactClass
from edge.journal import chain, failing, lifetime, sealing, subjects
from edge.journal.clock import Stamp
from edge.seal import Keyring, Unsealable

log = logging.getLogger(__name__)

APPLICATION_ID = 0x54494C47  # "TILG"
PAGE_BYTES = 1024
"""Of files that begin now. A commit writes every page that it touches whole, and one sale touches about six: with
SQLite's usual 4096 bytes that is twice the wear of a card. Files of either size are read and written as they are."""
LOG_BYTES = 4 * 1024 * 1024
"""The write-ahead log is folded back into the file about every so often."""
EXAMINED_ROWS = 200
WHOLE_CHECK_BYTES = 16 * 1024 * 1024
"""Files up to this size are read whole on every opening: a fraction of a second."""

_HEADER = b"SQLite format 3\0"
_OWN_STEP = "journal-1"


class StoreBusy(Exception):
    """Another process has this file open for writing."""


class WrongStore(Exception):
    """The file belongs to another store."""


class Damaged(Exception):
    """The file cannot be trusted; the text says what was found."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """A damaged file: where it is now, and what was wrong with it."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Opened:
    """An examined file with its schema in place."""

    db: sqlite3.Connection
    epoch: str
    set_aside: SetAside | None


def take_lock(path: Path) -> int:
    """Lock the store for this process; returns the descriptor that holds the lock. StoreBusy when another has it."""
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StoreBusy(f"another process writes {path}: stop it first, or use another state_dir") from None
    return descriptor


def open_file(
    path: Path,
    store_id: str,
    schemas: Sequence[tuple[str, str]],
    stamp: Stamp,
    keyring: Keyring,
    *,
    unreadable_is_damage: bool = False,
) -> Opened:
    """Examine, create or set aside `path`, and bring its schema up to date. The caller holds the lock.

    `unreadable_is_damage`: set it aside also when its place on the disk cannot be read although the disk is well.
    """
    set_aside: SetAside | None = None
    try:
        db, empty = _examined(path, keyring, unreadable_is_damage=unreadable_is_damage)
        if empty:
            set_aside = _left_over(path)
    except Damaged as damage:
        set_aside = SetAside(_move_away(path, stamp), str(damage))
        log.error(
            "%s cannot be used (%s) and was set aside as %s; a new epoch starts. Keep that file and tell HQ.",
            path,
            damage,
            set_aside.path,
        )
        db = _connect(path)
    try:
        _configure(db)
        epoch = _prepare(db, store_id, schemas, stamp, set_aside, keyring)
    except BaseException:
        db.close()
        raise
    failing.marker(path).unlink(missing_ok=True)
    return Opened(db, epoch, set_aside)


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of the block or nothing of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def damage_in(error: sqlite3.Error) -> bool:
    """Whether the error says that the file's content is wrong (and not that it is locked, or the disk full)."""
    code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)


def _configure(db: sqlite3.Connection) -> None:
    # Before the first table, so only in files that begin now; older ones go on reusing their free pages.
    db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    # What a large statement sets aside for its undoing stays in memory: another disk may be full, and cards wear.
    db.execute("PRAGMA temp_store = MEMORY")
    db.execute("PRAGMA synchronous = FULL")
    # Should a reader ever hold up a checkpoint, the log shrinks again afterwards.
    (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
    db.execute(f"PRAGMA wal_autocheckpoint = {LOG_BYTES // page_bytes}")
    db.execute("PRAGMA journal_size_limit = 16777216")
    db.execute("PRAGMA cache_size = -4096")


# -- examination ------------------------------------------------------------------------------------------


def _examined(path: Path, keyring: Keyring, *, unreadable_is_damage: bool) -> tuple[sqlite3.Connection, bool]:
    """The open file, and whether nothing is in it yet; Damaged when it cannot be trusted."""
    mark = failing.read_mark(path)
    if mark is not None:
        failing.forget_cached(path)
    header = b""
    if path.exists():
        with path.open("rb") as file:
            header = file.read(len(_HEADER))
    if header and header != _HEADER:
        raise Damaged("the file does not begin with a SQLite header")
    whole = mark is not None or (bool(header) and path.stat().st_size <= WHOLE_CHECK_BYTES)
    db: sqlite3.Connection | None = None
    try:
        db = _connect(path)
        return db, not _examine_content(db, keyring, mark, whole=whole)
    except sqlite3.Error as error:
        if db is not None:
            db.close()
        if unreadable_is_damage and _reading_failed(error):
            failing.probe(path)
            raise Damaged(f"the disk takes and gives back other bytes, but of this file: {error}") from error
        if not damage_in(error):
            raise
        raise Damaged(f"SQLite says: {error}") from error
    except Damaged:
        if db is not None:
            db.close()
        raise


def _reading_failed(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)  # CORRUPTFS: what read(2) says of a bad place on the disk
    return code in (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS)


def _examine_content(db: sqlite3.Connection, keyring: Keyring, mark: failing.Mark | None, *, whole: bool) -> bool:
    """Whether anything is in the file; Damaged when that is no sound journal."""
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return False
    if not {"meta", "facts", "bases", "lanes", "lane_gaps", "boots"} <= tables:
        raise Damaged("the journal's tables are not all there")
    if whole:
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise Damaged(f"quick_check says: {' '.join(str(verdict).split())}")
    row = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    if row is None:
        raise Damaged("it does not say which epoch it is")
    for table in ("bases", "lanes", "lane_gaps", "boots"):
        db.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608
    if missing := sealing.missing_keys(db, row[0], keyring):
        raise Damaged(f"it is sealed with a key that is missing: {', '.join(missing)}")
    bodies = sealing.Bodies.by(keyring).of(db)
    for fact_class in FactClass:
        _examine_tail(db, row[0], fact_class, bodies)
        if mark is not None and mark.epoch == row[0]:
            _examine_head(db, fact_class, mark.heads.get(fact_class, 0))
    return True


def _examine_tail(db: sqlite3.Connection, epoch: str, fact_class: FactClass, bodies: sealing.Bodies) -> None:
    """The newest rows of a class: contiguous, each linked to the one before."""
    rows = db.execute(
        "SELECT seq, body, hash FROM facts WHERE class = ? ORDER BY seq DESC LIMIT ?",
        (fact_class.value, EXAMINED_ROWS + 1),
    ).fetchall()
    rows.reverse()
    if not rows:
        return
    if len(rows) <= EXAMINED_ROWS:
        base = db.execute("SELECT seq, hash FROM bases WHERE class = ?", (fact_class.value,)).fetchone()
        seq, previous = base or (0, chain.genesis(epoch, fact_class.value))
    else:
        seq, _, previous = rows.pop(0)
    for row_seq, body, row_hash in rows:
        if row_seq != seq + 1:
            raise Damaged(f"{fact_class.value} goes from {seq} to {row_seq}")
        try:
            plain = bodies.plain(epoch, fact_class.value, row_seq, body)
        except Unsealable as error:
            raise Damaged(f"{fact_class.value} {row_seq}: {error}") from error
        if chain.link(previous, plain) != row_hash:
            raise Damaged(f"the hash chain breaks at {fact_class.value} {row_seq}")
        seq, previous = row_seq, row_hash


def _examine_head(db: sqlite3.Connection, fact_class: FactClass, acknowledged: int) -> None:
    """What was acknowledged must be there: going on before it would give its numbers to other facts."""
    (head,) = db.execute("SELECT max(seq) FROM facts WHERE class = ?", (fact_class.value,)).fetchone()
    if (head or 0) < acknowledged:
        raise Damaged(f"{fact_class.value} was acknowledged up to {acknowledged}, the file ends at {head or 0}")


def _move_away(path: Path, stamp: Stamp) -> Path:
    moment = stamp.wall.replace("-", "").replace(":", "").replace(".", "")
    number = 0
    while True:
        suffix = f"-{number}" if number else ""
        target = path.with_name(f"{path.stem}.damaged-{moment}{suffix}{path.suffix}")
        if not target.exists():
            break
        number += 1
    # The log first: a crash in between leaves a database without its log, which is examined again; the other way
    # round a log without its database would be taken for that of the new file.
    for tail in ("-wal", ""):
        part = path.with_name(path.name + tail)
        if part.exists():
            part.rename(target.with_name(target.name + tail))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return target


def _left_over(path: Path) -> SetAside | None:
    """The newest file that was set aside: with no store beside it, we died before the new one was made."""
    found = sorted(path.parent.glob(f"{path.stem}.damaged-*{path.suffix}"))
    return SetAside(found[-1], "set aside in an earlier life") if found else None


# -- schema -----------------------------------------------------------------------------------------------


def _prepare(
    db: sqlite3.Connection,
    store_id: str,
    schemas: Sequence[tuple[str, str]],
    stamp: Stamp,
    set_aside: SetAside | None,
    keyring: Keyring,
) -> str:
    """Create or complete the schema; returns the epoch.

    One transaction: a new file is either whole or still empty, and the disk is waited for once.
    """
    with transaction(db):
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_steps'").fetchone():
            db.execute(
                "CREATE TABLE schema_steps (name TEXT PRIMARY KEY, applied_at TEXT NOT NULL) STRICT, WITHOUT ROWID"
            )
        applied = {name for (name,) in db.execute("SELECT name FROM schema_steps")}
        if _OWN_STEP not in applied:
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            _apply(db, _OWN_STEP, Path(__file__).with_name("schema.sql").read_text(encoding="utf-8"), stamp)
            facts = [("epoch", str(uuid.uuid4())), ("store", store_id), ("created_at", stamp.wall)]
            if set_aside is not None:
                facts += [("salvage_pending", set_aside.path.name), ("salvaged_because", set_aside.reason)]
            db.executemany("INSERT INTO meta (key, value) VALUES (?, ?)", facts)
        meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
        if meta["store"] != store_id:
            raise WrongStore(
                f"the journal belongs to store {meta['store']!r}, the configuration says {store_id!r}:"
                " correct the store's id, or give this store a state_dir of its own"
            )
        own = ((lifetime.STEP, lifetime.SCHEMA), (subjects.STEP, subjects.SCHEMA), (sealing.STEP, sealing.SCHEMA))
        for name, sql in (*own, *schemas):
            if name not in applied:
                _apply(db, name, sql, stamp)
        if sealing.STEP not in applied:
            sealing.permit_plain(db, keyring, str(meta["epoch"]), stamp.wall)
        sealing.note_key(db, keyring.current.id, str(meta["epoch"]), stamp.wall)
        db.execute(*lifetime.tick(stamp))
        db.execute("INSERT OR IGNORE INTO boots (boot, first_seen) VALUES (?, ?)", (stamp.boot, stamp.wall))
    return str(meta["epoch"])


def _apply(db: sqlite3.Connection, name: str, sql: str, stamp: Stamp) -> None:
    for statement in _statements(sql):
        db.execute(statement)
    db.execute("INSERT INTO schema_steps (name, applied_at) VALUES (?, ?)", (name, stamp.wall))


def _statements(sql: str) -> Iterator[str]:
    """The statements of a script one by one; executescript would commit behind our back."""
    pending = ""
    for line in sql.splitlines(keepends=True):
        pending += line
        if ";" in line and sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    if pending.strip():
        yield pending
