"""HQ's keys of the customers that facts speak of: kept while the facts are recorded, found by name, destroyed for good.

Strategy: a key comes with the facts and is kept in their transaction; what it opens tells whose it is, and that name
stands beside it, as long as the key does. A row whose key is gone stays: the same key, should it come again with a
batch that was under way or from a store put back to an older day, is not taken.

Who is erased here is remembered by a digest of the name under a secret of this database. So a store that knows them by
a key that was never here finds no place for it either; it is then one more that must be told (`erasing.py`).

Whoever takes keys and whoever erases must not pass each other: in PostgreSQL they hold a lock, in SQLite one writes.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from pydantic import ValidationError
from sqlalchemy import Connection, RowMapping, and_, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from cloud_bridge.hq import rows
from cloud_bridge.hq.schema import erasures, hq_secret, subjects
from cloud_bridge.hq.unpack import Received
from edge.bus.envelope import Event, now_utc
from edge.bus.messages.facts import FACTS, TYPE_OF, SubjectErased
from edge.bus.messages.personal import Person, about
from edge.journal import personal

ERASED = TYPE_OF[SubjectErased]
LOCK = 7417
NAME_CHARACTERS = 200


def keep(db: Connection, insert: Any, received: Sequence[Received], now: str) -> None:
    """Keep the keys that came with these batches, whose facts are being recorded. Costs nothing when none came."""
    brought: dict[tuple[str, str], tuple[bytes, Received]] = {
        (batch.batch.store, pseudonym): (key, batch) for batch in received for pseudonym, key in batch.keys.items()
    }
    if not brought:
        return
    lock(db, alone=False)
    known = {
        (row.store, row.pseudonym): row
        for row in db.execute(select(subjects).where(tuple_(subjects.c.store, subjects.c.pseudonym).in_(brought)))
    }
    fresh = []
    for place, (key, batch) in sorted(brought.items(), key=lambda item: item[0]):
        if place not in known:
            fresh.append(_row(db, *place, key, batch, now))
        elif known[place].done_at is not None and _spoken_of_since(batch, place[1], known[place].done_at):
            # The store had destroyed this key and has it again: it was put back to an earlier day.
            there = and_(subjects.c.store == place[0], subjects.c.pseudonym == place[1])
            db.execute(update(subjects).where(there).values(done_at=None, command=None))
    if fresh:
        db.execute(insert(subjects).on_conflict_do_nothing(), fresh)


def _row(db: Connection, store: str, pseudonym: str, key: bytes, batch: Received, now: str) -> dict[str, Any]:
    person = _whose(batch, pseudonym, key)
    erasure = _erasure_of(db, person) if person is not None else None
    row = dict.fromkeys(subjects.columns.keys())
    row |= {"store": store, "pseudonym": pseudonym, "since": now}
    if erasure is not None:
        return row | {"erased_at": now, "erasure": erasure}
    if person is not None:
        row |= {"kind": rows.text(person.kind), "name": rows.text(person.name, NAME_CHARACTERS)}
    return row | {"key": key}


def _whose(batch: Received, pseudonym: str, key: bytes) -> Person | None:
    """Whom the first fact that can be opened with the key names."""
    wanted = pseudonym.encode()
    for own, body in zip(batch.owns, batch.batch.bodies, strict=True):
        row = FACTS.get(str(own.type))
        whose = about(row.data) if row is not None else None
        if whose is None or wanted not in body:
            continue
        try:
            data = personal.opened(orjson.loads(body), {pseudonym: key}.get)["data"]
        except (personal.Unopenable, orjson.JSONDecodeError):
            continue
        if isinstance(name := data.get(whose.subject), str):
            return Person(whose.subject, name)
    return None


def _spoken_of_since(batch: Received, pseudonym: str, moment: str) -> bool:
    """Whether a fact about them was recorded after `moment`, by the store's clock."""
    wanted = pseudonym.encode()
    return any(
        str(own.tgrecorded) > moment and wanted in body
        for own, body in zip(batch.owns, batch.batch.bodies, strict=True)
    )


