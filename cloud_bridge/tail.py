"""The journal as the bridge reads it: opened when there is one, and again when edge has put another in its place.

Strategy: edge may start, stop, or set a damaged file aside while the bridge lives. A reader opened on a file at rest
does not see that somebody writes it again, so the file's identity and its write-ahead log are looked at before each
use.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from edge.bus.messages.facts import ABOUT_CUSTOMERS, FactClass
from edge.journal.personal import pseudonyms_in
from edge.journal.reader import Link, NoJournal, Reader, Row
from edge.journal.salvage import UNREADABLE
from edge.seal import Unsealable


class JournalAway(Exception):
    """The journal cannot be read now; the text says why. It is tried again when edge reports, and now and then."""


class Tail:
    """Reads the journal at `path`. Every call may raise JournalAway."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: Reader | None = None
        self._file: tuple[int, int] | None = None
        self._at_rest = False

    async def close(self) -> None:
        """Let go of the file."""
        reader, self._reader = self._reader, None
        if reader is not None:
            with contextlib.suppress(sqlite3.Error):
                await reader.close()

    async def epoch(self) -> str:
        """The present epoch."""
        reader = await self._open()
        try:
            return await reader.epoch()
        except (sqlite3.Error, IndexError) as error:
            raise await self._away(error) from error

    async def heads(self) -> dict[FactClass, int]:
        """The last sequence per class."""
        reader = await self._open()
        try:
            return await reader.heads()
        except sqlite3.Error as error:
            raise await self._away(error) from error

    async def rows(self, fact_class: FactClass, after: int, limit_count: int, limit_bytes: int) -> list[Row]:
        """Consecutive facts above `after`, of which only the first may stand further away than one."""
        reader = await self._open()
        try:
            rows = await reader.tail(fact_class, after, limit_count, limit_bytes)
        except (sqlite3.Error, Unsealable) as error:
            raise await self._away(error) from error
        return rows[: _consecutive([row.seq for row in rows])]

    async def links(self, fact_class: FactClass, after: int, limit_count: int, limit_bytes: int) -> list[Link]:
        """The same, and of each fact only what HQ gets."""
        reader = await self._open()
        try:
            links = await reader.links(fact_class, after, limit_count, limit_bytes)
        except (sqlite3.Error, Unsealable) as error:
            raise await self._away(error) from error
        return links[: _consecutive([link[0] for link in links])]

    async def hash_at(self, fact_class: FactClass, seq: int) -> bytes | None:
        """The chain's hash at `seq`, None when the file no longer has it."""
        reader = await self._open()
        try:
            return await reader.hash_at(fact_class, seq)
        except sqlite3.Error as error:
            raise await self._away(error) from error

    async def keys(self, fact_class: FactClass, links: Iterable[Link]) -> dict[str, bytes]:
        """The keys of the customers these facts speak of, as far as they are not erased: pseudonym to key.

        Costs nothing for the classes in which nobody is spoken of.
        """
        if fact_class not in ABOUT_CUSTOMERS:
            return {}
        wanted = dict.fromkeys(pseudonym for _, body, _ in links for pseudonym in pseudonyms_in(body))
        if not wanted:
            return {}
        reader = await self._open()
        try:
            return await reader.keys(wanted)
        except sqlite3.Error as error:
            raise await self._away(error) from error

    async def salvaged_epochs(self) -> list[str]:
        """Earlier epochs of which the journal holds what could be read, and which are known by name."""
        reader = await self._open()
        try:
            return [epoch for epoch in (await reader.epochs())[:-1] if epoch != UNREADABLE]
        except (sqlite3.Error, IndexError) as error:
            raise await self._away(error) from error

    async def salvaged(
        self, epoch: str, fact_class: FactClass, after: int, limit_count: int, limit_bytes: int
    ) -> list[Link]:
        """As `links`, of an earlier epoch."""
        reader = await self._open()
        try:
            rows = await reader.tail(fact_class, after, limit_count, limit_bytes, epoch)
        except (sqlite3.Error, Unsealable) as error:
            raise await self._away(error) from error
        return [(row.seq, row.body, row.hash) for row in rows[: _consecutive([row.seq for row in rows])]]

    async def salvaged_hash(self, epoch: str, fact_class: FactClass, seq: int) -> bytes | None:
        """As `hash_at`, of an earlier epoch."""
        reader = await self._open()
        try:
            return await reader.hash_at(fact_class, seq, epoch)
        except sqlite3.Error as error:
            raise await self._away(error) from error

    async def _open(self) -> Reader:
        if self._reader is not None and (self._identity() != self._file or (self._at_rest and self._has_log())):
            await self.close()
        if self._reader is None:
            had_log = self._has_log()
            try:
                self._file = self._identity()
                self._reader = await Reader.open(self._path)
            except (NoJournal, sqlite3.Error, OSError) as error:
                raise JournalAway(str(error)) from error
            self._at_rest = not (had_log and self._has_log())
        return self._reader

    async def _away(self, error: Exception) -> JournalAway:
        await self.close()
        return JournalAway(f"{self._path} cannot be read: {error}")

    def _has_log(self) -> bool:
        return self._path.with_name(self._path.name + "-wal").exists()

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


def _consecutive(seqs: list[int]) -> int:
    """How many of them are consecutive, from the first."""
    if not seqs or seqs[-1] - seqs[0] == len(seqs) - 1:
        return len(seqs)
    return next(index for index in range(1, len(seqs)) if seqs[index] != seqs[index - 1] + 1)
