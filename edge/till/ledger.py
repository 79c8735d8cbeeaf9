"""The till's own ledger: one SQLite file that holds every fact of the lane, before anybody else has it.

Strategy: one thread owns the connection, so nothing here blocks the event loop and calls take effect in the order they
were made. A fact gets its sequence and its final bytes in the transaction that stores it (WAL, ``synchronous=FULL``):
when `add` returns it survives a power cut, and a re-send sends the same bytes. Answers are stored in groups; one that
is lost with the power is asked for again, which the gateway answers as before.

What was sold lies there sealed (`edge.seal`, purpose "till"), by the keyring that lies beside the file or that the till
is given. Numbers, ids, types and answers are in plain. When the key is lost, selling goes on under a new one: what the
old one sealed and the gateway has not yet got waits until it is back. A file from before there were seals is taken
over, and what was in it is sealed bit by bit. Of a customer nothing is kept once the gateway has the fact.

A file belongs to one lane of one store. Two programs cannot share it: the second is told so.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import orjson

from edge.bus import envelope
from edge.bus.messages.facts import CUSTOMER_TYPES
from edge.card_numbers import CardNumberRefused, masked_payload
from edge.seal import Keyring, NoKey, Seal, Unsealable, is_sealed

T = TypeVar("T")

log = logging.getLogger(__name__)

SEALED_AT_ONCE = 50
"""Facts of an older file that are sealed with each group of answers."""


class FactState(StrEnum):
    """Pending until the gateway has answered for good; a refused fact stays, for a person to look at."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    REFUSED = "refused"


class WrongLedger(Exception):
    """The file belongs to another lane or store, or another program has it open; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact on the till's disk: `body` is the CloudEvent as it is sent, `sequence` the lane's own number for it."""

    sequence: int
    id: str
    type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of the fact `sequence`; `answer` is the gateway's result or problem, kept as JSON."""

    sequence: int
    state: FactState
    answer: dict[str, Any]