def note_erased(db: Connection, store: str, event: Event) -> None:
    """A store has destroyed a key: so do we, whoever asked it to. Called while the fact is recorded."""
    try:
        pseudonym = SubjectErased.model_validate(event.get("data"), strict=False).subject
    except ValidationError:
        return  # it stays a fact like any other
    if personal.PSEUDONYM.fullmatch(pseudonym) is None:
        return
    lock(db, alone=False)
    now = now_utc()
    done = rows.text(event.get("time"), 40) or now
    make: Any = sqlite.insert if db.dialect.name == "sqlite" else postgresql.insert
    values = {"store": store, "pseudonym": pseudonym, "since": now, "erased_at": now, "done_at": done}
    gone = {"key": None, "kind": None, "name": None, "done_at": done}
    db.execute(make(subjects).values(values).on_conflict_do_update(index_elements=["store", "pseudonym"], set_=gone))
    there = and_(subjects.c.store == store, subjects.c.pseudonym == pseudonym, subjects.c.erased_at.is_(None))
    db.execute(update(subjects).where(there).values(erased_at=now))


# -- who is erased -----------------------------------------------------------------------------------------------------


def lock(db: Connection, *, alone: bool) -> None:
    """Until the transaction ends: whoever erases is `alone`, those who take keys are many."""
    if db.dialect.name == "postgresql":
        kind = "" if alone else "_shared"
        db.exec_driver_sql(f"SELECT pg_advisory_xact_lock{kind}({LOCK})")


def digest_of(db: Connection, person: Person) -> bytes:
    """What stands for the name of somebody who is erased."""
    query = select(hq_secret.c.secret).where(hq_secret.c.name == "subjects")
    secret = db.execute(query).scalar()
    if secret is None:
        make: Any = sqlite.insert if db.dialect.name == "sqlite" else postgresql.insert
        row = make(hq_secret).values(name="subjects", secret=secrets.token_bytes(32))
        db.execute(row.on_conflict_do_nothing())
        secret = db.execute(query).scalar()
    return hmac.digest(bytes(secret or b""), f"{person.kind}\0{person.name}".encode(), hashlib.sha256)


def _erasure_of(db: Connection, person: Person) -> str | None:
    if db.execute(select(erasures.c.id).limit(1)).scalar() is None:
        return None
    return db.execute(select(erasures.c.id).where(erasures.c.digest == digest_of(db, person))).scalar()


# -- reading facts -----------------------------------------------------------------------------------------------------


def keys(db: Connection, store: str, pseudonyms: Iterable[str]) -> dict[str, bytes]:
    """The keys that are here: pseudonym to key."""
    wanted = and_(subjects.c.store == store, subjects.c.pseudonym.in_(list(pseudonyms)), subjects.c.key.is_not(None))
    return {row.pseudonym: bytes(row.key) for row in db.execute(select(subjects).where(wanted))}


def opened(db: Connection, store: str, body: str) -> dict[str, Any]:
    """A fact as the till sent it, with what is said of customers who are not erased. personal.Unopenable."""
    there = keys(db, store, personal.pseudonyms_in(body.encode()))
    return personal.opened(orjson.loads(body), there.get)


def of_person(db: Connection, person: Person) -> list[RowMapping]:
    """The rows of somebody whose keys are here, by store."""
    query = select(subjects).where(and_(subjects.c.kind == person.kind, subjects.c.name == person.name))
    return list(db.execute(query.where(subjects.c.key.is_not(None)).order_by(subjects.c.store)).mappings())


def everybody(db: Connection, store: str | None = None) -> list[RowMapping]:
    """All rows, the newest last."""
    query = select(subjects).order_by(subjects.c.since, subjects.c.store, subjects.c.pseudonym)
    if store is not None:
        query = query.where(subjects.c.store == store)
    return list(db.execute(query.where(or_(subjects.c.key.is_not(None), subjects.c.erased_at.is_not(None)))).mappings())
