"""Received messages into HQ's database: idempotent, checked against the chain, one transaction for many messages.

Strategy: each chain's row is locked first, all in one order (`heads`). Then a batch is compared with what is there.
Same key and same hash: a repeat, counted and ignored. Same key and another hash, or a batch that does not continue
what HQ has: two gateways are writing one journal, or it was rewritten; the batch goes to `rejected` whole with an
alarm and is not confirmed, because HQ cannot tell which of the two is right. A batch whose own chain does not add up
is refused for good only when it is a single fact (the bridge sends a damaged one alone): the store is told to park it
and the rest flows. A larger one was damaged on the way, is not confirmed and comes again. A message that the database
itself cannot take is recorded alone and, failing that, goes to `rejected` too.

`contiguous` then moves over what is recorded or accounted for in `gone` (tombstones, refused facts).

What is usual costs little: a batch that begins above everything its chain has is not looked up, and the new facts of
all batches go into the table together (`rows`). `unpack` needs no database, so one transaction's messages can be
unpacked while the one before is on its way to disk.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, and_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError

from cloud_bridge.hq import gone, heads, noted, quarantine, rows, schema, subjects
from cloud_bridge.hq.heads import Chain, Head
from cloud_bridge.hq.unpack import Received, unpack
from cloud_bridge.wire import BadBatch
from edge.bus import topics
from edge.bus.envelope import now_utc
from edge.bus.messages.facts import FactClass
from edge.card_numbers import in_payload

log = logging.getLogger(__name__)

SEEN_EVERY_S = 1.0
"""How exact a store's `last_seen` is."""


@dataclass(slots=True)
class Told:
    """What a store is to be told of one epoch: confirmed (with the hash there, if it is here) and refused sequences."""

    confirmed: dict[FactClass, int] = field(default_factory=dict)
    hashes: dict[FactClass, bytes | None] = field(default_factory=dict)
    rejected: dict[FactClass, list[int]] = field(default_factory=dict)


Outcome = dict[tuple[str, str], Told]
"""(store, epoch) -> what to tell; every chain that was touched, also when nothing changed."""


def merge(outcome: Outcome, later: Outcome) -> None:
    """Put what a later transaction found into `outcome`."""
    for key, told in later.items():
        mine = outcome.setdefault(key, Told())
        for fact_class, seq in told.confirmed.items():  # what was read before another lane's commit must not undo it
            if seq >= mine.confirmed.get(fact_class, 0):
                mine.confirmed[fact_class], mine.hashes[fact_class] = seq, told.hashes.get(fact_class)
        mine.rejected.update(told.rejected)


@dataclass(frozen=True, slots=True)
class Unpacked:
    """(topic, payload) messages, and what is in them: batches in the order of their chains, and what is none."""

    messages: Sequence[tuple[str, bytes]]
    received: Sequence[_Entry]
    bad: Sequence[tuple[str, bytes, str]]