class Ledger:
    """The file. `await Ledger.open(...)`, then `close()`; every method may be called from one event loop only."""

    def __init__(
        self, path: Path, store: str, lane: str, thread: ThreadPoolExecutor, keyring: Keyring | None = None
    ) -> None:
        self._lock = _claim(path)
        try:
            self._database = _connect(path, store, lane)
            self._seal = Seal(keyring or _keyring(path), "till")
            self._place = f"ledger|{store}|{lane}|"
            self.unreadable: dict[int, str] = {}
            """Facts that wait for their key, or that somebody changed: sequence and why."""
            self._plain_until = self._taken_over()
        except BaseException:
            os.close(self._lock)
            raise
        highest = self._database.execute("SELECT coalesce(max(sequence), 0) FROM facts").fetchone()
        self.last_sequence: int = highest[0]
        self._thread = thread
        self._source = envelope.lane_source(store, lane)

    @classmethod
    async def open(cls, path: Path, store: str, lane: str, keyring: Keyring | None = None) -> Ledger:
        """Open or make the file; WrongLedger when it is another lane's or in use, OSError when it cannot be.

        `keyring` seals what is written; default: the one beside the file, made when there is none.
        """
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"till-ledger-{lane}")
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, cls, path, store, lane, thread, keyring)
        except BaseException:
            thread.shutdown(wait=False)
            raise

    async def close(self) -> None:
        await self._in_thread(self._database.close)
        os.close(self._lock)
        self._thread.shutdown(wait=False)

    async def add(self, type_: str, data: dict[str, Any]) -> Fact:
        """Store a new fact with the next sequence. On disk when this returns."""
        return await self._in_thread(self._add, type_, data)

    async def pending(self, after: int = 0, limit: int = 1_000) -> list[Fact]:
        """Facts not yet answered for good with a sequence above `after`, in order; without those in `unreadable`."""
        return await self._in_thread(self._pending, after, limit)

    async def settle(self, answers: Sequence[Answer]) -> None:
        """Store what became of some facts, in one transaction. An accepted fact never becomes refused again."""
        await self._in_thread(self._settle, answers)

    async def count(self) -> dict[FactState, int]:
        """How many facts are in each state."""
        rows = await self._rows("SELECT state, count(*) FROM facts GROUP BY state")
        return {state: dict(rows).get(state, 0) for state in FactState}

    async def remember_price(self, code: str, item: dict[str, Any]) -> None:
        await self._write(
            "INSERT INTO prices VALUES (?1, ?2, ?3) ON CONFLICT (code) DO UPDATE SET item = ?2, as_of = ?3",
            code,
            orjson.dumps(item).decode(),
            envelope.now_utc(),
        )

    async def forget_price(self, code: str) -> None:
        await self._write("DELETE FROM prices WHERE code = ?", code)

    async def recall_price(self, code: str) -> tuple[dict[str, Any], str] | None:
        """The item as the gateway last answered it and when that was; None when it was never asked for."""
        rows = await self._rows("SELECT item, as_of FROM prices WHERE code = ?", code)
        return (orjson.loads(rows[0][0]), rows[0][1]) if rows else None

    async def note(self, key: str, value: str) -> None:
        """Keep a small text of the till's own, such as where the gateway was last found."""
        await self._write("INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2", key, value)

    async def noted(self, key: str) -> str | None:
        rows = await self._rows("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    async def _in_thread(self, call: Callable[..., T], *args: Any) -> T:
        # Shielded: a cancelled caller must not leave `last_sequence` behind the file.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, call, *args))

    async def _rows(self, query: str, *values: Any) -> list[Any]:
        return await self._in_thread(lambda: self._database.execute(query, values).fetchall())

    async def _write(self, statement: str, *values: Any) -> None:
        await self._in_thread(self._database.execute, statement, values)

    def _add(self, type_: str, data: dict[str, Any]) -> Fact:
        event = envelope.build(type_, self._source, data, sequence=self.last_sequence + 1)
        fact = Fact(self.last_sequence + 1, event["id"], type_, envelope.canonical(event))
        sealed = self._seal.seal(fact.body, self._context(fact.sequence))
        self._database.execute(
            "INSERT INTO facts (sequence, id, type, body, made_at) VALUES (?, ?, ?, ?, ?)",
            (fact.sequence, fact.id, fact.type, sealed, event["time"]),
        )
        self.last_sequence = fact.sequence
        return fact

    def _pending(self, after: int, limit: int) -> list[Fact]:
        query = (
            "SELECT sequence, id, type, body FROM facts WHERE state = 'pending' AND sequence > ? "
            "ORDER BY sequence LIMIT ?"
        )
        found: list[Fact] = []
        while len(found) < limit and (rows := self._database.execute(query, (after, limit - len(found))).fetchall()):
            for sequence, id_, type_, stored in rows:
                after = sequence
                try:
                    found.append(Fact(sequence, id_, type_, self._opened(sequence, stored)))
                except Unsealable as error:
                    if sequence not in self.unreadable:
                        log.error("fact %d of this till cannot be sent: %s", sequence, error)
                    self.unreadable[sequence] = str(error)
                else:
                    self.unreadable.pop(sequence, None)
        return found

    def _context(self, sequence: int) -> bytes:
        return f"{self._place}{sequence}".encode()

    def _opened(self, sequence: int, stored: bytes) -> bytes:
        if is_sealed(stored):
            return self._seal.open(stored, self._context(sequence))
        if sequence > self._plain_until:
            raise Unsealable("it lies in plain, where only sealed facts may be: it was put there")
        return stored

    def _taken_over(self) -> int:
        """Up to which sequence facts may lie in plain: as many as there were when the file first met a seal.

        The number is sealed itself, so that nobody can put facts there in plain afterwards.
        """
        context = f"{self._place}plain".encode()
        row = self._database.execute("SELECT value FROM meta WHERE key = 'plain_until'").fetchone()
        if row is not None:
            try:
                return int(self._seal.open(bytes.fromhex(row[0]), context))
            except (Unsealable, ValueError):
                return 0
        (highest,) = self._database.execute("SELECT coalesce(max(sequence), 0) FROM facts").fetchone()
        sealed = self._seal.seal(str(highest).encode(), context).hex()
        self._database.execute("INSERT INTO meta VALUES ('plain_until', ?)", (sealed,))
        self._database.execute("INSERT INTO meta VALUES ('sealed_until', '0')")
        return int(highest)

    def _seal_some(self) -> bool:
        """Seal a few of the facts that lie in plain since before there were seals; True when these were the last."""
        (done,) = self._database.execute("SELECT value FROM meta WHERE key = 'sealed_until'").fetchone() or ("0",)
        if int(done) >= self._plain_until:
            return False
        query = "SELECT sequence, body FROM facts WHERE sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?"
        rows = self._database.execute(query, (int(done), self._plain_until, SEALED_AT_ONCE)).fetchall()
        for sequence, stored in rows:
            if not is_sealed(stored):
                sealed = self._seal.seal(stored, self._context(sequence))
                self._database.execute("UPDATE facts SET body = ? WHERE sequence = ?", (sealed, sequence))
        upto = rows[-1][0] if rows else self._plain_until
        self._database.execute("UPDATE meta SET value = ? WHERE key = 'sealed_until'", (str(upto),))
        return bool(upto >= self._plain_until)

    def _settle(self, answers: Sequence[Answer]) -> None:
        now = envelope.now_utc()
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._database.executemany(
                "UPDATE facts SET state = ?, answer = ?, answered_at = ? WHERE sequence = ? AND state <> 'accepted'",
                [(a.state, orjson.dumps(a.answer).decode(), now, a.sequence) for a in answers],
            )
            holds_card = [a.sequence for a in answers if a.answer.get("code") == CardNumberRefused.code]
            for sequence in holds_card:
                self._mask(sequence)
            self._forget_customers([a.sequence for a in answers if a.state is FactState.ACCEPTED])
            sealed_all = self._seal_some()
        except sqlite3.Error:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")
        if holds_card or sealed_all:  # the write-ahead log still holds what it was
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _forget_customers(self, accepted: Sequence[int]) -> None:
        """Who the customer was can be erased at the gateway, not in every till: what it has now need not lie here."""
        marks = ", ".join("?" * len(CUSTOMER_TYPES))
        query = f"SELECT type, body FROM facts WHERE sequence = ? AND type IN ({marks})"  # noqa: S608
        for sequence in accepted:
            for type_, stored in self._database.execute(query, (sequence, *CUSTOMER_TYPES)).fetchall():
                try:
                    event = orjson.loads(self._opened(sequence, stored))
                except Unsealable:  # nobody can read it here
                    continue
                kept = CUSTOMER_TYPES[type_].impersonal
                event["data"] = {name: value for name, value in event["data"].items() if name in kept}
                sealed = self._seal.seal(envelope.canonical(event), self._context(sequence))
                self._database.execute("UPDATE facts SET body = ? WHERE sequence = ?", (sealed, sequence))

    def _mask(self, sequence: int) -> None:
        """Keep a refused fact without its card number, which must not be on this disk."""
        query = "SELECT body FROM facts WHERE sequence = ? AND state = 'refused'"
        for (body,) in self._database.execute(query, (sequence,)).fetchall():
            try:
                masked = masked_payload(self._opened(sequence, body))
            except Unsealable:  # nobody can read it here
                continue
            sealed = self._seal.seal(masked, self._context(sequence))
            self._database.execute("UPDATE facts SET body = ? WHERE sequence = ?", (sealed, sequence))


def owner_of(path: Path) -> tuple[str, str] | None:
    """The store and lane of the ledger at `path`; None where there is none that can be read."""
    if not path.exists():
        return None
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=2)
        ) as database:
            found = dict(database.execute("SELECT key, value FROM meta WHERE key IN ('store', 'lane')").fetchall())
    except sqlite3.Error as error:
        log.warning("%s does not say whose ledger it is: %s", path, error)
        return None
    return (found["store"], found["lane"]) if len(found) == 2 else None


