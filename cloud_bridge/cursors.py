"""The bridge's own file, ``bridge.db``: what HQ has confirmed, what of the downlink is committed, what is parked.

Strategy: nothing here is the only copy of anything. A lost confirmation cursor costs sending again what HQ then
ignores, so it is written behind (every few seconds at most); a downlink position is written before the cloud gets its
acknowledgement. A file that cannot be read is set aside and a new one begins.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import aiosqlite

from edge.bus.envelope import now_utc
from edge.bus.messages.facts import FactClass

log = logging.getLogger(__name__)

_NOT_OURS = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
"""What SQLite says of a file whose content, or whose tables, are not what they should be."""

SCHEMA = """
PRAGMA page_size = 1024;      -- of a file that begins now: less to write for each small change
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS cursors (
    epoch TEXT NOT NULL,
    class TEXT NOT NULL,
    confirmed INTEGER NOT NULL,
    PRIMARY KEY (epoch, class)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS downlink (
    stream TEXT PRIMARY KEY,
    epoch TEXT NOT NULL,
    seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parked (
    epoch TEXT NOT NULL,
    class TEXT NOT NULL,
    seq INTEGER NOT NULL,
    reason TEXT NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (epoch, class, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS budget (
    kind TEXT PRIMARY KEY,      -- bytes, publishes
    left_over REAL NOT NULL,    -- below 0: owed
    floor_left REAL NOT NULL,
    at_s REAL NOT NULL          -- seconds since 1970 by the wall clock
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS statement (   -- of the keys that HQ's receivers speak with, as HQ signed it
    one INTEGER PRIMARY KEY CHECK (one = 1),
    signed TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS heard (       -- about when the newest word of HQ's that was believed was said
    one INTEGER PRIMARY KEY CHECK (one = 1),
    at_ms INTEGER NOT NULL
) STRICT;
"""


class Cursors:
    """`bridge.db`. One connection, one user."""

    def __init__(self, db: aiosqlite.Connection) -> None:
        self._db = db

    @classmethod
    async def open(cls, file: Path) -> Self:
        """Open or make `file`; one whose content is not ours is renamed to ``bridge.db.damaged-<seconds>``.

        A disk that is full or fails says nothing about the content: `sqlite3.Error` then, to be tried again.
        """
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return cls(await _opened(file))
        except aiosqlite.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _NOT_OURS:
                raise
            aside = file.with_name(f"{file.name}.damaged-{int(time.time())}")
            log.error("%s cannot be read (%s); set aside as %s, HQ will tell what it has", file, error, aside.name)
            file.rename(aside)
            for suffix in ("-wal", "-shm"):
                file.with_name(file.name + suffix).unlink(missing_ok=True)
            return cls(await _opened(file))

    @property
    def db(self) -> aiosqlite.Connection:
        """The file, for what else the bridge keeps in it. Every statement is whole by itself, so they may mix."""
        return self._db

    async def close(self) -> None:
        """Close the file."""
        await self._db.close()

    async def confirmed(self, epoch: str) -> dict[FactClass, int]:
        """The confirmed sequence per class of this epoch; empty for one that is not known."""
        rows = await self._db.execute_fetchall("SELECT class, confirmed FROM cursors WHERE epoch = ?", (epoch,))
        return {FactClass(row[0]): int(row[1]) for row in rows}

    async def save_confirmed(
        self, epoch: str, confirmed: Mapping[FactClass, int], budget: Mapping[str, tuple[float, float]] | None = None
    ) -> None:
        """Remember what HQ has, which never moves back, and what is left of the hour's budget, per kind."""
        if budget:
            rows = [(kind, *left, time.time()) for kind, left in budget.items()]
            await self._db.executemany("INSERT OR REPLACE INTO budget VALUES (?, ?, ?, ?)", rows)
        await self._db.executemany(
            "INSERT INTO cursors VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET confirmed = max(confirmed, excluded.confirmed)",
            [(epoch, fact_class.value, seq) for fact_class, seq in confirmed.items()],
        )
        await self._db.commit()

    async def forget(self, epoch: str, fact_class: FactClass) -> None:
        """What HQ has confirmed was of another life of this journal: nobody knows how much of ours it has."""
        await self._db.execute("DELETE FROM cursors WHERE epoch = ? AND class = ?", (epoch, fact_class.value))
        await self._db.commit()

    async def budget(self) -> tuple[dict[str, tuple[float, float]], float]:
        """What was left of the hour's budget, per kind, and how many seconds ago; 0 when the clock was set back."""
        rows = list(await self._db.execute_fetchall("SELECT kind, left_over, floor_left, at_s FROM budget"))
        away_s = min((time.time() - float(row[3]) for row in rows), default=0.0)
        return {str(row[0]): (float(row[1]), float(row[2])) for row in rows}, max(0.0, away_s)

    async def statement(self) -> str | None:
        """HQ's last statement of the keys that its receivers speak with, as JSON."""
        rows = list(await self._db.execute_fetchall("SELECT signed FROM statement"))
        return str(rows[0][0]) if rows else None

    async def keep_statement(self, signed: str) -> None:
        """Remember it."""
        await self._db.execute("INSERT OR REPLACE INTO statement VALUES (1, ?)", (signed,))
        await self._db.commit()

    async def heard_ms(self) -> int:
        """About when the newest word that was believed was said, by HQ's clock; 0: none was."""
        rows = list(await self._db.execute_fetchall("SELECT at_ms FROM heard"))
        return int(rows[0][0]) if rows else 0

    async def keep_heard(self, at_ms: int) -> None:
        """Remember it."""
        await self._db.execute("INSERT OR REPLACE INTO heard VALUES (1, ?)", (at_ms,))
        await self._db.commit()

    async def positions(self) -> dict[str, tuple[str, int]]:
        """Per downlink stream the epoch and the last sequence that edge has committed."""
        rows = await self._db.execute_fetchall("SELECT stream, epoch, seq FROM downlink")
        return {str(row[0]): (str(row[1]), int(row[2])) for row in rows}

    async def save_position(self, stream: str, epoch: str, seq: int) -> None:
        """Edge has committed this stream up to `seq`."""
        await self._db.execute("INSERT OR REPLACE INTO downlink VALUES (?, ?, ?)", (stream, epoch, seq))
        await self._db.commit()

    async def park(self, epoch: str, fact_class: FactClass, seqs: list[int], reason: str) -> int:
        """Note facts that HQ will never take; returns how many of them are new. They stay in the journal."""
        before = self._db.total_changes
        await self._db.executemany(
            "INSERT OR IGNORE INTO parked VALUES (?, ?, ?, ?, ?)",
            [(epoch, fact_class.value, seq, reason, now_utc()) for seq in seqs],
        )
        await self._db.commit()
        return self._db.total_changes - before

    async def parked(self) -> int:
        """How many facts are parked."""
        rows = list(await self._db.execute_fetchall("SELECT count(*) FROM parked"))
        return int(rows[0][0])


async def _opened(file: Path) -> aiosqlite.Connection:
    db = await aiosqlite.connect(file)
    try:
        await db.executescript(SCHEMA)
        await db.execute_fetchall("SELECT count(*) FROM cursors, downlink, parked, budget")
    except aiosqlite.DatabaseError:
        await db.close()
        raise
    return db
