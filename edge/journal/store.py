"""`Store`: the one writer of ``store.db`` as the rest of edge sees it.

Strategy: group commit. Whatever is handed over while one commit is on its way to the disk waits and goes into the next,
as one transaction; futures are resolved after the commit, in the order of arrival. The work on the file is sequential
code on a thread of its own (`writer.py`): one hand-over to the thread per commit, however many facts it holds.
Facts of the classes that need to be durable only within 1 s start no commit by themselves for `LAZY_MS`; they go with
the next one.

An error of the disk faults the store: everything waiting fails, and so does what comes after. When the disk is well
again, `well_again` tells whoever runs the process to end it, so that the next life examines the file (`failing.py`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from edge.bus.messages.facts import FactClass, JournalDamaged, LostRange
from edge.bus.messages.personal import Person
from edge.journal import erasing, failing, opening, quarantine
from edge.journal.clock import Clock, Stamp
from edge.journal.entries import (
    Accepted,
    Conflict,
    NewFact,
    NotStored,
    Statement,
    StorageFull,
    StoreFaulted,
    prepare,
)
from edge.journal.erasing import Erasure, erase_again
from edge.journal.resealing import Resealing
from edge.journal.room import Room
from edge.journal.salvage import pending as salvage_pending
from edge.journal.salvage import salvage
from edge.journal.sealing import PLAIN, Bodies, Place, keys_of, teach
from edge.journal.subjects import PURPOSE, Subject, Subjects
from edge.journal.writer import Done, Item, Outcome, Writer, is_fatal, is_full
from edge.seal import Keyring, Seal

__all__ = ["Accepted", "Conflict", "NewFact", "NotStored", "Statement", "StorageFull", "Store", "StoreFaulted"]

log = logging.getLogger(__name__)

LAZY_MS = 500
LAZY_COUNT = 256
"""So many waiting facts start a commit whatever their class."""
BATCH_COUNT = 1_000
BATCH_BYTES = 4 * 1024 * 1024
FOLD_TRIES = 100
FOLD_AGAIN_S = 0.1
LOST_TOLD = 5_000
"""More ranges of lost facts than this are not told one by one; HQ sees their holes all the same."""
RESERVE_BYTES = 64 * 1024 * 1024
RESEAL_PAUSE_S = 0.1
"""Between two slices of sealing anew: some 400 rows a second at most, and the disk has time for sales."""

_T = TypeVar("_T")


@dataclass(slots=True)
class _Waiting:
    item: Item
    future: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class Salvaged:
    """The file of an earlier epoch was damaged: where it is, why, and how many of its facts were carried over."""

    path: Path
    reason: str
    facts: int


class Store:
    """The open store. Made by `Store.open`; all methods belong to the event loop that opened it.

    The lists of callbacks are filled by their owners before facts arrive; they are called on the loop, after commit:

    - ``on_commit(heads)``: the classes whose head moved, with their new highest sequence
    - ``on_fault()``: the disk has failed; `faulted` says how
    - ``on_written(seconds)``: a group commit took so long
    """

    def __init__(
        self,
        path: Path,
        epoch: str,
        keyring: Keyring,
        writer: Writer,
        thread: ThreadPoolExecutor,
        lock: int,
        *,
        lets_plain: bool,
    ) -> None:
        """Not for callers: `open` does what must be done before."""
        self.path = path
        self.epoch = epoch
        self.keyring = keyring
        """The store's master keys: whoever keeps something sealed beside the journal does it by these."""
        self.salvaged: Salvaged | None = None
        self.faulted: str | None = None
        self.well_again = asyncio.Event()
        """The store is faulted and the disk works again: only a new life of this process can use it."""
        self.commits = 0
        self.on_commit: list[Callable[[dict[FactClass, int]], None]] = []
        self.on_fault: list[Callable[[], None]] = []
        self.on_written: list[Callable[[float], None]] = []
        self._writer = writer
        self._lets_plain = lets_plain
        self._heads = dict(writer.heads)
        self._thread = thread
        self._lock = lock
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Waiting] = deque()
        self._in_hand: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._lazy_timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._probing: asyncio.Task[None] | None = None
        self._task = self._loop.create_task(self._write_on(), name="journal-writer")
        self._task.add_done_callback(self._writer_ended)

    @classmethod
    async def open(
        cls,
        path: Path,
        store_id: str,
        *,
        clock: Clock,
        keyring: Keyring | None = None,
        schemas: Sequence[tuple[str, str]] = (),
        reserve_bytes: int = RESERVE_BYTES,
        free_bytes: Callable[[], int] | None = None,
        max_pages: int | None = None,
        unreadable_is_damage: bool = False,
    ) -> Self:
        """Open or create the store at `path`.

        `schemas` are (name, script) pairs; each is applied once, by name: a service that changes its tables adds a
        step under a new name. `keyring` seals what is written; default: the one of the file's directory, made there
        when there is none. `free_bytes` says what the file system has left (default: asks it); `max_pages` bounds
        the file. Raises StoreBusy, WrongStore, NoKey, or sqlite3.Error and OSError when the disk does not let us; with
        `unreadable_is_damage` a file that alone cannot be read is set aside instead.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        measure = free_bytes or partial(_free_bytes, path.parent)
        try:
            lock = opening.take_lock(path)
            try:
                keyring = keyring or Keyring.find(path.parent)
                stamp = clock.now()
                open_file = partial(opening.open_file, path, store_id, schemas, stamp, keyring)
                open_file = partial(open_file, unreadable_is_damage=unreadable_is_damage)
                room = partial(Room, free_bytes=measure, reserve_bytes=reserve_bytes)
                writer, salvaged, lets_plain = await loop.run_in_executor(
                    thread, _open, open_file, path, store_id, clock, stamp, room, keyring, max_pages
                )
            except BaseException:
                os.close(lock)
                raise
        except BaseException:
            thread.shutdown(wait=False)
            raise
        store = cls(path, writer.epoch, keyring, writer, thread, lock, lets_plain=lets_plain)
        store.salvaged = salvaged
        return store

    # -- writing ------------------------------------------------------------------------------------------

    def append(self, fact: NewFact) -> asyncio.Future[Accepted | Conflict]:
        """Journal `fact`; the future is done after the commit that holds it.

        The future raises StorageFull (not recorded, try later), StoreFaulted, or ValueError (not plain JSON).
        """
        return self.append_with(fact, ())

    def append_with(self, fact: NewFact, statements: Sequence[Statement]) -> asyncio.Future[Accepted | Conflict]:
        """As `append`, with `statements` in the same transaction: all of it or nothing.

        The statements are carried out only when the fact is new: a repeat or a conflict changes no other state.
        When one fails (sqlite3.Error), the future raises that and the fact is not recorded.
        """
        future: asyncio.Future[Accepted | Conflict] = self._loop.create_future()
        try:
            prepared = prepare(fact.event)
            "".join((fact.id, fact.type, fact.lane or "")).encode()
        except ValueError as error:
            future.set_exception(error)
            return future
        self._queue(Item(fact, prepared, statements), future, urgent=fact.fact_class.durable or bool(statements))
        return future

    async def record(self, fact: NewFact) -> Accepted | Conflict:
        """`append` and wait."""
        return await self.append(fact)

    def write(self, statements: Sequence[Statement], *, urgent: bool = True) -> asyncio.Future[None]:
        """Other durable state: all `statements` or none, in the next group commit, in the order of arrival.

        What is not urgent may wait up to 1 s for a commit to go with.
        """
        future: asyncio.Future[None] = self._loop.create_future()
        self._queue(Item(None, None, statements), future, urgent=urgent)
        return future

    def quarantine(self, *, origin: str, lane: str | None, code: str, reason: str, payload: bytes) -> None:
        """Keep bad input with its reason; on disk within 1 s. Bounded: see `quarantine.py`."""
        at = self._writer.clock.now().wall
        seal = self._writer.bodies.seal_of(quarantine.PLACE.purpose)
        statements = quarantine.keep(seal, at, origin=origin, lane=lane, code=code, reason=reason, payload=payload)
        self.write(statements, urgent=False).add_done_callback(_log_lost_quarantine)

    def _queue(self, item: Item, future: asyncio.Future[Any], *, urgent: bool) -> None:
        if self.faulted is not None or self._closing:
            future.set_exception(StoreFaulted(self.faulted or "the store is closed: this process is ending"))
            return
        self._waiting.append(_Waiting(item, future))
        if urgent or len(self._waiting) >= LAZY_COUNT:
            self._wake.set()
        elif self._lazy_timer is None:
            self._lazy_timer = self._loop.call_later(LAZY_MS / 1_000, self._wake.set)

    # -- reading ------------------------------------------------------------------------------------------

    @property
    def heads(self) -> dict[FactClass, int]:
        """Highest committed sequence per class, 0 where there is none."""
        return dict(self._heads)

    @property
    def unwritten(self) -> int:
        """How many facts and statements have been given and are not yet on disk."""
        return len(self._waiting) + len(self._in_hand)

    @property
    def dated(self) -> bool:
        """Whether this boot's clock has come to be trusted and that is recorded."""
        return self._writer.dated

    def lane_highest(self, lane: str) -> int:
        """The highest sequence seen from a lane, 0 for a lane never heard of."""
        progress = self._writer.lanes.get(lane)
        return progress.highest if progress is not None else 0

    async def fetch_all(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """The rows of a short query, as of the last commit. Long reading belongs to `reader.Reader`.

        The SQL function ``plain(class, seq, body)`` opens a body of `facts`.
        """
        return await self._on_thread(partial(_fetch_all, self._writer.db, sql, parameters))

    async def fetch_one(self, sql: str, parameters: Sequence[object] = ()) -> tuple[Any, ...] | None:
        """The first row of a short query, or None."""
        rows = await self.fetch_all(sql, parameters)
        return rows[0] if rows else None

    # -- what is sealed -----------------------------------------------------------------------------------

    def sealed(self, place: Place, names: Sequence[object], plain: bytes) -> bytes:
        """`plain` as it is to be stored in the row of `place` with these keys."""
        return place.sealed(self._writer.bodies.seal_of(place.purpose), names, plain)

    def plain(self, place: Place, names: Sequence[object], stored: bytes) -> bytes:
        """What was stored there. Raises Unsealable: it was changed, was put there in plain, or its key is missing."""
        seal = self._writer.bodies.seal_of(place.purpose)
        return place.plain(seal, names, stored, lets_plain=self._lets_plain)

    async def reseal(self, places: Sequence[Place], pause_s: float = RESEAL_PAUSE_S) -> int:
        """Seal what lies in plain or under an older key, also of `places`; how many rows were sealed anew.

        A slice at a time with pauses: commits go in between. What cannot be opened stays as it is.
        """
        writer = self._writer
        walk = Resealing(writer.db, self.epoch, writer.bodies, (quarantine.PLACE, *places))
        if not await self._on_thread(walk.needed):
            return 0
        more = True
        while more:
            more = await self._on_thread(walk.step)
            await asyncio.sleep(pause_s)
        if walk.count:
            await self._fold()
        self._lets_plain = await self._on_thread(partial(writer.bodies.lets_plain, self.epoch))
        return walk.count

    async def missing_keys(self) -> dict[str, list[str]]:
        """The keys that are missing, per earlier epoch whose facts were carried over and cannot be read."""
        needed = await self._on_thread(partial(keys_of, self._writer.db))
        here = {PLAIN, *(key.id for key in self.keyring.keys)}
        return {epoch: sorted(keys - here) for epoch, keys in needed.items() if keys - here}

    # -- people -------------------------------------------------------------------------------------------

    async def erase(self, person: Person) -> Erasure:
        """Destroy the key of a person, on the disk too; see `erasing.py`. StoreFaulted, StorageFull."""
        try:
            erasure, done = await self._on_thread(partial(erasing.erase, self._writer, self.path, person))
        except sqlite3.Error as error:
            if not is_full(error):
                raise
            raise StorageFull(self._writer.room.free_bytes(), self._writer.room.reserve_bytes) from error
        self._tell(done)
        return replace(erasure, folded=await self._fold())

    async def readmit(self, person: Person) -> bool:
        """Take somebody who was erased as a person again from now on; False when they were not erased."""
        return await self._on_thread(partial(erasing.readmit, self._writer, self.path, person))

    async def reseal_subjects(self) -> int:
        """Seal the keys of people under the keyring's present master key; how many were sealed anew.

        A slice at a time: commits go in between. Afterwards nothing of them needs an older master key.
        """
        done: int | None = 0
        count = 0
        while done is not None:
            done, some = await self._on_thread(partial(erasing.reseal, self._writer, done))
            count += some
        await self._fold()
        return count

    async def _fold(self) -> bool:
        """Have nothing in the write-ahead log; False when somebody has been reading it for too long."""
        for _ in range(FOLD_TRIES):
            try:
                if await self._on_thread(partial(erasing.fold, self._writer.db)):
                    return True
            except sqlite3.OperationalError as error:
                if not is_full(error):
                    raise
                log.error("%s: its log still holds what was overwritten: %s", self.path, error)
                return False
            await asyncio.sleep(FOLD_AGAIN_S)
        log.error("somebody has been reading %s for too long: its log still holds what was overwritten", self.path)
        return False

    async def subjects(self, person: Person) -> list[Subject]:
        """The keys of a person: one, none, or more where one could not be opened for a while."""
        return await self._on_thread(partial(self._writer.subjects.find, person))

    async def whose(self, pseudonym: str) -> Subject | None:
        """The person behind a pseudonym, who is not erased."""
        return await self._on_thread(partial(self._writer.subjects.find_pseudonym, pseudonym))

    # -- trimming -----------------------------------------------------------------------------------------

    def note_confirmed(self, confirmed: Mapping[FactClass, int]) -> None:
        """What HQ has in its database, highest contiguous sequence per class of this epoch."""
        for fact_class, seq in confirmed.items():
            self._writer.room.confirmed[fact_class] = max(seq, self._writer.room.confirmed.get(fact_class, 0))

    async def trim(
        self,
        confirmed: Mapping[FactClass, int],
        retention_ms: Mapping[FactClass, int],
        expire_ms: Mapping[FactClass, int] | None = None,
    ) -> dict[FactClass, int]:
        """Remove what HQ has confirmed and is older than its class's retention; returns rows removed per class.

        `expire_ms` gives an age at which also unconfirmed facts go, leaving a tombstone: engagement and telemetry
        only, ValueError for others. A class without retention is left alone. The newest row of a class always stays.
        """
        expire_ms = expire_ms or {}
        for fact_class in expire_ms:
            if not fact_class.evictable:
                raise ValueError(f"{fact_class.value} facts never expire: leave the class out of expire_ms")
        self.note_confirmed(confirmed)
        removed: dict[FactClass, int] = {}
        for fact_class, age_ms in retention_ms.items():
            step = partial(self._writer.trim, fact_class, age_ms, expire_ms.get(fact_class))
            while (done := await self._on_thread(step)) is not None:
                removed[fact_class] = removed.get(fact_class, 0) + len(done.outcomes)
                self._tell(done)
        while await self._on_thread(self._writer.room.give_back):
            pass  # slice by slice: commits go in between
        return removed

    async def close(self) -> None:
        """Write what is waiting, then close the file. Safe to call twice."""
        if self._closing:
            return
        self._closing = True
        self._wake.set()
        if self._probing is not None:
            self._probing.cancel()
        await asyncio.wait([self._task])
        await self._loop.run_in_executor(self._thread, self._writer.db.close)
        self._thread.shutdown(wait=True)
        os.close(self._lock)

    # -- the writer task ----------------------------------------------------------------------------------

    async def _write_on(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._lazy_timer is not None:
                self._lazy_timer.cancel()
                self._lazy_timer = None
            while self._waiting:
                self._in_hand = self._take()
                items = [waiting.item for waiting in self._in_hand]
                began = self._loop.time()
                done = await self._on_thread(partial(self._writer.commit, items))
                for on_written in self.on_written:
                    on_written(self._loop.time() - began)
                self.commits += 1
                self._deliver(done)
            if self._closing:
                return

    def _take(self) -> list[_Waiting]:
        """The next batch: bounded, so that one commit never takes long."""
        batch: list[_Waiting] = []
        size_bytes = 0
        while self._waiting and len(batch) < BATCH_COUNT:
            size_bytes += self._waiting[0].item.size_bytes
            if batch and size_bytes > BATCH_BYTES:
                break
            batch.append(self._waiting.popleft())
        return batch

    def _deliver(self, done: Done) -> None:
        for waiting, outcome in zip(self._in_hand, done.outcomes, strict=True):
            _resolve(waiting.future, outcome)
        self._in_hand = []
        self._tell(done)

    def _tell(self, done: Done) -> None:
        """Call the callbacks, each by itself: one that fails is the loop's to report and stops nothing."""
        for tombstone in done.tombstones:
            log.warning(
                "%s %d to %d %s before HQ had them", tombstone.fact_class.value, tombstone.first, tombstone.last,
                tombstone.reason,
            )  # fmt: skip
        self._heads.update(done.heads)
        if done.heads:
            for on_commit in self.on_commit:
                self._loop.call_soon(on_commit, dict(done.heads))

    async def _on_thread(self, work: Callable[[], _T]) -> _T:
        """Run `work` on the writer's thread. A file that cannot be used any more faults the store."""
        if self.faulted is not None:
            raise StoreFaulted(self.faulted)
        try:
            return await self._loop.run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            if asyncio.current_task() is not self._task and not is_fatal(error):
                raise
            self._fault(f"{self.path} cannot be written ({error}): look at the disk, or replace it")
            raise StoreFaulted(self.faulted) from error

    def _fault(self, reason: str) -> None:
        if self.faulted is not None:
            return
        self.faulted = reason
        log.critical("%s", reason)
        failing.leave_mark(self.path, failing.Mark(self.epoch, self._heads))
        if not self._closing:
            self._probing = self._loop.create_task(self._until_well(), name="journal disk")
        for waiting in (*self._in_hand, *self._waiting):
            _resolve(waiting.future, StoreFaulted(reason))
        self._in_hand = []
        self._waiting.clear()
        for on_fault in self.on_fault:
            self._loop.call_soon(on_fault)

    async def _until_well(self) -> None:
        await failing.until_well(self.path)
        log.warning("the disk is well again; %s is examined by the next life of this process", self.path)
        self.well_again.set()

    def _writer_ended(self, task: asyncio.Task[None]) -> None:
        """The writer ends when the store is closed; any other end must leave nobody waiting."""
        if task.cancelled():
            self._fault("the journal's writer was cancelled")
        elif (error := task.exception()) is not None:
            self._fault(f"the journal's writer stopped: {error}")
            if not isinstance(error, StoreFaulted):
                log.critical("a bug in the journal's writer", exc_info=error)


def _open(
    open_file: Callable[[], opening.Opened],
    path: Path,
    store_id: str,
    clock: Clock,
    stamp: Stamp,
    make_room: Callable[[sqlite3.Connection, str], Room],
    keyring: Keyring,
    max_pages: int | None,
) -> tuple[Writer, Salvaged | None, bool]:
    opened = open_file()
    db = opened.db
    bodies, subjects = Bodies.by(keyring), Subjects(db, Seal(keyring, PURPOSE))
    try:
        salvaged: Salvaged | None = None
        name = salvage_pending(db)
        if name is not None:
            damaged = path.with_name(name)
            (reason,) = db.execute("SELECT value FROM meta WHERE key = 'salvaged_because'").fetchone()
            found = salvage(db, damaged, stamp, bodies)
            salvaged = Salvaged(damaged, reason, found.facts)
        if max_pages is not None:
            db.execute(f"PRAGMA max_page_count = {int(max_pages)}")
        teach(db, bodies)
        subjects.begin()
        erase_again(db, subjects, path, stamp.wall)
        writer = Writer(db, clock, store_id, opened.epoch, make_room(db, opened.epoch), bodies, subjects)
        if salvaged is not None:
            lost = tuple(LostRange(of_class=one, first=first, last=last) for one, first, last in found.lost[:LOST_TOLD])
            writer.end_salvage(
                JournalDamaged(
                    epoch=found.epoch, file=salvaged.path.name, reason=salvaged.reason, salvaged=found.facts, lost=lost
                )
            )
        return writer, salvaged, bodies.lets_plain(opened.epoch)
    except BaseException:
        db.close()
        raise


def _resolve(future: asyncio.Future[Any], outcome: Outcome) -> None:
    if future.done():  # its owner was cancelled; what it asked for is on disk all the same
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _fetch_all(db: sqlite3.Connection, sql: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
    return db.execute(sql, parameters).fetchall()


def _free_bytes(directory: Path) -> int:
    return shutil.disk_usage(directory).free


def _log_lost_quarantine(future: asyncio.Future[None]) -> None:
    error = future.exception() if not future.cancelled() else None
    if error is not None:
        log.error("bad input could not be kept in quarantine: %s", error)