def _keyring(path: Path) -> Keyring:
    try:
        found = Keyring.find(path.parent)
    except NoKey as error:
        raise WrongLedger(str(error)) from error
    for fault in found.faults:
        log.error("%s", fault)
    return found


def _claim(path: Path) -> int:
    """Make the file this program's own until the descriptor is closed, which the kernel does when it dies."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise WrongLedger(f"{path} is in use by another till: stop that one first") from None
    return lock


def _connect(path: Path, store: str, lane: str) -> sqlite3.Connection:
    # autocommit: a statement by itself is a transaction, so `add` is on disk when it has run.
    database = sqlite3.connect(path, isolation_level=None, timeout=2, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        # What lay in plain before there were seals is overwritten as it is sealed.
        database.execute("PRAGMA secure_delete = ON")
        database.executescript(files("edge.till").joinpath("ledger.sql").read_text(encoding="utf-8"))
        for key, mine in (("store", store), ("lane", lane)):
            database.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, mine))
            found = database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()[0]
            if found != mine:
                raise WrongLedger(f"{path} is the ledger of {key} {found!r}, not {mine!r}: give this till its own file")
    except sqlite3.DatabaseError as error:
        database.close()
        text = f"{path} cannot be used as a ledger ({error}): keep the file, move it aside and start the till again"
        raise WrongLedger(text) from error
    except WrongLedger:
        database.close()
        raise
    return database
