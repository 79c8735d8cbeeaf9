"""Erasing a customer at HQ and in every store that knows them, and giving out what is kept about one.

    key here      destroyed at once, in one transaction with the note of who is erased
    each store    told by a signed command, ``privacy.erase``, that names their pseudonym there and nobody
    done          when the store's own fact says so (`tillgate.subject.erased.v1`)

Strategy: what is still to be told stands in `subjects`, so whatever interrupts this, the same command again does the
rest and nothing twice. The chains stay as they are: facts keep their sealed parts, whose keys are gone.

A database does not forget at once what it has deleted. SQLite overwrites it with zeros here and its log is folded in;
PostgreSQL's table is written anew (``VACUUM FULL``). What PostgreSQL keeps in its write-ahead log and whoever runs it
in backups lives until those are recycled.

Source: SQLite, "PRAGMA secure_delete", "PRAGMA wal_checkpoint"; PostgreSQL, "VACUUM".
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import orjson
from sqlalchemy import Connection, Engine, and_, insert, or_, select, update
from sqlalchemy.exc import DBAPIError

from cloud_bridge.hq import commands
from cloud_bridge.hq.recipients import Recipient
from cloud_bridge.hq.schema import commands_answered, commands_sent, erasures, facts, rejected, subjects
from cloud_bridge.hq.subjects import digest_of, lock, of_person
from edge.bus import topics
from edge.bus.envelope import new_id, now_utc
from edge.bus.messages.facts import ABOUT_CUSTOMERS, FactClass
from edge.bus.messages.personal import Person
from edge.journal import personal

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

OPERATION = "privacy.erase"
LIFETIME = timedelta(days=366)
"""A store that has been away for months does it when it is back."""

FOLD_WITHIN_S = 30.0
AROUND_A_RECEIPT = timedelta(days=1)
PAGE = 1_000

State = Literal["to be told", "told", "done", "failed", "expired"]
"""to be told: no command has gone out; expired: the store has not answered in a year."""


@dataclass(frozen=True, slots=True)
class AtStore:
    """Where an erasure is in one store. `pseudonym`: of the customer there."""

    store: str
    pseudonym: str
    state: State
    command: str | None
    done_at: str | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Erasure:
    """One customer's: whom is not known any more. `swept`: nothing of the keys is left in the database's files."""

    id: str
    at: str
    by: str
    stores: tuple[AtStore, ...]
    swept: bool | None = None

    @property
    def done(self) -> bool:
        """Every store that is known to know them has erased them."""
        return all(one.state == "done" for one in self.stores)

    def as_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**asdict(self), "done": self.done}


def destroy(engine: Engine, person: Person, by: str) -> Erasure:
    """Destroy every key of `person` here, and remember that they are erased. Stores are not told yet: `tell`."""
    with engine.begin() as db:
        lock(db, alone=True)
        if db.dialect.name == "sqlite":
            db.exec_driver_sql("PRAGMA secure_delete = ON")
        digest, now = digest_of(db, person), now_utc()
        id_ = db.execute(select(erasures.c.id).where(erasures.c.digest == digest)).scalar()
        if id_ is None:
            id_ = new_id()
            db.execute(insert(erasures).values(id=id_, digest=digest, at=now, by=by))
        for row in of_person(db, person):
            there = and_(subjects.c.store == row["store"], subjects.c.pseudonym == row["pseudonym"])
            gone = {"key": None, "kind": None, "name": None, "erased_at": now, "erasure": id_}
            db.execute(update(subjects).where(there).values(gone))
            _scrub_rejected(db, row["store"], bytes(row["key"]))
        if db.dialect.name == "sqlite":
            db.exec_driver_sql("REINDEX subjects")
    return replace(one(engine, id_), swept=_swept(engine))


def _scrub_rejected(db: Connection, store: str, key: bytes) -> None:
    """Batches that were refused are kept whole, with the keys in their headers."""
    text = personal.key_as_text(key).encode()
    of_store = [topics.up(store, one.value) for one in FactClass]
    query = select(rejected.c.id, rejected.c.payload).where(rejected.c.topic.in_(of_store))
    for id_, payload in db.execute(query).all():
        if text in payload:
            scrubbed = bytes(payload).replace(text, b"-" * len(text))
            db.execute(update(rejected).where(rejected.c.id == id_).values(payload=scrubbed))


def _swept(engine: Engine) -> bool:
    """Have the database let go of what was deleted; False when it does not let us."""
    if engine.dialect.name == "postgresql":
        try:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
                db.exec_driver_sql(f"SET lock_timeout = {int(FOLD_WITHIN_S * 1000)}")
                for table in (subjects, rejected):
                    db.exec_driver_sql(f"VACUUM (FULL) {table.name}")
        except DBAPIError:
            return False
        return True
    until = time.monotonic() + FOLD_WITHIN_S
    raw = engine.raw_connection()
    try:
        while True:
            busy, _, _ = raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not busy:
                return True
            if time.monotonic() > until:
                return False
            time.sleep(0.1)
    finally:
        raw.close()


def tell(engine: Engine, key: Ed25519PrivateKey, erasure: Erasure, by: str) -> list[tuple[str, bytes]]:
    """Sign a command for each store that is to be told; (topic, payload) to publish."""
    out = []
    for one in erasure.stores:
        if one.state not in ("to be told", "failed", "expired"):
            continue
        there = and_(subjects.c.store == one.store, subjects.c.pseudonym == one.pseudonym)

        def note(db: Connection, command: str, there: Any = there) -> None:
            db.execute(update(subjects).where(there).values(command=command))

        _, topic, payload = commands.give(
            engine, key, Recipient(store=one.store), OPERATION, {"subject": one.pseudonym}, by=by, lifetime=LIFETIME,
            also=note,
        )  # fmt: skip
        out.append((topic, payload))
    return out


# -- where they are ----------------------------------------------------------------------------------------------------


def one(engine: Engine, id_: str) -> Erasure:
    """One erasure; LookupError when there is none."""
    found = look(engine, id_)
    if not found:
        raise LookupError(f"there is no erasure {id_!r}")
    return found[0]


def look(engine: Engine, id_: str | None = None) -> list[Erasure]:
    """All erasures, or one; the newest first."""
    with engine.connect() as db:
        query = select(erasures).order_by(erasures.c.at.desc(), erasures.c.id)
        if id_ is not None:
            query = query.where(erasures.c.id == id_)
        found = db.execute(query).all()
        stores: dict[str, list[AtStore]] = {}
        joined = (
            select(subjects, commands_sent.c.expires_at, commands_answered.c.ok, commands_answered.c.answer)
            .outerjoin(commands_sent, commands_sent.c.id == subjects.c.command)
            .outerjoin(
                commands_answered,
                and_(commands_answered.c.command == subjects.c.command, commands_answered.c.store == subjects.c.store),
            )
            .where(subjects.c.erasure.in_([row.id for row in found]))
            .order_by(subjects.c.store, subjects.c.pseudonym)
        )
        for row in db.execute(joined).all():
            stores.setdefault(row.erasure, []).append(_at_store(row))
    return [Erasure(row.id, row.at, row.by, tuple(stores.get(row.id, ()))) for row in found]


def _at_store(row: Any) -> AtStore:
    problem = (orjson.loads(row.answer).get("problem") or {}) if row.answer else {}
    said = f"{problem['code']}: {problem['detail']}" if problem else None
    state: State = "told"
    if row.done_at is not None:
        state = "done"
    elif row.command is None:
        state = "to be told"
    elif row.ok:
        state = "done"
    elif row.ok is False:
        state = "failed"
    elif row.expires_at is not None and row.expires_at <= now_utc():
        state = "expired"
    return AtStore(row.store, row.pseudonym, state, row.command, row.done_at, said)


# -- giving out --------------------------------------------------------------------------------------------------------


def export(engine: Engine, person: Person) -> dict[str, Any]:
    """What HQ has about somebody, opened: per store their facts, and all facts of the receipts that these name."""
    stores = []
    with engine.connect() as db:
        for row in of_person(db, person):
            store, pseudonym, key = row["store"], row["pseudonym"], bytes(row["key"])
            own = {pseudonym: key}.get
            named = [personal.opened_as_far_as_possible(event, own) for event in _speaking_of(db, store, pseudonym)]
            stores.append(
                {
                    "store": store,
                    "pseudonym": pseudonym,
                    "since": row["since"],
                    "facts": named,
                    "receipts": list(_receipts(db, store, named)),
                }
            )
    return {"kind": person.kind, "name": person.name, "at": now_utc(), "stores": stores}


def _speaking_of(db: Connection, store: str, pseudonym: str) -> Iterator[dict[str, Any]]:
    text = f'"tgsealed":"{pseudonym}"'
    query = select(facts.c.body).where(
        and_(
            facts.c.store == store,
            facts.c["class"].in_([one.value for one in ABOUT_CUSTOMERS]),
            facts.c.body.like(f"%{text}%"),
        )
    )
    ordered = query.order_by(facts.c.epoch, facts.c["class"], facts.c.seq)
    for (body,) in db.execute(ordered.execution_options(yield_per=PAGE)):
        if text in body:  # LIKE takes _ for any character
            yield orjson.loads(body)


def _receipts(db: Connection, store: str, named: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The other facts of the same lane with the same receipt number, recorded within a day of it."""
    wanted: dict[tuple[str, str], list[datetime]] = {}
    for event in named:
        number, moment = event["data"].get("receipt_number"), _moment(event.get("tgrecorded"))
        if isinstance(number, str) and moment is not None:
            wanted.setdefault((str(event.get("source")), number), []).append(moment)
    if not wanted:
        return
    moments = [moment for several in wanted.values() for moment in several]
    first, last = min(moments) - AROUND_A_RECEIPT, max(moments) + AROUND_A_RECEIPT
    query = select(facts.c.body).where(
        and_(
            facts.c.store == store,
            facts.c.lane.in_(sorted({source.rsplit("/", 1)[-1] for source, _ in wanted})),
            facts.c["class"].not_in([one.value for one in ABOUT_CUSTOMERS]),
            or_(facts.c.recorded_at.is_(None), facts.c.recorded_at.between(first.isoformat(), last.isoformat())),
            facts.c.body.like('%"receipt_number"%'),
        )
    )
    for (body,) in db.execute(query.order_by(facts.c.recorded_at).execution_options(yield_per=PAGE)):
        event = orjson.loads(body)
        data = event.get("data")
        number = data.get("receipt_number") if isinstance(data, dict) else None
        moment = _moment(event.get("tgrecorded"))
        near = wanted.get((str(event.get("source")), str(number)), ())
        if moment is not None and any(abs(moment - one) <= AROUND_A_RECEIPT for one in near):
            yield event


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None
