"""Reading the journal while edge writes it: for the bridge, for the command line, for a copy on a bench.

Strategy: a connection that cannot write, and only short reads: every call fetches its rows and lets go of its snapshot,
so that a reader neither blocks the writer nor keeps the write-ahead log from being folded back into the file. A long
walk is many short reads, each going on after the last sequence of the one before. SQLite works on a thread of the
reader's own: a slow disk never stops the event loop.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

from edge.bus.messages.facts import FactClass
from edge.journal import chain, quarantine
from edge.journal.sealing import Bodies, teach
from edge.journal.subjects import Keys
from edge.seal import Keyring, Unsealable

_T = TypeVar("_T")

_FETCHED_AT_ONCE = 256


class NoJournal(Exception):
    """There is no journal to read at this path."""


@dataclass(frozen=True, slots=True)
class Row:
    """One recorded fact. `body` is the canonical envelope as it goes to HQ; `hash` the chain up to and including it."""

    seq: int
    body: bytes
    hash: bytes
    id: str
    type: str
    lane: str | None
    lane_seq: int | None
    recorded_at: str
    boot: str
    mono_ms: int
    clock: str
    conflict: str | None


@dataclass(frozen=True, slots=True)
class LaneGap:
    """Numbers `first` to `last` (inclusive) of `lane` have not come."""

    lane: str
    first: int
    last: int
    noticed_at: str


@dataclass(frozen=True, slots=True)
class LaneState:
    """A lane, and the highest of its own sequence numbers that was seen."""

    lane: str
    highest: int
    first_seen: str


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Bad input: `payload` is its first 64 KiB, `size_bytes` its true size, `count` how often it came."""

    id: int
    received_at: str
    last_at: str
    origin: str
    lane: str | None
    code: str
    reason: str
    payload: bytes
    size_bytes: int
    count: int


@dataclass(frozen=True, slots=True)
class TombstoneRow:
    """Facts `first` to `last` of a class that went before HQ had confirmed them."""

    fact_class: FactClass
    first: int
    last: int
    reason: str
    at: str


Link = tuple[int, bytes, bytes]
"""What the chain is made of: seq, body, hash."""

_COLUMNS = "seq, body, hash, id, type, lane, lane_seq, recorded_at, boot, mono_ms, clock, conflict"


def connect(path: Path, *, bodies: Bodies | None = None, may_be_copy: bool = False) -> sqlite3.Connection:
    """Open a journal so that it cannot be changed; works beside a running edge. NoJournal when it cannot be read.

    `may_be_copy`: also read a file in a folder that we may not write to, taking it that nobody writes the file either
    when it has no log beside it. Not for a reader that stays: it would never see what edge writes later.
    ``plain(class, seq, body)`` in a query opens a body, by `bodies` or by the keyring of the file's directory.
    """
    if not path.is_file():
        raise NoJournal(f"there is no file {path}: give the path of a store.db")
    try:
        db = _connect(path, "mode=ro")
    except NoJournal:
        if not may_be_copy or path.with_name(path.name + "-wal").exists():
            raise
        db = _connect(path, "mode=ro&immutable=1")
    teach(db, bodies or Bodies.beside(path))
    return db


def _connect(path: Path, options: str) -> sqlite3.Connection:
    address = f"file:{quote(str(path.resolve()))}?{options}"
    try:
        db = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False, timeout=10)
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        raise NoJournal(f"{path} cannot be read as a journal: {error}") from error
    return db


