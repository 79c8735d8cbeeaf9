"""The one writer of ``store.db``: turns a batch of facts and statements into one commit.

Strategy: everything here runs on one thread and is plain sequential code; `Store` brings the batches. A commit is:
look up which ids are known (one query), decide fact by fact (new, repeat, conflict), give sequences and hashes, insert
all rows with few many-row statements, commit. Few statements matter: each one lets go of the interpreter lock and has
to win it back from the event loop.

What a commit notices (a hole in a lane's numbers, two facts with one id, a clock that can be trusted) is a fact too and
goes into the same transaction, so that neither a crash nor a full disk can come between the two.

What stands in memory (heads, lanes) is only ever what is on disk: when a commit fails it is read again from the file.
A full disk is not a fault: the batch is rolled back, room is made, and what still does not fit is refused.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import orjson

from edge.bus import envelope
from edge.bus.messages import facts
from edge.bus.messages.base import Recorded
from edge.bus.messages.facts import (
    ClockTrusted,
    FactClass,
    JournalDamaged,
    LaneGapFilled,
    LaneGapFound,
    SequenceConflict,
)
from edge.journal import chain, personal, salvage
from edge.journal.clock import Clock, ClockTrust, Stamp
from edge.journal.entries import (
    Accepted,
    Conflict,
    ConflictKind,
    NewFact,
    Prepared,
    Statement,
    StorageFull,
    prepare,
)
from edge.journal.lanes import Gap, GapChange, LaneProgress, ranges
from edge.journal.recorded import Known, answer
from edge.journal.recorded import Recorded as Journalled
from edge.journal.room import Room, Tombstone, TombstoneReason
from edge.journal.sealing import Bodies
from edge.journal.subjects import NotThere, Subjects
from edge.seal import Unsealable

ROW_OVERHEAD_BYTES = 700
"""What a row takes beside its content: the journal's own attributes, columns and indexes."""

_COLUMNS = (
    "row, class, seq, id, lane, lane_seq, type, recorded_at, boot, mono_ms, clock, digest, body, hash,"
    " conflict, conflict_row"
)
_INSERT_SIZES = (64, 16, 4, 1)
_INSERTS = {
    count: f"INSERT INTO facts ({_COLUMNS}) VALUES " + ", ".join(["(" + ", ".join("?" * 16) + ")"] * count)  # noqa: S608
    for count in _INSERT_SIZES
}
_EVICTIONS_PER_COMMIT = 8
_FATAL = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
}

