"""How much room there is, and what goes first when there is none.

Strategy: rows leave only from the old end of a class, at most `SLICE` at a time, so that no removal holds the writer
for long; the newest row of a class always stays, because the chain goes on from it. What HQ has not confirmed leaves
a tombstone. Order when the disk fills: telemetry, then engagement, oldest first; then operation facts that HQ has.
Critical and transaction facts never go for want of room.

Space that removed rows leave is reused inside the file, so free pages of the file count as room beside the free disk.
Everything here runs on the writer's thread, inside the writer's transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from edge.bus.messages.facts import FactClass
from edge.journal import chain, clock
from edge.journal.clock import Stamp

SLICE = 1_000
"""Most rows removed in one transaction."""

VACUUM_BYTES = 1024 * 1024
"""Most that is given back at once, so that a commit waits for it no longer than for another commit."""
LEAST_BYTES = 16 * 1024
"""Less room than this is none, whatever is to be written: no small fact slips in where a sale is refused."""
KEPT_FREE_BYTES = 4 * 1024 * 1024
INCREMENTAL = 2

TombstoneReason = Literal["evicted", "expired"]


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Facts `first` to `last` (inclusive) of a class that went before HQ had confirmed them."""

    fact_class: FactClass
    first: int
    last: int
    reason: TombstoneReason


class Room:
    """Measures room and removes rows. `free_bytes` says how much the file system has left for us."""

    def __init__(self, db: sqlite3.Connection, epoch: str, free_bytes: Callable[[], int], reserve_bytes: int) -> None:
        self._db = db
        self._epoch = epoch
        self._free_bytes = free_bytes
        self.reserve_bytes = reserve_bytes
        self.confirmed: dict[FactClass, int] = {}

    def free_bytes(self) -> int:
        """What the file system has left, in bytes, the reserve included."""
        return self._free_bytes()

    def enough(self, need_bytes: int) -> bool:
        """Whether `need_bytes` can be written without touching the reserve."""
        need_bytes = max(need_bytes, LEAST_BYTES)
        usable = max(0, self._free_bytes() - self.reserve_bytes)
        return usable >= need_bytes or usable + self._free_in_file_bytes() >= need_bytes

    def _free_in_file_bytes(self) -> int:
        pages = int(self._db.execute("PRAGMA freelist_count").fetchone()[0])
        return pages * int(self._db.execute("PRAGMA page_size").fetchone()[0])

    def give_back(self) -> bool:
        """Return a slice of free pages to the file system; False when few are left, which the file needs soon itself.

        Files from before `auto_vacuum` was set keep theirs and reuse them.
        """
        free = int(self._db.execute("PRAGMA freelist_count").fetchone()[0])
        whole = int(self._db.execute("PRAGMA page_count").fetchone()[0])
        (kind,) = self._db.execute("PRAGMA auto_vacuum").fetchone()
        (page_bytes,) = self._db.execute("PRAGMA page_size").fetchone()
        if kind != INCREMENTAL or free <= max(KEPT_FREE_BYTES // page_bytes, whole // 4):
            return False
        # As a script: this statement gives back one page a step, and only a script is stepped to its end.
        self._db.executescript(f"PRAGMA incremental_vacuum({VACUUM_BYTES // page_bytes})")
        return True

    def evictable(self) -> tuple[FactClass, int] | None:
        """The class and the last sequence that may go next for want of room, or None."""
        for fact_class in (FactClass.TELEMETRY, FactClass.ENGAGEMENT, FactClass.OPERATION):
            base, head = self.base(fact_class)[0], self._head(fact_class)
            last = min(base + SLICE, head - 1)
            if not fact_class.evictable:
                last = min(last, self.confirmed.get(fact_class, 0))
            if last > base:
                return fact_class, last
        return None

    def aged(self, fact_class: FactClass, upto: int, age_ms: int, now: Stamp) -> int | None:
        """The last sequence, `upto` at most, to which all facts are older than `age_ms`; None when there is none.

        Without the offsets that `clock.age_ms` needs a fact is kept longer rather than shorter.
        """
        base = self.base(fact_class)[0]
        last = min(upto, self._head(fact_class) - 1)
        rows = self._db.execute(
            "SELECT seq, boot, mono_ms FROM facts WHERE class = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
            (fact_class.value, base, last, SLICE),
        ).fetchall()
        offsets = dict(self._db.execute("SELECT boot, offset_ms FROM boots WHERE offset_ms IS NOT NULL").fetchall())
        found: int | None = None
        for seq, boot, mono_ms in rows:
            if clock.age_ms(boot, mono_ms, now, offsets) < age_ms:
                break
            found = seq
        return found

    def drop(
        self, fact_class: FactClass, last: int, reason: TombstoneReason, now: Stamp
    ) -> tuple[int, Tombstone | None]:
        """Remove everything to `last`: how many rows went, and the tombstone of what HQ had not confirmed."""
        base, _ = self.base(fact_class)
        key = (fact_class.value, base, last)
        (new_hash,) = self._db.execute("SELECT hash FROM facts WHERE class = ? AND seq = ?", (key[0], last)).fetchone()
        self._db.execute(
            "INSERT INTO lanes (lane, first_seen, floor)"
            " SELECT lane, ?, max(lane_seq) FROM facts"
            " WHERE class = ? AND seq > ? AND seq <= ? AND lane_seq IS NOT NULL GROUP BY lane"
            " ON CONFLICT (lane) DO UPDATE SET floor = max(floor, excluded.floor)",
            (now.wall, *key),
        )
        removed = self._db.execute("DELETE FROM facts WHERE class = ? AND seq > ? AND seq <= ?", key).rowcount
        self._db.execute(
            "INSERT INTO bases (class, seq, hash) VALUES (?, ?, ?)"
            " ON CONFLICT (class) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
            (fact_class.value, last, new_hash),
        )
        unconfirmed = max(base, self.confirmed.get(fact_class, 0)) + 1
        if unconfirmed > last:
            return removed, None
        self._db.execute(
            "INSERT INTO tombstones (class, first, last, reason, at) VALUES (?, ?, ?, ?, ?)",
            (fact_class.value, unconfirmed, last, reason, now.wall),
        )
        return removed, Tombstone(fact_class, unconfirmed, last, reason)

    def base(self, fact_class: FactClass) -> tuple[int, bytes]:
        """The last sequence that is gone (0: none) and its hash."""
        row = self._db.execute("SELECT seq, hash FROM bases WHERE class = ?", (fact_class.value,)).fetchone()
        return (row[0], row[1]) if row else (0, chain.genesis(self._epoch, fact_class.value))

    def _head(self, fact_class: FactClass) -> int:
        row = self._db.execute("SELECT max(seq) FROM facts WHERE class = ?", (fact_class.value,)).fetchone()
        return int(row[0] or 0)