class Recorder:
    """Writes into the database behind `engine`. Blocking: call it in threads, of which several may write at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._insert: Any = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert
        # SQLite has one writer; who waits for it inside SQLite only looks now and then whether it is free.
        self._turn = threading.Lock() if engine.dialect.name == "sqlite" else contextlib.nullcontext()
        self._seen: dict[str, float] = {}

    def record(self, messages: Sequence[tuple[str, bytes]]) -> Outcome:
        """`unpack` and `write`."""
        return self.write(self.unpack(messages))

    @staticmethod
    def unpack(messages: Sequence[tuple[str, bytes]]) -> Unpacked:
        """What is in (topic, payload) messages."""
        received: list[_Entry] = []
        bad: list[tuple[str, bytes, str]] = []
        for topic, payload in messages:
            try:
                store, fact_class = topics.store_of(topic), topics.last_level(topic)
                entry = unpack(payload, store)
                if entry.batch.fact_class.value != fact_class:
                    raise BadBatch(f"came on the topic of class {fact_class!r}, holds {entry.batch.fact_class.value}")
            except ValueError as error:
                bad.append((topic, payload, str(error)))
                continue
            received.append(_Entry(topic, payload, entry))
        received.sort(key=lambda item: (*item.chain, item.received.batch.first))
        return Unpacked(messages, received, bad)

    def write(self, unpacked: Unpacked) -> Outcome:
        """Record it in one transaction; returns after the commit.

        `schema.AWAY` when the database is away or busy: nothing was recorded, try again later.
        """
        try:
            return self._write(unpacked.received, unpacked.bad)
        except (DataError, IntegrityError) as error:
            if len(unpacked.messages) > 1:
                outcome: Outcome = {}
                for message in unpacked.messages:
                    merge(outcome, self.record([message]))
                return outcome
            topic, payload = unpacked.messages[0]
            return self._write([], [(topic, payload, f"the database cannot take it: {error.orig}")])

    def _write(self, received: Sequence[_Entry], bad: Sequence[tuple[str, bytes, str]]) -> Outcome:
        outcome: Outcome = {}
        now = now_utc()
        chains = {entry.chain for entry in received}
        chains.update(chain for entry in received for chain, _ in entry.tombstones)
        self._see_stores({chain[0] for chain in chains}, now)
        with self._transaction() as db:
            for topic, payload, reason in bad:
                quarantine.keep(db, topic, payload, reason, now, alarm=False)
            states = heads.lock(db, self._insert, chains, now)
            new = _New(db, now)
            for entry in received:
                if not self._take(db, entry, states[entry.chain], new):
                    continue
                for chain, stone in entry.tombstones:
                    gone.note(db, chain, stone.first, stone.last, stone.reason, now)
            new.insert()
            subjects.keep(db, self._insert, new.spoken_of, now)
            heads.advance(db, states.values())
            for chain, state in states.items():
                told = outcome.setdefault(chain[:2], Told())
                told.confirmed[FactClass(chain[2])] = state.contiguous
                told.hashes[FactClass(chain[2])] = state.hash
            for chain in gone.with_refused(db, states):
                outcome[chain[:2]].rejected[FactClass(chain[2])] = gone.refused(db, chain)
        return outcome

    def refuse(self, messages: Iterable[tuple[str, bytes, str]]) -> None:
        """Keep (topic, payload, reason) in quarantine."""
        now = now_utc()
        with self._transaction() as db:
            for topic, payload, reason in messages:
                quarantine.keep(db, topic, payload, reason, now, alarm=False)

    def confirmed(self, store: str, epoch: str = "") -> Outcome:
        """What HQ has of this store's `epoch`, or of its newest, to answer a store that asks; 0 where it has nothing.

        An `epoch` that HQ has not heard of is answered with what it has: nothing.
        """
        self._see_stores({store}, now_utc())
        with self._engine.connect() as db:
            head = schema.heads.c
            if not epoch:
                newest = select(head.epoch).where(head.store == store)
                found = db.execute(newest.order_by(head.first_seen.desc(), head.epoch.desc()).limit(1)).scalar()
                if found is None:
                    return {}
                epoch = found
            query = select(head["class"], head.contiguous, head.hash).where(
                and_(head.store == store, head.epoch == epoch)
            )
            have = [(FactClass(row[0]), int(row[1]), row[2]) for row in db.execute(query)]
        told = Told(
            dict.fromkeys(FactClass, 0) | {name: seq for name, seq, _ in have},
            {name: digest for name, _, digest in have},
        )
        return {(store, epoch): told}

    # -- one batch -----------------------------------------------------------------------------------------------------

    def _take(self, db: Connection, entry: _Entry, state: Head, new: _New) -> bool:
        """Record one batch; returns whether it could be believed."""
        batch, hashes, now = entry.received.batch, entry.received.hashes, new.now
        what = f"{batch.fact_class.value} {batch.first}-{batch.last} of epoch {batch.epoch}"
        if entry.received.omitted is not None:
            reason = (
                f"{batch.fact_class.value} {batch.first} of epoch {batch.epoch} stays there: {entry.received.omitted}"
            )
            quarantine.keep(db, entry.topic, entry.payload, reason, now, alarm=True)
            gone.note(db, entry.chain, batch.first, batch.first, gone.OMITTED, now)
            return False
        if not entry.received.sound:
            single = len(batch.bodies) == 1
            reason = f"{what}: the hash chain does not add up"
            quarantine.keep(db, entry.topic, entry.payload, reason, now, alarm=single)
            if single:
                gone.note(db, entry.chain, batch.first, batch.first, gone.REFUSED, now)
            return False
        known = self._known(db, entry, state, new)
        before = known.pop(batch.first - 1, None)
        forked = before is not None and batch.prev is not None and before != batch.prev
        if forked or any(digest and hashes[seq - batch.first] not in (b"", digest) for seq, digest in known.items()):
            reason = (
                f"{what} is not what continues the journal HQ has: two gateways write one journal, or it was changed"
                " afterwards; find out which, and let the other begin a new epoch"
            )
            quarantine.keep(db, entry.topic, entry.payload, reason, now, alarm=True)
            return False
        fresh = [index for index in range(len(batch.bodies)) if batch.first + index not in known]
        new.add(entry, fresh)
        if entry.received.keys:
            new.spoken_of.append(entry.received)
        state.facts += len(fresh)
        state.duplicates += len(known)
        state.highest = max(state.highest, batch.last)
        if batch.first <= state.contiguous + 1 and batch.last > state.contiguous:
            state.contiguous, state.hash = batch.last, batch.head
        return True

    @staticmethod
    def _known(db: Connection, entry: _Entry, state: Head, new: _New) -> dict[int, bytes | None]:
        """Sequence to hash, as far as they are here, of the batch's facts and the one before."""
        batch, facts = entry.received.batch, schema.facts.c
        if batch.first > state.highest:
            if batch.first - 1 == state.contiguous:
                return {state.contiguous: state.hash}
            if batch.first - 1 > state.highest:
                return {}
        new.insert()
        query = select(facts.seq, facts.hash).where(
            and_(heads.of(facts, entry.chain), facts.seq >= batch.first - 1, facts.seq <= batch.last)
        )
        known: dict[int, bytes | None] = {row[0]: row[1] for row in db.execute(query)}
        if batch.first - 1 == state.contiguous:  # which may have been trimmed here, or be a tombstone's
            known.setdefault(state.contiguous, state.hash)
        return known

    # -- chains --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._turn, self._engine.begin() as db:
            yield db

    def _see_stores(self, stores: Iterable[str], now: str) -> None:
        """Note that these were heard of. In a transaction of its own, so that none waits for another over it."""
        at = time.monotonic()
        due = [store for store in sorted(stores) if at - self._seen.get(store, -SEEN_EVERY_S) >= SEEN_EVERY_S]
        if due:
            statement = self._insert(schema.stores)
            seen = statement.on_conflict_do_update(index_elements=["store"], set_={"last_seen": now})
            with self._transaction() as db:
                db.execute(seen, [{"store": store, "first_seen": now, "last_seen": now} for store in due])
            self._seen.update(dict.fromkeys(due, at))