class Reader:
    """The journal as it is on disk. Made by `Reader.open`; raises sqlite3.Error when the file cannot be read."""

    def __init__(
        self, path: Path, inode: int, db: sqlite3.Connection, thread: ThreadPoolExecutor, bodies: Bodies
    ) -> None:
        """Not for callers: use `open`."""
        self.path = path
        self._bodies = bodies
        self._inode = inode
        self._db = db
        self._thread = thread
        self._keys = Keys(path.parent)

    @classmethod
    async def open(cls, path: Path, keyring: Keyring | None = None) -> Self:
        """Open `path` for reading; NoJournal when there is none (yet).

        Sealed bodies are opened by `keyring`, else by the one of the file's directory, looked for when it is needed.
        What gives bodies raises Unsealable when a key is missing.
        """
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal-reader")
        bodies = Bodies.by(keyring) if keyring else Bodies.beside(path)
        try:
            opening = partial(connect, path, bodies=bodies)
            db = await asyncio.get_running_loop().run_in_executor(thread, opening)
            inode = path.stat().st_ino
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(path, inode, db, thread, bodies)

    def replaced(self) -> bool:
        """Whether another file stands at the path now (the journal was set aside as damaged): open it anew."""
        try:
            return self.path.stat().st_ino != self._inode
        except FileNotFoundError:
            return True

    async def close(self) -> None:
        """Close the file."""
        await self._run(self._db.close)
        self._thread.shutdown(wait=True)

    async def epoch(self) -> str:
        """The epoch (a UUID) of the facts that `tail` gives by default."""
        return str((await self._rows("SELECT value FROM meta WHERE key = 'epoch'"))[0][0])

    async def epochs(self) -> list[str]:
        """Earlier epochs of which facts were salvaged, then the present one."""
        earlier = await self._rows("SELECT DISTINCT epoch FROM salvaged")
        return [*(str(epoch) for (epoch,) in earlier), await self.epoch()]

    async def store(self) -> str:
        """The store's id."""
        return str((await self._rows("SELECT value FROM meta WHERE key = 'store'"))[0][0])

    async def heads(self, epoch: str | None = None) -> dict[FactClass, int]:
        """Highest sequence per class, 0 where there is none; of a salvaged `epoch` if one is given."""
        table, where, bound = _source(epoch)
        sql = f"SELECT max(seq) FROM {table} WHERE {where}class = ?"  # noqa: S608

        def read() -> dict[FactClass, int]:
            return {name: self._db.execute(sql, (*bound, name.value)).fetchone()[0] or 0 for name in FactClass}

        return await self._run(read)

    async def tail(
        self,
        fact_class: FactClass,
        after_seq: int,
        limit_count: int = 1_000,
        limit_bytes: int = 1024 * 1024,
        epoch: str | None = None,
    ) -> list[Row]:
        """Facts of a class with a sequence above `after_seq`, lowest first.

        Stops before the bodies, each with one byte for its comma, pass `limit_bytes`; the first always comes. The rows
        are consecutive unless the beginning was trimmed, or `epoch` names a salvaged epoch with unreadable rows.
        """
        table, where, bound = _source(epoch)
        of = epoch or await self.epoch()
        sql = f"SELECT {_COLUMNS} FROM {table} WHERE {where}class = ? AND seq > ? ORDER BY seq LIMIT ?"  # noqa: S608
        parameters = (*bound, fact_class.value, after_seq, limit_count)
        found = await self._run(lambda: self._bounded(of, fact_class, sql, parameters, limit_bytes))
        return [Row(*values) for values in found]

    async def links(
        self, fact_class: FactClass, after_seq: int, limit_count: int = 1_000, limit_bytes: int = 1024 * 1024
    ) -> list[Link]:
        """As `tail`, of the present epoch, and only what HQ gets: a long drain reads nothing else."""
        sql = "SELECT seq, body, hash FROM facts WHERE class = ? AND seq > ? ORDER BY seq LIMIT ?"
        parameters = (fact_class.value, after_seq, limit_count)
        epoch = await self.epoch()
        return await self._run(lambda: self._bounded(epoch, fact_class, sql, parameters, limit_bytes))

    async def oldest(self, fact_class: FactClass, after_seq: int) -> Row | None:
        """The first fact above `after_seq`: the age of a backlog."""
        rows = await self.tail(fact_class, after_seq, 1)
        return rows[0] if rows else None

    async def hash_at(self, fact_class: FactClass, seq: int, epoch: str | None = None) -> bytes | None:
        """The chain's hash at `seq` (0: the genesis), of a salvaged `epoch` if given; None when the row is not here."""
        if seq == 0:
            return chain.genesis(epoch or await self.epoch(), fact_class.value)
        if epoch is not None:
            sql = "SELECT hash FROM salvaged WHERE epoch = ? AND class = ? AND seq = ?"
            found = await self._rows(sql, (epoch, fact_class.value, seq))
            return bytes(found[0][0]) if found else None
        rows = await self._rows(
            "SELECT hash FROM facts WHERE class = ? AND seq = ?"
            " UNION ALL SELECT hash FROM bases WHERE class = ? AND seq = ?",
            (fact_class.value, seq, fact_class.value, seq),
        )
        return bytes(rows[0][0]) if rows else None

    async def base(self, fact_class: FactClass) -> int:
        """The last sequence that was trimmed or evicted; 0 when all are there."""
        rows = await self._rows("SELECT seq FROM bases WHERE class = ?", (fact_class.value,))
        return int(rows[0][0]) if rows else 0

    async def find(self, id_: str) -> list[Row]:
        """Every row with this fact id, the first recorded first (more than one is a conflict)."""
        sql = f"SELECT class, {_COLUMNS} FROM facts WHERE id = ? ORDER BY row"  # noqa: S608
        epoch = await self.epoch()
        opened = self._bodies.as_far_as_possible
        return [
            Row(seq, opened(epoch, fact_class, seq, body), *rest)
            for fact_class, seq, body, *rest in await self._rows(sql, (id_,))
        ]

    async def keys(self, pseudonyms: Iterable[str]) -> dict[str, bytes]:
        """The keys of customers, as far as they are not erased and this process may have them: pseudonym to key."""
        return await self._run(lambda: self._keys.of(self._db, pseudonyms))

    async def gaps(self) -> list[LaneGap]:
        """Numbers that lanes have skipped and not sent since."""
        rows = await self._rows("SELECT lane, first, last, noticed_at FROM lane_gaps ORDER BY lane, first")
        return [LaneGap(*row) for row in rows]

    async def lanes(self) -> list[LaneState]:
        """Every lane that was ever heard of."""
        rows = await self._rows(
            "SELECT lane, max(floor, coalesce((SELECT max(lane_seq) FROM facts WHERE facts.lane = lanes.lane), 0)),"
            " first_seen FROM lanes ORDER BY lane"
        )
        return [LaneState(*row) for row in rows]

    async def tombstones(self) -> list[TombstoneRow]:
        """Ranges that went before HQ had confirmed them."""
        rows = await self._rows("SELECT class, first, last, reason, at FROM tombstones ORDER BY class, first")
        return [TombstoneRow(FactClass(row[0]), *row[1:]) for row in rows]

    async def boots(self) -> dict[str, int]:
        """Wall clock minus boot clock in ms, of the boots whose clock came to be trusted."""
        return dict(await self._rows("SELECT boot, offset_ms FROM boots WHERE offset_ms IS NOT NULL"))

    async def quarantine(self, limit_count: int = 100) -> list[Quarantined]:
        """The newest bad input, newest first."""
        rows = await self._rows(
            "SELECT id, received_at, last_at, origin, lane, code, reason, payload, size_bytes, count, fingerprint"
            " FROM quarantine ORDER BY id DESC LIMIT ?",
            (limit_count,),
        )
        if not rows:
            return []
        seal = self._bodies.seal_of(quarantine.PLACE.purpose)
        return [Quarantined(*(*row[:7], quarantine.opened(seal, row[10], row[7]), *row[8:10])) for row in rows]

    async def quarantined_count(self) -> int:
        """How many bad messages ever came, those no longer kept included."""
        rows = await self._rows(
            "SELECT evicted + (SELECT coalesce(sum(count), 0) FROM quarantine) FROM quarantine_totals"
        )
        return int(rows[0][0])

    def _bounded(
        self, epoch: str, fact_class: FactClass, sql: str, parameters: Sequence[object], limit_bytes: int
    ) -> list[Any]:
        """The rows of a query whose first columns are the sequence and the body, with the bodies opened.

        Before a body whose key is missing it ends; when that is the first, it raises Unsealable.
        """
        rows: list[Any] = []
        size_bytes = 0
        opened = self._bodies.as_far_as_possible
        cursor = self._db.execute(sql, parameters)
        try:
            while chunk := cursor.fetchmany(_FETCHED_AT_ONCE):
                for seq, stored, *rest in chunk:
                    try:
                        body = opened(epoch, fact_class.value, seq, stored)
                    except Unsealable:
                        if rows:
                            return rows
                        raise
                    size_bytes += len(body) + 1
                    if rows and size_bytes > limit_bytes:
                        return rows
                    rows.append((seq, body, *rest))
        finally:
            cursor.close()
        return rows

    async def _rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return await self._run(lambda: self._db.execute(sql, parameters).fetchall())

    async def _run(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _source(epoch: str | None) -> tuple[str, str, tuple[str, ...]]:
    return ("facts", "", ()) if epoch is None else ("salvaged", "epoch = ? AND ", (epoch,))
