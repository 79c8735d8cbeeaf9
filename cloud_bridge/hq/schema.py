"""HQ's tables, and how its database is opened: SQLite by default, PostgreSQL by URL, one description for both.

Strategy: a fact's key is (store, epoch, class, seq), so the same fact can come twice and be recorded once. `body` is
the journal's exact text. `heads` holds one row per chain and is locked by whoever records into that chain, so any
number of receivers may work side by side.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Engine,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    inspect,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

BUSY_TIMEOUT_MS = 30_000

AWAY = (OperationalError, InternalError, InterfaceError, PoolTimeout)
"""What is raised while the database is away, busy, or for reading only (a standby that takes over). Try again later."""

metadata = MetaData()


def _chain_columns() -> list[Column[Any]]:
    return [
        Column("store", String(64), primary_key=True),
        Column("epoch", String(64), primary_key=True),
        Column("class", String(16), primary_key=True),
    ]


stores = Table(
    "stores",
    metadata,
    Column("store", String(64), primary_key=True),
    Column("first_seen", String(32), nullable=False),
    Column("last_seen", String(32), nullable=False),
)

heads = Table(
    "heads",
    metadata,
    *_chain_columns(),
    Column("first_seen", String(32), nullable=False),
    Column("contiguous", BigInteger, nullable=False),  # everything up to it is here, or accounted for in `gone`
    Column("highest", BigInteger, nullable=False),  # above contiguous: there is a hole
    Column("hash", LargeBinary(32)),  # of contiguous
    Column("facts", BigInteger, nullable=False),
    Column("duplicates", BigInteger, nullable=False),  # facts that came again and were ignored
)

facts = Table(
    "facts",
    metadata,
    *_chain_columns(),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("lane", String(64)),
    Column("time", Text),
    Column("recorded_at", Text),
    Column("body", Text, nullable=False),
    Column("hash", LargeBinary(32)),  # null: the chain before it is not known here
    Column("received_at", String(32), nullable=False),
    Index("facts_by_id", "id"),
)

# Sequences that will never come, and why: evicted at the store, or refused here for good.
gone = Table(
    "gone",
    metadata,
    *_chain_columns(),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
    Column("why", String(16), nullable=False),  # evicted, expired, damaged (at the store); omitted, refused
    Column("at", String(32), nullable=False),
)

# Quarantine: what came and could not be recorded as facts, whole, with its reason.
rejected = Table(
    "rejected",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", String(32), nullable=False),
    Column("last_at", String(32), nullable=False),
    Column("topic", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("fingerprint", String(64), nullable=False, unique=True),
    Column("times", Integer, nullable=False),
    Column("alarm", Boolean, nullable=False),  # a person must look: the journal was changed, or two gateways are one
)
rejected_by_topic = Index("rejected_by_topic", rejected.c.topic, rejected.c.alarm, rejected.c.last_at, rejected.c.times)
"""Answers what the fleet view asks without touching the payloads."""

# What each store said of itself last. Times are HQ's own.
store_status = Table(
    "store_status",
    metadata,
    Column("store", String(64), primary_key=True),
    Column("heard_at", String(32), nullable=False),
    Column("lost_at", String(32)),  # its last will came; null: nothing says that the link is down
    Column("life", String(64), nullable=False),
    Column("connection", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("body", Text, nullable=False),  # StoreStatus, as it came; a last will leaves the body before it
)

# Which epochs of a store were heard of in statuses, and when: two at the same time are two gateways.
epochs_heard = Table(
    "epochs_heard",
    metadata,
    Column("store", String(64), primary_key=True),
    Column("epoch", String(64), primary_key=True),
    Column("first_at", String(32), nullable=False),
    Column("last_at", String(32), nullable=False),
)

# What a boot's monotonic clock must be moved by to be the time of day; see dating.py.
boots = Table(
    "boots",
    metadata,
    Column("store", String(64), primary_key=True),
    Column("boot", String(64), primary_key=True),
    Column("offset_ms", BigInteger, nullable=False),
)

# The stores' reports of their outages: facts of one type, where they are found without a search.
outages = Table(
    "outages",
    metadata,
    Column("store", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("ended", String(40), nullable=False),
    Column("body", Text, nullable=False),  # Outage
    Index("outages_by_end", "store", "ended"),
)

downlink_streams = Table(
    "downlink_streams",
    metadata,
    Column("scope", String(80), primary_key=True),  # stores/{store} or groups/{group}
    Column("stream", String(64), primary_key=True),
    Column("epoch", String(64), nullable=False),
    Column("last", BigInteger, nullable=False),
)

downlink_log = Table(
    "downlink_log",
    metadata,
    Column("scope", String(80), primary_key=True),
    Column("stream", String(64), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("payload", LargeBinary, nullable=False),
    Column("at", String(32), nullable=False),
    ForeignKeyConstraint(["scope", "stream"], ["downlink_streams.scope", "downlink_streams.stream"]),
)

# Which questions for what a store misses have been taken by a receiver: all may hear them, one answers.
asks_answered = Table(
    "asks_answered",
    metadata,
    Column("store", String(64), primary_key=True),
    Column("ask", String(64), primary_key=True),
    Column("at", String(40), nullable=False),
)

# What was sent down, told apart; the messages themselves are in downlink_log.
prices_sent = Table(
    "prices_sent",
    metadata,
    Column("scope", String(80), primary_key=True),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
    Column("version", String(64), nullable=False),
    Column("effective_at", String(40), nullable=False),  # local time of each store
    Column("published_at", String(40), nullable=False),
)

commands_sent = Table(
    "commands_sent",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("scope", String(80), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("operation", String(64), nullable=False),
    Column("parameters", Text, nullable=False),
    Column("by", String(64), nullable=False),
    Column("issued_at", String(32), nullable=False),
    Column("expires_at", String(32), nullable=False),
    Index("commands_sent_by_scope", "scope", "seq"),
)

# What stores said of commands: facts of two types, where they are found without a search. One row per store and
# command, and one per answer to something that was no command of ours (command is then the fact's own id).
commands_answered = Table(
    "commands_answered",
    metadata,
    Column("store", String(64), primary_key=True),
    Column("command", String(64), primary_key=True),
    Column("ours", Boolean, nullable=False),
    Column("received_at", String(40)),  # by the store's clock
    Column("finished_at", String(40)),
    Column("ok", Boolean),
    Column("answer", Text),  # CommandFinished
    Index("commands_answered_by_command", "command"),
)

# The customers that a store's facts speak of. Each has another key and pseudonym in every store.
subjects = Table(
    "subjects",
    metadata,
    Column("store", String(64), primary_key=True),
    Column("pseudonym", String(16), primary_key=True),
    Column("key", LargeBinary(32)),  # null: erased, and never taken again
    Column("kind", String(64)),  # member
    Column("name", Text),  # the member's number; null: erased, or not found out
    Column("since", String(32), nullable=False),
    Column("erased_at", String(32)),  # here
    Column("erasure", String(64)),  # the one that did it; null: the store did, of itself
    Column("command", String(64)),  # by which the store was told; null: it is still to be told
    Column("done_at", String(40)),  # the store says it has erased them, by its clock
    Index("subjects_by_name", "name", "kind"),
    Index("subjects_by_erasure", "erasure"),
)

# Who was erased from HQ on: a digest of the name, so that what comes later brings them back nowhere.
erasures = Table(
    "erasures",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("at", String(32), nullable=False),
    Column("by", String(64), nullable=False),
)

hq_secret = Table(
    "hq_secret",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("secret", LargeBinary(32), nullable=False),
)

notices_sent = Table(
    "notices_sent",
    metadata,
    Column("scope", String(80), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("id", String(64), nullable=False),
    Column("text", Text, nullable=False),  # empty: withdrawn
    Column("level", String(16), nullable=False),
    Column("issued_at", String(32), nullable=False),
    Column("until", String(32), nullable=False),
)


certificate_requests = Table(
    "certificate_requests",
    metadata,
    Column("store", String(64), primary_key=True),
    Column("key_sha256", String(64), nullable=False),
    Column("request", Text, nullable=False),
    Column("asked_at", String(32), nullable=False),
    Column("certificate", Text),
    Column("renew_at", String(32)),
    Column("refused", Text),
)


class BadUrl(ValueError):
    """The database URL cannot be used; the text says what one looks like."""


def missing_file(url: str) -> str | None:
    """The SQLite file that `url` names and that is not there; None when it is, or the database is another. BadUrl."""
    parsed = _parsed(url)
    file = parsed.database if parsed.get_backend_name() == "sqlite" else None
    return file if file and file != ":memory:" and not Path(file).exists() else None


def open_engine(url: str) -> Engine:
    """The database at `url` (``sqlite:///hq.db``, ``postgresql+psycopg://user@host/db``) with its tables made.

    BadUrl when it is no such URL; `sqlalchemy.exc.OperationalError` when the database does not answer.
    """
    parsed = _parsed(url)
    engine = create_engine(parsed, pool_pre_ping=parsed.get_backend_name() != "sqlite")
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine)
    from cloud_bridge.hq import dating

    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # Two receivers starting at once would both try to make the tables.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7416)")
        fresh = not inspect(connection).has_table(boots.name)
        metadata.create_all(connection)
        rejected_by_topic.create(connection, checkfirst=True)  # in a database that was there before it
        dating.make_view(connection)
        if fresh:
            dating.recall(connection)
    return engine


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise BadUrl(f"{url!r} is no database URL; write sqlite:///hq.db or postgresql+psycopg://...") from None
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise BadUrl(f"{parsed.get_backend_name()!r} is not known here; use sqlite or postgresql+psycopg")
    return parsed


def _prepare_sqlite(engine: Engine) -> None:
    """WAL with full syncs; transactions begin by taking the write lock, so two receivers wait instead of failing."""

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _: object) -> None:
        connection.isolation_level = None  # sqlite3 would begin late, with a lock that cannot be upgraded
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begun(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
