"""New facts into the table `facts`, many at a time: by COPY into PostgreSQL, by one prepared INSERT into SQLite.

Strategy: a drain is millions of these rows, so they go around SQLAlchemy's statements, on the connection and in the
transaction that it manages. Errors come out as SQLAlchemy's own all the same.

Source: PostgreSQL, "COPY" (binary format); psycopg 3, "Using COPY TO and COPY FROM".
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from cloud_bridge.hq import schema
from cloud_bridge.hq.unpack import Own

NAMES = tuple(column.name for column in schema.facts.columns)
_COPY = f"COPY facts ({', '.join(NAMES)}) FROM STDIN (FORMAT BINARY)"
_COPY_TYPES = {"seq": "int8", "hash": "bytea"}
_INSERT = f"INSERT INTO facts ({', '.join(NAMES)}) VALUES ({', '.join('?' * len(NAMES))})"  # noqa: S608

Row = tuple[str, str, str, int, str | None, str | None, str | None, str | None, str | None, str, bytes | None, str]
"""In the order of `NAMES`: store, epoch, class, seq, id, type, lane, time, recorded_at, body, hash, received_at."""


def row_of(chain: tuple[str, str, str], seq: int, own: Own, body: bytes, digest: bytes, now: str) -> Row:
    """The row of one fact. What does not fit into a column is cut there; `body` has it whole."""
    lane = _lane(own.source) if type(own.source) is str else None
    return (
        *chain,
        seq,
        text(own.id, 200),
        text(own.type, 200),
        lane,
        text(own.time),
        text(own.tgrecorded),
        body.decode(),
        digest or None,
        now,
    )


@functools.lru_cache(maxsize=4_096)
def _lane(source: str) -> str | None:
    parts = source.split("/")
    return (text(parts[4]) or None) if len(parts) == 5 and parts[3] == "lanes" else None


def text(value: object, length: int = 64) -> str | None:
    """Text for a column: bounded, and without NUL, which PostgreSQL does not take."""
    if not isinstance(value, str):
        return None
    short = value[:length]
    return short.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in short else short


def insert(db: Connection, rows: Iterable[Row]) -> None:
    """Insert `rows`, none of which may be there. Raises what SQLAlchemy raises."""
    if db.dialect.name == "sqlite":
        db.exec_driver_sql(_INSERT, list(rows))
    else:
        _copy(db, rows)


def _copy(db: Connection, rows: Iterable[Row]) -> None:
    import psycopg

    driver: Any = db.connection.driver_connection
    try:
        with driver.cursor() as cursor, cursor.copy(_COPY) as copy:
            copy.set_types([_COPY_TYPES.get(name, "text") for name in NAMES])
            write = copy.write_row
            for row in rows:
                write(row)
    except psycopg.Error as error:
        raise DBAPIError.instance(_COPY, None, error, psycopg.Error, dialect=db.dialect) from error
