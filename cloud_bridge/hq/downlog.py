"""HQ's own log of everything it sends down, per store (or group) and stream: numbered once, replayed as often as asked.

Strategy: a message is written here with its number before it is published, so the cloud broker need not keep anything.
A stream's epoch is a UUIDv7 made with its first message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Engine, and_, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from cloud_bridge.hq.schema import downlink_log, downlink_streams
from edge.bus.envelope import new_id, now_utc
from edge.bus.messages.links import Need

Make = Callable[[str, int], bytes]
"""(epoch, seq) -> the payload, which carries both in its header."""


def store_scope(store: str) -> str:
    """The scope of what goes to one store."""
    return f"stores/{store}"


def group_scope(group: str) -> str:
    """The scope of what goes to every store of a group."""
    return f"groups/{group}"


class Downlog:
    """The log in the database behind `engine`. Blocking."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._insert: Any = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert

    def append(self, scope: str, stream: str, makes: Sequence[Make]) -> list[tuple[int, bytes]]:
        """Number and keep messages, all or none; returns (seq, payload) of each."""
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
        return made

    def missing(self, need: Need) -> list[tuple[str, str, int]]:
        """(scope, stream, after) of every stream of which the store that asks has not everything.

        Streams of its own that it has never heard of are among them; streams of a group only when it names them.
        """
        wanted: dict[tuple[str, str], tuple[str, int]] = {}
        own = store_scope(need.store)
        with self._engine.connect() as db:
            streams = db.execute(select(downlink_streams.c.stream).where(downlink_streams.c.scope == own))
            for (stream,) in streams:
                wanted[own, stream] = ("", 0)
            for key, position in need.have.items():
                group, colon, stream = key.rpartition(":")
                wanted[group_scope(group) if colon else own, stream] = (position.epoch, position.seq)
            found: list[tuple[str, str, int]] = []
            for (scope, stream), (epoch, seq) in sorted(wanted.items()):
                where = and_(downlink_streams.c.scope == scope, downlink_streams.c.stream == stream)
                row = db.execute(select(downlink_streams).where(where)).mappings().one_or_none()
                if row is None:
                    continue
                after = seq if epoch == row["epoch"] else 0
                if after < row["last"]:
                    found.append((scope, stream, after))
        return found

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