Outcome = Accepted | Conflict | Exception | None
"""What became of one item: None for statements without a fact that were carried out."""


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of work: a fact, statements, or both (then both or neither are carried out)."""

    fact: NewFact | None
    prepared: Prepared | None
    statements: Sequence[Statement] = ()

    @property
    def size_bytes(self) -> int:
        """Roughly what it adds to the file."""
        return (self.prepared.size_bytes + ROW_OVERHEAD_BYTES) if self.prepared else 0


@dataclass(slots=True)
class Done:
    """What one commit did. `outcomes` stand in the order of the batch; `heads` holds the classes that moved."""

    outcomes: list[Outcome] = field(default_factory=list)
    heads: dict[FactClass, int] = field(default_factory=dict)
    tombstones: list[Tombstone] = field(default_factory=list)


@dataclass(slots=True)
class _Draft:
    """The commit being put together."""

    stamp: Stamp
    room: bool
    known: dict[str, list[Known]]
    placed: dict[int, Known] = field(default_factory=dict)
    by_lane: dict[tuple[str, int], Known] = field(default_factory=dict)
    rows: list[object] = field(default_factory=list)
    noticed: list[Recorded] = field(default_factory=list)
    filled: dict[str, list[int]] = field(default_factory=dict)
    done: Done = field(default_factory=Done)


class Writer:
    """Sequential access to the open file. Not thread-safe: one thread only."""

    def __init__(
        self,
        db: sqlite3.Connection,
        clock: Clock,
        store_id: str,
        epoch: str,
        room: Room,
        bodies: Bodies,
        subjects: Subjects,
    ) -> None:
        self.db = db
        self.epoch = epoch
        self.bodies = bodies
        self.room = room
        self.clock = clock
        self.subjects = subjects
        self._source = envelope.gateway_source(store_id)
        self.heads: dict[FactClass, int] = {}
        self.lanes: dict[str, LaneProgress] = {}
        self._hashes: dict[FactClass, bytes] = {}
        self._next_row = 1
        self.dated = False
        self._recorded = Journalled(db, epoch)
        self.load()

    def load(self) -> None:
        """Read from the file what is kept in memory."""
        for fact_class in FactClass:
            row = self.db.execute(
                "SELECT seq, hash FROM facts WHERE class = ? ORDER BY seq DESC LIMIT 1", (fact_class.value,)
            ).fetchone()
            self.heads[fact_class] = row[0] if row else 0
            self._hashes[fact_class] = row[1] if row else chain.genesis(self.epoch, fact_class.value)
        self._next_row = (self.db.execute("SELECT max(row) FROM facts").fetchone()[0] or 0) + 1
        gaps: dict[str, list[Gap]] = {}
        for lane, first, last, noticed_at in self.db.execute("SELECT lane, first, last, noticed_at FROM lane_gaps"):
            gaps.setdefault(lane, []).append(Gap(first, last, noticed_at))
        self.lanes.clear()
        for lane, floor in self.db.execute("SELECT lane, floor FROM lanes").fetchall():
            highest = self.db.execute("SELECT max(lane_seq) FROM facts WHERE lane = ?", (lane,)).fetchone()[0]
            self.lanes[lane] = LaneProgress(max(floor, highest or 0), gaps.get(lane, ()))
        stamp = self.clock.now()
        trusted = self.db.execute("SELECT offset_ms IS NOT NULL FROM boots WHERE boot = ?", (stamp.boot,)).fetchone()
        self.dated = bool(trusted and trusted[0])
        if self.dated:
            self.clock.remember_synced()

    # -- one commit ---------------------------------------------------------------------------------------

    def commit(self, batch: Sequence[Item]) -> Done:
        """Carry out `batch`. Raises sqlite3.Error only when the file cannot be written any more."""
        need_bytes = 3 * sum(item.size_bytes for item in batch)
        before = dict(self.heads)
        tombstones: list[Tombstone] = []
        room = self._make_room(need_bytes, tombstones)
        for attempt in range(3):
            try:
                done = self._attempt(batch, room=room and attempt < 2, write=attempt < 2)
            except sqlite3.Error as error:
                self._abandon()
                if not is_full(error) or attempt == 2:
                    raise
                room = self._evict_once(tombstones)
                continue
            done.tombstones = tombstones
            done.heads = {name: seq for name, seq in self.heads.items() if seq != before[name]}
            return done
        raise AssertionError("the last attempt writes nothing and cannot find the disk full")

    def _attempt(self, batch: Sequence[Item], *, room: bool, write: bool) -> Done:
        ids = [item.fact.id for item in batch if item.fact is not None]
        draft = _Draft(self.clock.now(), room, self._recorded.by_ids(ids))
        if not write:
            draft.done.outcomes = [self._without_writing(item, draft) for item in batch]
            return draft.done
        self.db.execute("BEGIN IMMEDIATE")
        draft.done.outcomes = [self._carry_out(item, draft) for item in batch]
        self._finish(draft)
        return draft.done

    def _finish(self, draft: _Draft) -> None:
        stamp = draft.stamp
        dated = self.dated or stamp.trust is ClockTrust.SYNCED
        if dated and not self.dated:
            self.db.execute(
                "INSERT INTO boots (boot, first_seen, offset_ms, trusted_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (boot) DO UPDATE SET offset_ms = excluded.offset_ms, trusted_at = excluded.trusted_at",
                (stamp.boot, stamp.wall, stamp.offset_ms, stamp.wall),
            )
            draft.noticed.append(ClockTrusted(boot=stamp.boot, offset_ms=stamp.offset_ms))
        for lane, numbers in draft.filled.items():
            draft.noticed += [LaneGapFilled(lane=lane, first=first, last=last) for first, last in ranges(numbers)]
        for noticed in draft.noticed:
            self._say(noticed, draft)
        self._insert_rows(draft.rows)
        self.db.execute("COMMIT")
        self.dated = dated

    def _insert_rows(self, values: list[object]) -> None:
        at = 0
        for count in _INSERT_SIZES:
            width = count * 16
            while len(values) - at >= width:
                self.db.execute(_INSERTS[count], values[at : at + width])
                at += width

    def _abandon(self) -> None:
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")
        self.load()

    # -- one item -----------------------------------------------------------------------------------------

    def _carry_out(self, item: Item, draft: _Draft) -> Outcome:
        fact = item.fact
        if fact is None or item.prepared is None:
            return self._run(item.statements)
        try:
            prepared = item.prepared if fact.person is None else self._sealed(fact, draft)
        except NotThere:
            return self._full()
        earlier = draft.known.get(fact.id, [])
        for known in earlier:
            unsealed = item.prepared.digest  # as it was journalled before parts were sealed
            if known.digest in (prepared.digest, unsealed):
                return self._repeat(known, draft)
            if prepared.nobody and self._same_but_for_the_person(known, prepared):
                return self._repeat(known, draft)
        clash = self._clash(fact, earlier, draft)
        if not draft.room:
            return self._full()
        if item.statements and clash is None:
            failure = self._run(item.statements)
            if failure is not None:
                return failure
        known = self._place(fact, prepared, draft, clash)
        outcome = answer(known, clash[1] if clash is not None else None, repeated=False)
        if isinstance(outcome, Conflict):
            draft.noticed.append(_collision(fact, outcome))
        return outcome

    def _without_writing(self, item: Item, draft: _Draft) -> Outcome:
        fact, prepared = item.fact, item.prepared
        if fact is not None and prepared is not None:
            with contextlib.suppress(NotThere):  # nothing about this person can be recorded already
                prepared = prepared if fact.person is None else self._sealed(fact, draft)
                for known in draft.known.get(fact.id, []):
                    if known.digest == prepared.digest:
                        return self._repeat(known, draft)
        return self._full()

    def _sealed(self, fact: NewFact, draft: _Draft) -> Prepared:
        """The fact with its personal parts sealed, by a key that is made now where there is room for one. NotThere."""
        assert fact.person is not None
        key = self.subjects.key(fact.person, draft.stamp.wall, make=draft.room)
        data = cast("Mapping[str, Any]", fact.event["data"])
        sealed = personal.sealed_data(key, fact.type, fact.id, data, fact.impersonal)
        return replace(prepare({**fact.event, "data": sealed}), nobody=key is None)

    def _same_but_for_the_person(self, known: Known, prepared: Prepared) -> bool:
        """Whether this is what was recorded when the person of `prepared` was not yet erased."""
        if known.row is None:
            return False
        (stored,) = self.db.execute("SELECT body FROM facts WHERE row = ?", (known.row,)).fetchone() or (b"{}",)
        try:
            body = self.bodies.plain(known.epoch, known.fact_class.value, known.seq, stored)
        except Unsealable:
            return False
        return prepare(personal.without_person(orjson.loads(body))).digest == prepared.digest

    def _run(self, statements: Sequence[Statement]) -> Exception | None:
        """All of the statements or none; the reason when none. A file that cannot be written raises."""
        self.db.execute("SAVEPOINT item")
        failure: Exception | None = None
        try:
            for sql, parameters in statements:
                self.db.execute(sql, parameters)
        except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError) as error:
            if is_full(error) or is_fatal(error):
                raise
            self.db.execute("ROLLBACK TO item")
            failure = error
        self.db.execute("RELEASE item")
        return failure

    def _place(
        self, fact: NewFact, prepared: Prepared, draft: _Draft, clash: tuple[ConflictKind, Known | None] | None
    ) -> Known:
        """Give the fact its sequence, hash and row; note its lane sequence."""
        fact_class, stamp = fact.fact_class, draft.stamp
        kind, other = clash if clash is not None else (None, None)
        seq = self.heads[fact_class] + 1
        body = prepared.body(fact_class, seq, stamp, kind)
        row_hash = chain.link(self._hashes[fact_class], body)
        sealed = self.bodies.sealed(self.epoch, fact_class.value, seq, body)
        row, other_row = self._next_row, other.row if other is not None else None
        draft.rows += (
            row, fact_class.value, seq, fact.id, fact.lane, fact.lane_seq, fact.type, stamp.wall, stamp.boot,
            stamp.mono_ms, stamp.trust.value, prepared.digest, sealed, row_hash, kind, other_row,
        )  # fmt: skip
        self.heads[fact_class], self._hashes[fact_class], self._next_row = seq, row_hash, row + 1
        known = draft.placed[row] = Known(row, fact.id, fact_class, seq, prepared.digest, kind, other_row, self.epoch)
        draft.known.setdefault(fact.id, []).append(known)
        if fact.lane is not None and fact.lane_seq is not None:
            draft.by_lane.setdefault((fact.lane, fact.lane_seq), known)
            self._observe(fact.lane, fact.lane_seq, draft)
        return known

    def _observe(self, lane: str, lane_seq: int, draft: _Draft) -> None:
        progress = self.lanes.get(lane)
        if progress is None:
            progress = self.lanes[lane] = LaneProgress()
            self.db.execute("INSERT INTO lanes (lane, first_seen, floor) VALUES (?, ?, 0)", (lane, draft.stamp.wall))
        change = progress.observe(lane_seq, draft.stamp.wall)
        if change is not None:
            self._keep_gap(lane, change)
            if change.removed is None:
                draft.noticed += [LaneGapFound(lane=lane, first=gap.first, last=gap.last) for gap in change.added]
            else:
                draft.filled.setdefault(lane, []).append(lane_seq)

    def _keep_gap(self, lane: str, change: GapChange) -> None:
        if change.removed is not None:
            self.db.execute("DELETE FROM lane_gaps WHERE lane = ? AND first = ?", (lane, change.removed.first))
        for gap in change.added:
            self.db.execute(
                "INSERT INTO lane_gaps (lane, first, last, noticed_at) VALUES (?, ?, ?, ?)",
                (lane, gap.first, gap.last, gap.noticed_at),
            )

    def _clash(self, fact: NewFact, earlier: list[Known], draft: _Draft) -> tuple[ConflictKind, Known | None] | None:
        """How this new content collides with what is recorded, and with which fact as far as that is still here."""
        if earlier:
            return "id", next((known for known in earlier if known.conflict is None), earlier[0])
        if fact.lane is None or fact.lane_seq is None:
            return None
        progress = self.lanes.get(fact.lane)
        if progress is None or not progress.seen(fact.lane_seq):
            return None
        first = self._recorded.by_lane(fact.lane, fact.lane_seq)
        return "sequence", first or draft.by_lane.get((fact.lane, fact.lane_seq))

    def _repeat(self, known: Known, draft: _Draft) -> Accepted | Conflict:
        other: Known | None = None
        if known.conflict_row is not None:
            other = draft.placed.get(known.conflict_row) or self._recorded.by_row(known.conflict_row)
        return answer(known, other, repeated=True)

    # -- room ---------------------------------------------------------------------------------------------

    def _full(self) -> StorageFull:
        return StorageFull(self.room.free_bytes(), self.room.reserve_bytes)

    def _make_room(self, need_bytes: int, tombstones: list[Tombstone]) -> bool:
        if need_bytes == 0:
            return True
        for _ in range(_EVICTIONS_PER_COMMIT):
            if self.room.enough(need_bytes):
                return True
            if not self._evict_once(tombstones):
                return False
        return self.room.enough(need_bytes)

    def _evict_once(self, tombstones: list[Tombstone]) -> bool:
        """Remove one slice for want of room; False when nothing may go or even that does not fit."""
        choice = self.room.evictable()
        if choice is None:
            return False
        try:
            _, tombstone = self._drop(*choice, "evicted")
        except sqlite3.Error as error:
            self._abandon()
            if not is_full(error):
                raise
            return False
        if tombstone is not None:
            tombstones.append(tombstone)
        return True

    def _drop(self, fact_class: FactClass, last: int, reason: TombstoneReason) -> tuple[int, Tombstone | None]:
        draft = _Draft(self.clock.now(), room=True, known={})
        self.db.execute("BEGIN IMMEDIATE")
        removed, tombstone = self.room.drop(fact_class, last, reason, draft.stamp)
        if tombstone is not None:
            self._say(
                facts.Tombstone(
                    of_class=tombstone.fact_class,
                    first=tombstone.first,
                    last=tombstone.last,
                    reason=tombstone.reason,
                ),
                draft,
            )
        self._finish(draft)
        return removed, tombstone

    def _say(self, data: Recorded, draft: _Draft) -> None:
        """A fact of the journal's own, in the transaction that it speaks of: both are on disk or neither."""
        row = facts.FACTS[facts.TYPE_OF[type(data)]]
        event = envelope.build(row.name, self._source, data.model_dump(mode="json"))
        fact = NewFact(event["id"], row.name, row.fact_class, self._source, event["time"], None, None, event)
        self._place(fact, prepare(event), draft, None)

    def end_salvage(self, said: JournalDamaged) -> None:
        """What can be carried over from a damaged file is here: say so, and that this is done."""

        def work() -> Sequence[Recorded]:
            self.db.execute(salvage.done())
            return [said]

        self.alone(work)

    def alone(self, work: Callable[[], Sequence[Recorded]]) -> Done:
        """Do `work` in a transaction of its own, together with the journal's facts that it returns."""
        before = dict(self.heads)
        draft = _Draft(self.clock.now(), room=True, known={})
        self.db.execute("BEGIN IMMEDIATE")
        try:
            for said in work():
                self._say(said, draft)
            self._finish(draft)
        except BaseException:
            self._abandon()
            raise
        return Done(heads={name: seq for name, seq in self.heads.items() if seq != before[name]})

    def trim(self, fact_class: FactClass, retention_ms: int, expire_ms: int | None) -> Done | None:
        """One slice of routine trimming: confirmed facts past their retention, else unconfirmed ones past their expiry.

        Returns None when nothing of this class is due.
        """
        before = dict(self.heads)
        now = self.clock.now()
        last = self.room.aged(fact_class, self.room.confirmed.get(fact_class, 0), retention_ms, now)
        if last is None and expire_ms is not None:
            last = self.room.aged(fact_class, self.heads[fact_class], expire_ms, now)
        if last is None:
            return None
        try:
            removed, tombstone = self._drop(fact_class, last, "expired")
        except sqlite3.Error as error:
            self._abandon()
            if not is_full(error):
                raise
            return None
        done = Done(outcomes=[None] * removed, tombstones=[tombstone] if tombstone is not None else [])
        done.heads = {name: seq for name, seq in self.heads.items() if seq != before[name]}
        return done


def _collision(fact: NewFact, found: Conflict) -> SequenceConflict:
    return SequenceConflict(
        lane=fact.lane,
        kind=found.kind,
        of=fact.id if found.kind == "id" else str(fact.lane_seq),
        first_class=found.other_class,
        first_seq=found.other_seq,
        second_class=found.fact_class,
        second_seq=found.seq,
    )


def is_full(error: Exception) -> bool:
    """Whether the disk is full: as SQLite says it of its files, and of the index of its log, which has to grow too."""
    return getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)


def is_fatal(error: Exception) -> bool:
    """Whether the file itself cannot be trusted or written any more."""
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF in _FATAL