@dataclass(frozen=True, slots=True)
class _Entry:
    """A message that is a batch: where it came from, its chain, and the ranges its tombstones speak of."""

    topic: str
    payload: bytes
    received: Received
    chain: Chain = field(init=False)
    tombstones: tuple[tuple[Chain, gone.Gone], ...] = field(init=False)

    def __post_init__(self) -> None:
        batch = self.received.batch
        object.__setattr__(self, "chain", (batch.store, batch.epoch, batch.fact_class.value))
        found = zip(self.received.owns, batch.bodies, strict=False)
        speaking = ((own.type, body) for own, body in found if own.type in gone.SPEAKING)
        told = (one for kind, body in speaking for one in gone.told_by(kind, batch, body))
        object.__setattr__(self, "tombstones", tuple(told))


@dataclass(slots=True)
class _New:
    """New facts of a transaction that are not in the table yet."""

    db: Connection
    now: str
    waiting: list[tuple[_Entry, Sequence[int]]] = field(default_factory=list)
    spoken_of: list[Received] = field(default_factory=list)
    """Batches that bring keys of customers."""

    def add(self, entry: _Entry, indexes: Sequence[int]) -> None:
        """These of the batch's facts are new."""
        if indexes:
            self.waiting.append((entry, indexes))
            _look_for_cards(entry, indexes)

    def insert(self) -> None:
        """Put them there, and have HQ take note of them."""
        waiting, self.waiting = self.waiting, []
        if waiting:
            rows.insert(self.db, self._rows(waiting))
        for entry, indexes in waiting:
            batch, owns = entry.received.batch, entry.received.owns
            facts = ((owns[index].type, batch.bodies[index]) for index in indexes)
            noted.note(self.db, batch.store, batch.fact_class, facts)

    def _rows(self, waiting: Iterable[tuple[_Entry, Sequence[int]]]) -> Iterator[rows.Row]:
        for entry, indexes in waiting:
            received, chain, first = entry.received, entry.chain, entry.received.batch.first
            bodies, owns, hashes = received.batch.bodies, received.owns, received.hashes
            for index in indexes:
                yield rows.row_of(chain, first + index, owns[index], bodies[index], hashes[index], self.now)


def _look_for_cards(entry: _Entry, indexes: Iterable[int]) -> None:
    """Tell of card data in facts that a store has accepted: from before its gateway refused it, or in a range that only
    we know.

    It is recorded all the same: that no fact is lost was the store's promise, and the chain's hash is over its bytes.
    """
    batch = entry.received.batch
    found = [(index, place) for index in indexes if (place := in_payload(batch.bodies[index])) is not None]
    if found:
        index, place = found[0]
        log.error(
            "store %s: %d of its facts hold card data, first %s %d of epoch %s: %s; recorded as they came: find out"
            " which till sends it, and whether this database may hold it",
            batch.store, len(found), batch.fact_class.value, batch.first + index, batch.epoch, place,
        )  # fmt: skip
