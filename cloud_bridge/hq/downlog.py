"""HQ's own log of everything it sends down, per store (or group) and stream: numbered once, replayed as often as asked.

Strategy: a message is written here with its number before it is published, so the cloud broker need not keep anything.
A stream's epoch is a UUIDv7 made with its first message.

A store that asks gets an `Offer`: per stream how far it goes, what of it comes now (a window, so that no queue on the
way grows without bound), and which number is the first that there still is. What is obsolete (`obsolete.py`) is not
sent, whether it has been trimmed or not: the store is told to go on behind it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, and_, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from cloud_bridge.hq import obsolete
from cloud_bridge.hq.schema import asks_answered, downlink_log, downlink_streams
from edge.bus.envelope import new_id, now_utc
from edge.bus.messages.links import Need, Offered

log = logging.getLogger(__name__)

WINDOW = 32
"""So many messages of a stream are sent for one question; the store asks for the next when it has them."""

CATCH_UP = 10_000
"""A store that has more of a stream than this log is believed so far: a log that was put back from a copy lacks a few
days. One that says more is wrong, and must not use up the numbers of a whole group."""

ASKS_KEPT_S = 3600

Make = Callable[[str, int], bytes]
"""(epoch, seq) -> the payload, which carries both in its header."""

Also = Callable[[Connection, str, int], None]
"""(connection, epoch, first number) -> what is to be written in the same transaction."""


def store_scope(store: str) -> str:
    """The scope of what goes to one store."""
    return f"stores/{store}"


def group_scope(group: str) -> str:
    """The scope of what goes to every store of a group."""
    return f"groups/{group}"


@dataclass(frozen=True, slots=True)
class Window:
    """What is sent of one stream now: `offered.first` to `offered.until`, nothing when `until` is before `first`.

    `key` is what the store keeps its position under.
    """

    scope: str
    stream: str
    key: str
    offered: Offered


class Downlog:
    """The log in the database behind `engine`. Blocking."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._insert: Any = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert

    def append(
        self, scope: str, stream: str, makes: Sequence[Make], also: Also | None = None
    ) -> list[tuple[int, bytes]]:
        """Number and keep messages, all or none, and with them what `also` writes; returns (seq, payload) of each."""
        where = and_(downlink_streams.c.scope == scope, downlink_streams.c.stream == stream)
        with self._engine.begin() as db:
            fresh = self._insert(downlink_streams).values(scope=scope, stream=stream, epoch=new_id(), last=0)
            db.execute(fresh.on_conflict_do_nothing())
            row = db.execute(select(downlink_streams).where(where).with_for_update()).mappings().one()
            epoch, last = str(row["epoch"]), int(row["last"])
            made = [(seq, make(epoch, seq)) for seq, make in enumerate(makes, start=last + 1)]
            now = now_utc()
            values = [
                {"scope": scope, "stream": stream, "seq": seq, "payload": payload, "at": now} for seq, payload in made
            ]
            if values:
                db.execute(insert(downlink_log), values)
            db.execute(update(downlink_streams).where(where).values(last=last + len(made)))
            if also is not None:
                also(db, epoch, last + 1)
        return made

    def claim(self, need: Need) -> bool:
        """Whether this question is ours to answer: of receivers that all got it, one."""
        if not need.ask:
            return True
        now = datetime.now(UTC)
        old = (now - timedelta(seconds=ASKS_KEPT_S)).isoformat()
        asks = asks_answered.c
        with self._engine.begin() as db:
            db.execute(delete(asks_answered).where(and_(asks.store == need.store, asks.at < old)))
            row = self._insert(asks_answered).values(store=need.store, ask=need.ask, at=now.isoformat())
            return db.execute(row.on_conflict_do_nothing().returning(asks.ask)).first() is not None

    def windows(self, need: Need) -> list[Window]:
        """Of every stream of the store and of the groups that it names: how far it goes, and what is sent now.

        What a person waits for comes first: commands, notices, then everything else.
        """
        own = store_scope(need.store)
        named = {key.rpartition(":")[0] for key in need.have} - {""}
        scopes = {own: "", **{group_scope(group): f"{group}:" for group in sorted(named | set(need.groups))}}
        found: list[Window] = []
        with self._engine.begin() as db:
            columns = downlink_streams.c
            query = select(downlink_streams).where(columns.scope.in_(scopes)).order_by(columns.stream, columns.scope)
            for row in db.execute(query).mappings().all():
                scope, stream, epoch, last = row["scope"], row["stream"], row["epoch"], int(row["last"])
                key = scopes[scope] + stream
                have = need.have.get(key)
                if have is not None and have.epoch == epoch and last < have.seq <= last + CATCH_UP:
                    last = self._catch_up(db, scope, stream, have.seq)
                after = have.seq if have is not None and have.epoch == epoch else 0
                first, until = self._next(db, scope, stream, after, last)
                found.append(Window(scope, stream, key, Offered(epoch=epoch, first=first, until=until, last=last)))
        return found

    def _catch_up(self, db: Connection, scope: str, stream: str, seq: int) -> int:
        """This log is an old copy: a store has more of the stream than it. Its numbers are not given a second time."""
        log.error(
            "the log has %s of %s only before %d, which a store has: was it put back from a copy?", stream, scope, seq
        )
        where = and_(downlink_streams.c.scope == scope, downlink_streams.c.stream == stream)
        db.execute(update(downlink_streams).where(and_(where, downlink_streams.c.last < seq)).values(last=seq))
        return seq

    def _next(self, db: Connection, scope: str, stream: str, after: int, last: int) -> tuple[int, int]:
        """The first number above `after` that is to be sent, and the last of the window that begins there."""
        columns = downlink_log.c
        here = and_(columns.scope == scope, columns.stream == stream)
        gone = obsolete.ranges(db, scope, stream)
        while True:
            first = db.execute(select(func.min(columns.seq)).where(and_(here, columns.seq > after))).scalar()
            if first is None:
                return last + 1, last
            behind = next((end for begin, end in gone if begin <= first <= end), None)
            if behind is None:
                break
            after = behind
        stop = min([first + WINDOW, *(begin for begin, _ in gone if begin > first)])
        query = select(columns.seq).where(and_(here, columns.seq > first, columns.seq < stop)).order_by(columns.seq)
        until = first
        for (seq,) in db.execute(query):
            if seq != until + 1:
                break  # a hole: what is behind it comes with the next question
            until = seq
        return int(first), int(until)

    def read(self, scope: str, stream: str, after: int, limit: int) -> list[tuple[int, bytes]]:
        """The next messages above `after`."""
        columns = downlink_log.c
        query = (
            select(columns.seq, columns.payload)
            .where(and_(columns.scope == scope, columns.stream == stream, columns.seq > after))
            .order_by(columns.seq)
            .limit(limit)
        )
        with self._engine.connect() as db:
            return [(int(seq), bytes(payload)) for seq, payload in db.execute(query)]

    def trim(self, older_than_s: float) -> int:
        """Remove what is obsolete and was written so long ago; returns how many messages went."""
        before = (datetime.now(UTC) - timedelta(seconds=older_than_s)).isoformat(timespec="milliseconds")
        removed = 0
        with self._engine.connect() as db:
            streams = [(row.scope, row.stream) for row in db.execute(select(downlink_streams)).all()]
        for scope, stream in streams:
            with self._engine.begin() as db:  # one transaction each: stores may ask meanwhile
                for first, last in list(obsolete.ranges(db, scope, stream)):
                    columns = downlink_log.c
                    which = and_(columns.scope == scope, columns.stream == stream, columns.seq.between(first, last))
                    removed += db.execute(delete(downlink_log).where(and_(which, columns.at < before))).rowcount
        return removed
