"""Dates for facts that were journalled while their store did not know what time it was.

Strategy: a small board has no battery clock. Until its clock is trusted, a fact's wall time says nothing, but its boot
id and the milliseconds since that boot do: once the store reports ``tillgate.clock.trusted.v1`` for that boot, the
table `boots` holds what must be added. The view `facts_dated` does the sum when it is read, so it does not matter
which of the two came first, and no row that was recorded is ever changed.

    SELECT dated_at, dated_by, type FROM facts_dated WHERE store = 'S0042' AND class = 'transaction' ORDER BY seq

`dated_by` is ``clock`` (the wall clock was trusted then), ``boot`` (dated afterwards), or null: nobody knows yet, and
then `dated_at` is null too. `recorded_at` stays what the wall clock said.

Source: design page "Journal, bridge, HQ" (the journal); SQLite "JSON Functions" and "Date And Time Functions";
PostgreSQL "JSON Functions and Operators". A body is read as text there, and ``\\u0000``, which JSON may hold and
PostgreSQL's text may not, is read as a blank.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, inspect, select
from sqlalchemy.dialects import postgresql, sqlite

from cloud_bridge.hq import schema
from edge.bus.envelope import Event, parse
from edge.bus.messages.facts import TYPE_OF, ClockTrusted

CLOCK_TRUSTED = TYPE_OF[ClockTrusted]
VIEW = "facts_dated"
MAX_OFFSET_MS = 253_402_300_799_000
"""The end of the year 9999: nothing that is later is a date."""

_COLUMNS = (
    "f.store, f.epoch, f.class, f.seq, f.id, f.type, f.lane, f.time, f.recorded_at, f.received_at, f.body, f.hash"
)

_SQLITE = f"""
CREATE VIEW {VIEW} AS
SELECT {_COLUMNS},
       CASE WHEN f.clock IN ('synced', 'holdover') THEN f.recorded_at
            WHEN f.clock = 'unknown'
            THEN strftime('%Y-%m-%dT%H:%M:%S', (b.offset_ms + f.mono_ms) / 1000, 'unixepoch')
                 || printf('.%03dZ', (b.offset_ms + f.mono_ms) % 1000)
       END AS dated_at,
       CASE WHEN f.clock IN ('synced', 'holdover') THEN 'clock'
            WHEN f.clock = 'unknown' AND b.offset_ms + f.mono_ms IS NOT NULL THEN 'boot'
       END AS dated_by
  FROM (SELECT facts.*, json_extract(body, '$.tgclock') AS clock, json_extract(body, '$.tgboot') AS boot,
               CASE WHEN json_extract(body, '$.tgmono') NOT GLOB '*[^0-9]*'
                     AND length(json_extract(body, '$.tgmono')) BETWEEN 1 AND 15
                    THEN CAST(json_extract(body, '$.tgmono') AS INTEGER) END AS mono_ms
          FROM facts) AS f
  LEFT JOIN boots AS b ON f.clock = 'unknown' AND b.store = f.store AND b.boot = f.boot
"""  # noqa: S608

_POSTGRESQL = rf"""
CREATE VIEW {VIEW} AS
SELECT {_COLUMNS},
       CASE WHEN f.clock IN ('synced', 'holdover') THEN f.recorded_at
            WHEN f.clock = 'unknown'
            THEN to_char(timezone('UTC', to_timestamp((b.offset_ms + f.mono_ms) / 1000)), 'YYYY-MM-DD"T"HH24:MI:SS')
                 || '.' || lpad(((b.offset_ms + f.mono_ms) % 1000)::text, 3, '0') || 'Z'
       END AS dated_at,
       CASE WHEN f.clock IN ('synced', 'holdover') THEN 'clock'
            WHEN f.clock = 'unknown' AND b.offset_ms + f.mono_ms IS NOT NULL THEN 'boot'
       END AS dated_by
  FROM (SELECT facts.*, j.own ->> 'tgclock' AS clock, j.own ->> 'tgboot' AS boot,
               CASE WHEN j.own ->> 'tgmono' ~ '^[0-9]{{1,15}}$' THEN (j.own ->> 'tgmono')::bigint END AS mono_ms
          FROM facts CROSS JOIN LATERAL (SELECT replace(facts.body, '\u0000', '\u0020')::json AS own) AS j) AS f
  LEFT JOIN boots AS b ON f.clock = 'unknown' AND b.store = f.store AND b.boot = f.boot
"""  # noqa: S608


def make_view(db: Connection) -> None:
    """Make `facts_dated` in a database that has not got it."""
    if VIEW not in inspect(db).get_view_names():
        db.exec_driver_sql((_SQLITE if db.dialect.name == "sqlite" else _POSTGRESQL).replace("%", _percent(db)))


def _percent(db: Connection) -> str:
    """psycopg takes a lone percent sign for a parameter's place."""
    return "%" if db.dialect.name == "sqlite" else "%%"


def note(db: Connection, store: str, event: Event) -> None:
    """A store has said what its boot's clock must be moved by. What says nothing usable is left as a fact."""
    try:
        told = ClockTrusted.model_validate(event.get("data"), strict=False)
    except ValidationError:
        return
    if not 0 < len(told.boot) <= 64 or "\0" in told.boot or not 0 <= told.offset_ms <= MAX_OFFSET_MS:
        return
    insert: Any = sqlite.insert if db.dialect.name == "sqlite" else postgresql.insert
    row = insert(schema.boots).values(store=store, boot=told.boot, offset_ms=told.offset_ms)
    db.execute(row.on_conflict_do_update(index_elements=["store", "boot"], set_={"offset_ms": row.excluded.offset_ms}))


def recall(db: Connection) -> None:
    """Fill `boots` from facts that were recorded before there was such a table."""
    facts = schema.facts.c
    query = select(facts.store, facts.body).where(facts.type == CLOCK_TRUSTED).order_by(facts.store, facts.seq)
    for store, body in db.execute(query).all():
        note(db, store, parse(body.encode()))
