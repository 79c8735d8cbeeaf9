"""What stores say of themselves, into HQ's database: the newest per store, and when HQ heard it by its own clock.

Strategy: several receivers may get a store's statuses out of order, so within one life of a bridge only a higher number
counts; a new life counts as it comes. A last will belongs to one connection: it says that the link is down only while
nothing of a later connection has been heard. An epoch that is heard of after a newer one began is another gateway
with the same name; that is noted here and shown by the fleet view.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Engine, select, update
from sqlalchemy.dialects import postgresql, sqlite

from cloud_bridge.hq import schema
from edge.bus import topics
from edge.bus.envelope import now_utc
from edge.bus.messages.facts import first_error
from edge.bus.messages.links import StoreStatus

log = logging.getLogger(__name__)

MAX_STATUS_BYTES = 32 * 1024
STATUS_TOPIC_LEVEL = topics.last_level(topics.up_status("any"))


class Statuses:
    """Writes into the database behind `engine`. Blocking: call it in a thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._insert: Any = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert

    def take(self, messages: Sequence[tuple[str, bytes]], now: str | None = None) -> list[tuple[str, bytes, str]]:
        """Record (topic, payload) statuses in one transaction; returns those that cannot be read, with the reason.

        `schema.AWAY` when the database is away or busy: nothing was recorded, try again later.
        """
        now = now or now_utc()
        good: list[tuple[str, StoreStatus, str]] = []
        bad: list[tuple[str, bytes, str]] = []
        for topic, payload in messages:
            try:
                if len(payload) > MAX_STATUS_BYTES:
                    raise ValueError(f"a status of {len(payload)} bytes; at most {MAX_STATUS_BYTES} are taken")
                status = StoreStatus.model_validate_json(payload)
                text = payload.decode()
                if "\\u0000" in text:
                    raise ValueError("a status with a NUL in it")
                store = topics.store_of(topic)
                topics.up_status(store)  # ValueError for a name that no store has
                good.append((store, status, text))
            except ValidationError as error:
                bad.append((topic, payload, f"status: {first_error(error)}"))
            except ValueError as error:
                bad.append((topic, payload, str(error)))
        with self._engine.begin() as db:
            for store, status, text in sorted(
                good, key=lambda item: item[0]
            ):  # one order: receivers never block in a ring
                self._take(db, store, status, text, now)
        return bad

    def _take(self, db: Connection, store: str, status: StoreStatus, text: str, now: str) -> None:
        table, where = schema.store_status, schema.store_status.c.store == store
        known = db.execute(select(table).where(where).with_for_update()).mappings().one_or_none()
        if status.link == "unknown":
            if known is not None and (known["life"], known["connection"]) == (status.life, status.connection):
                db.execute(update(table).where(where).values(lost_at=now))
            return
        seen = self._insert(schema.stores).values(store=store, first_seen=now, last_seen=now)
        db.execute(seen.on_conflict_do_update(index_elements=["store"], set_={"last_seen": now}))
        self._hear(db, store, status.epoch, now)
        if known is not None and known["life"] == status.life and known["number"] >= status.number:
            return
        values = {
            "heard_at": now,
            "lost_at": None,
            "life": status.life,
            "connection": status.connection,
            "number": status.number,
            "body": text,
        }
        row = self._insert(table).values(store=store, **values)
        db.execute(row.on_conflict_do_update(index_elements=["store"], set_=values))

    def _hear(self, db: Connection, store: str, epoch: str, now: str) -> None:
        if not epoch:
            return
        heard = self._insert(schema.epochs_heard).values(store=store, epoch=epoch, first_at=now, last_at=now)
        db.execute(heard.on_conflict_do_update(index_elements=["store", "epoch"], set_={"last_at": now}))
