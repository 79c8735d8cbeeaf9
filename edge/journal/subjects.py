"""The keys of the people that facts are about: one row each in ``store.db``, until the person is erased.

Strategy: a person is found by a keyed digest of what names them (`lookup`), so that the table is no list of members;
name and key are sealed in one piece. The writer makes a key in the transaction of the first fact that needs it, so a
fact and its key are on disk together or not at all.

To erase is to destroy the key *on the disk*. Rows are only ever appended and keep their place, so SQLite has no copy
of one elsewhere in the table; what it may have left in the indexes goes with their pages when they are built anew. All
of it is overwritten with zeros (``secure_delete``), and the write-ahead log, which still has the pages as they were,
is folded in and cut to nothing. Files that were set aside as damaged hold the keys of their day: there the bytes are
overwritten in place.

`erased` remembers the digests of the erased, so that a fact that comes late makes no new key. It says who was erased
to nobody who does not ask about somebody, and not which facts are theirs: that link was the row.

Source: SQLite, "PRAGMA secure_delete", "PRAGMA wal_checkpoint"; RFC 2104 (HMAC).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from edge.bus.messages.personal import Person
from edge.journal.personal import KEY_BYTES, new_key, pseudonym_of

STEP = "subjects-1"
SCHEMA = """
CREATE TABLE subjects (
    row       INTEGER PRIMARY KEY,    -- only ever appended: see above
    lookup    BLOB NOT NULL UNIQUE,   -- HMAC-SHA256(secret, kind, name), 16 bytes
    pseudonym TEXT NOT NULL UNIQUE,
    since     TEXT NOT NULL,
    sealed    BLOB NOT NULL           -- key, kind, name
) STRICT;
CREATE TABLE subjects_erased (
    lookup    BLOB PRIMARY KEY,
    at        TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE subjects_secret (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    sealed    BLOB NOT NULL           -- 32 bytes
) STRICT;
"""

LOOKUP_BYTES = 16
_SECRET_CONTEXT = b"subjects_secret"


class Box(Protocol):
    """Seals under the store's own keys: `edge.seal.Seal` with the purpose ``subjects``."""

    def seal(self, plain: bytes, context: bytes) -> bytes: ...

    def open(self, sealed: bytes, context: bytes) -> bytes: ...


class NotThere(LookupError):
    """No fact about this person has come."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A row: the person, their key and pseudonym; `sealed` is what stands on the disk."""

    person: Person
    key: bytes
    pseudonym: str
    lookup: bytes
    since: str
    sealed: bytes


class Subjects:
    """The table in the open file, for the thread that writes it; the caller holds the transaction."""

    def __init__(self, db: sqlite3.Connection, box: Box) -> None:
        self._db = db
        self._box = box
        self._known_secret: bytes | None = None

    def begin(self) -> None:
        """Have the secret that `lookup_of` takes: before anybody is known, so that every copy of the file has it."""
        sealed = self._box.seal(secrets.token_bytes(32), _SECRET_CONTEXT)
        self._db.execute("INSERT OR IGNORE INTO subjects_secret (one, sealed) VALUES (1, ?)", (sealed,))

    def key(self, person: Person, at: str, *, make: bool) -> bytes | None:
        """The person's key, made now if it must be and `make` lets it; None when they are erased. NotThere."""
        lookup = self.lookup_of(person)
        row = self._db.execute("SELECT sealed FROM subjects WHERE lookup = ?", (lookup,)).fetchone()
        if row is not None:
            return _read(self._box, lookup, row[0])[0]
        if self._db.execute("SELECT 1 FROM subjects_erased WHERE lookup = ?", (lookup,)).fetchone() is not None:
            return None
        if not make:
            raise NotThere
        key = new_key()
        sealed = self._box.seal(_joined(key, person), _context(lookup))
        self._db.execute(
            "INSERT INTO subjects (lookup, pseudonym, since, sealed) VALUES (?, ?, ?, ?)",
            (lookup, pseudonym_of(key), at, sealed),
        )
        return key

    def find(self, person: Person) -> Subject | None:
        """The person's row."""
        return next(_subjects(self._db, self._box, "lookup = ?", self.lookup_of(person)), None)

    def find_pseudonym(self, pseudonym: str) -> Subject | None:
        """The row of whoever has this pseudonym."""
        return next(_subjects(self._db, self._box, "pseudonym = ?", pseudonym), None)

    def erased(self, person: Person) -> bool:
        """Whether this person was erased here."""
        lookup = self.lookup_of(person)
        return self._db.execute("SELECT 1 FROM subjects_erased WHERE lookup = ?", (lookup,)).fetchone() is not None

    def destroy(self, lookup: bytes, at: str) -> bool:
        """Take the row away and remember that; whether there was one. ``secure_delete`` must be on."""
        gone = self._db.execute("DELETE FROM subjects WHERE lookup = ?", (lookup,)).rowcount > 0
        self._db.execute("INSERT OR IGNORE INTO subjects_erased (lookup, at) VALUES (?, ?)", (lookup, at))
        if gone:
            self._db.execute("REINDEX subjects")
        return gone

    def readmit(self, lookup: bytes) -> bool:
        """Forget that somebody was erased; what was sealed before stays lost. False when they were not."""
        return self._db.execute("DELETE FROM subjects_erased WHERE lookup = ?", (lookup,)).rowcount > 0

    def lookup_of(self, person: Person) -> bytes:
        """The keyed digest of what names the person."""
        return hmac.digest(self._secret(), _named(person), hashlib.sha256)[:LOOKUP_BYTES]

    def reseal(self, after: int, limit: int) -> tuple[int | None, int]:
        """Seal the next rows above `after` under the present master key: (last row, None at the end; how many)."""
        rows = self._db.execute(
            "SELECT row, lookup, sealed FROM subjects WHERE row > ? ORDER BY row LIMIT ?", (after, limit)
        ).fetchall()
        for row, lookup, sealed in rows:
            again = self._box.seal(self._box.open(sealed, _context(lookup)), _context(lookup))
            self._db.execute("UPDATE subjects SET sealed = ? WHERE row = ?", (again, row))
        if not rows:
            secret = self._db.execute("SELECT sealed FROM subjects_secret").fetchone()
            if secret is not None:
                again = self._box.seal(self._box.open(secret[0], _SECRET_CONTEXT), _SECRET_CONTEXT)
                self._db.execute("UPDATE subjects_secret SET sealed = ?", (again,))
            return None, 0
        return int(rows[-1][0]), len(rows)

    def _secret(self) -> bytes:
        if self._known_secret is None:
            (sealed,) = self._db.execute("SELECT sealed FROM subjects_secret").fetchone()
            self._known_secret = self._box.open(sealed, _SECRET_CONTEXT)
        return self._known_secret


def keys(db: sqlite3.Connection, box: Box, pseudonyms: Iterable[str]) -> dict[str, bytes]:
    """The keys of these people, as far as they are there; for whoever reads the file."""
    found: dict[str, bytes] = {}
    for pseudonym in pseudonyms:
        row = db.execute("SELECT lookup, sealed FROM subjects WHERE pseudonym = ?", (pseudonym,)).fetchone()
        if row is not None:
            found[pseudonym] = _read(box, *row)[0]
    return found


def _subjects(db: sqlite3.Connection, box: Box, where: str, value: object) -> Iterator[Subject]:
    rows = db.execute(f"SELECT lookup, pseudonym, since, sealed FROM subjects WHERE {where}", (value,))  # noqa: S608
    for lookup, pseudonym, since, sealed in rows.fetchall():
        key, person = _read(box, lookup, sealed)
        yield Subject(person, key, pseudonym, lookup, since, sealed)


def _read(box: Box, lookup: bytes, sealed: bytes) -> tuple[bytes, Person]:
    plain = box.open(sealed, _context(lookup))
    kind, _, name = plain[KEY_BYTES:].decode().partition("\0")
    return plain[:KEY_BYTES], Person(kind, name)


def _joined(key: bytes, person: Person) -> bytes:
    return key + _named(person)


def _named(person: Person) -> bytes:
    return f"{person.kind}\0{person.name}".encode()


def _context(lookup: bytes) -> bytes:
    return b"subjects|" + lookup
