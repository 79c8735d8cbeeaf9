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
import logging
import secrets
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.bus.messages.personal import Person
from edge.journal.personal import KEY_BYTES, new_key, pseudonym_of
from edge.seal import Keyring, NoKey, Seal, Unsealable, sealed_by

log = logging.getLogger(__name__)

PURPOSE = "subjects"
LOOK_AGAIN_S = 5.0
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
STRAY_BYTES = 17
"""The length of a `lookup` that finds nobody: the row's key could not be opened when its person came again."""
_SECRET_CONTEXT = b"subjects_secret"


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

    def __init__(self, db: sqlite3.Connection, box: Seal) -> None:
        self._db = db
        self._box = box
        self._secret = b""

    def begin(self) -> None:
        """Have the secret that `lookup_of` takes: before anybody is known, so that every copy of the file has it."""
        row = self._db.execute("SELECT sealed FROM subjects_secret").fetchone()
        if row is not None:
            try:
                self._secret = self._box.open(row[0], _SECRET_CONTEXT)
            except Unsealable as error:
                log.error("customers are not known again, nor who was erased: %s", error)
                self._db.execute("UPDATE subjects SET lookup = randomblob(?)", (STRAY_BYTES,))
                self._db.execute("DELETE FROM subjects_secret")
        if not self._secret:
            self._secret = secrets.token_bytes(32)
            sealed = self._box.seal(self._secret, _SECRET_CONTEXT)
            self._db.execute("INSERT INTO subjects_secret (one, sealed) VALUES (1, ?)", (sealed,))

    def key(self, person: Person, at: str, *, make: bool) -> bytes | None:
        """The person's key, made now if it must be and `make` lets it; None when they are erased. NotThere.

        Where theirs cannot be opened they get another, and the former waits for its master key: no till waits for it.
        """
        lookup = self.lookup_of(person)
        row = self._db.execute("SELECT pseudonym, sealed FROM subjects WHERE lookup = ?", (lookup,)).fetchone()
        if row is not None:
            try:
                return _read(self._box, *row)[0]
            except Unsealable as error:
                log.error("a customer's key cannot be opened: %s", error)
        elif self._db.execute("SELECT 1 FROM subjects_erased WHERE lookup = ?", (lookup,)).fetchone() is not None:
            return None
        if not make:
            raise NotThere
        if row is not None:
            stray = "UPDATE subjects SET lookup = randomblob(?) WHERE lookup = ?"
            self._db.execute(stray, (STRAY_BYTES, lookup))
        key = new_key()
        pseudonym = pseudonym_of(key)
        sealed = self._box.seal(_joined(key, person), _context(pseudonym))
        self._db.execute(
            "INSERT INTO subjects (lookup, pseudonym, since, sealed) VALUES (?, ?, ?, ?)",
            (lookup, pseudonym, at, sealed),
        )
        return key

    def find(self, person: Person) -> list[Subject]:
        """The person's rows: one, and more where a key could not be opened for a while; the oldest first."""
        where = "lookup = ? OR length(lookup) = ?"
        found, _ = self._rows(where, (self.lookup_of(person), STRAY_BYTES))
        return [one for one in found if one.person == person]

    def find_pseudonym(self, pseudonym: str) -> Subject | None:
        """The row of whoever has this pseudonym."""
        found, _ = self._rows("pseudonym = ?", (pseudonym,))
        return found[0] if found else None

    def closed(self) -> int:
        """How many keys cannot be opened, so that nobody knows whose they are."""
        return self._rows("length(lookup) = ?", (STRAY_BYTES,))[1]

    def destroy(self, lookup: bytes, pseudonyms: Sequence[str], at: str) -> bool:
        """Take away the row with this digest, and these; remember the digest. Whether there was any.

        The connection's ``secure_delete`` must be on.
        """
        gone = self._db.execute("DELETE FROM subjects WHERE lookup = ?", (lookup,)).rowcount
        for pseudonym in pseudonyms:
            gone += self._db.execute("DELETE FROM subjects WHERE pseudonym = ?", (pseudonym,)).rowcount
        self._db.execute("INSERT OR IGNORE INTO subjects_erased (lookup, at) VALUES (?, ?)", (lookup, at))
        if gone:
            self._db.execute("REINDEX subjects")
        return gone > 0

    def readmit(self, lookup: bytes) -> bool:
        """Forget that somebody was erased; what was sealed before stays lost. False when they were not."""
        return self._db.execute("DELETE FROM subjects_erased WHERE lookup = ?", (lookup,)).rowcount > 0

    def lookup_of(self, person: Person) -> bytes:
        """The keyed digest of what names the person."""
        return hmac.digest(self._secret, _named(person), hashlib.sha256)[:LOOKUP_BYTES]

    def reseal(self, after: int, limit: int) -> tuple[int | None, int]:
        """Seal the next rows above `after` under the present master key: (last row, None at the end; how many)."""
        rows = self._db.execute(
            "SELECT row, pseudonym, sealed FROM subjects WHERE row > ? ORDER BY row LIMIT ?", (after, limit)
        ).fetchall()
        done = 0
        for row, pseudonym, sealed in rows:
            if sealed_by(sealed) == self._box.key_id:
                continue
            try:
                plain = self._box.open(sealed, _context(pseudonym))
            except Unsealable as error:
                log.error("a customer's key is not sealed anew: %s", error)
                continue
            again = self._box.seal(plain, _context(pseudonym))
            self._db.execute("UPDATE subjects SET sealed = ? WHERE row = ?", (again, row))
            done += 1
        if rows:
            return int(rows[-1][0]), done
        again = self._box.seal(self._secret, _SECRET_CONTEXT)
        self._db.execute("UPDATE subjects_secret SET sealed = ?", (again,))
        return None, 0

    def _rows(self, where: str, values: Sequence[object]) -> tuple[list[Subject], int]:
        """The rows that can be opened, and how many cannot."""
        sql = f"SELECT lookup, pseudonym, since, sealed FROM subjects WHERE {where} ORDER BY row"  # noqa: S608
        found: list[Subject] = []
        closed = 0
        for lookup, pseudonym, since, sealed in self._db.execute(sql, values).fetchall():
            try:
                key, person = _read(self._box, pseudonym, sealed)
            except Unsealable:
                closed += 1
            else:
                found.append(Subject(person, key, pseudonym, lookup, since, sealed))
        return found, closed


class Keys:
    """The keys of people for whoever reads the file beside its writer, by the keyring of its directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._box: Seal | None = None
        self._look_again_at = 0.0

    def of(self, db: sqlite3.Connection, pseudonyms: Iterable[str]) -> dict[str, bytes]:
        """Pseudonym to key, of those who are not erased. What cannot be opened here is left out, and the log says so.

        The keyring is looked for again when it has not the key: it was replaced meanwhile.
        """
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'subjects'").fetchone():
            return {}  # a file of an earlier version, which edge has not opened yet
        found: dict[str, bytes] = {}
        for pseudonym in pseudonyms:
            row = db.execute("SELECT sealed FROM subjects WHERE pseudonym = ?", (pseudonym,)).fetchone()
            key = self._opened(pseudonym, row[0]) if row is not None else None
            if key is not None:
                found[pseudonym] = key
        return found

    def _opened(self, pseudonym: str, sealed: bytes) -> bytes | None:
        try:
            if self._box is None:
                self._box = self._found()
            return _read(self._box, pseudonym, sealed)[0]
        except (NoKey, Unsealable) as error:
            if time.monotonic() < self._look_again_at:
                return None
            self._look_again_at = time.monotonic() + LOOK_AGAIN_S
            self._box = None
            log.warning("the keys of customers cannot be read here: %s", error)
        try:
            self._box = self._found()
            return _read(self._box, pseudonym, sealed)[0]
        except (NoKey, Unsealable):
            return None

    def _found(self) -> Seal:
        return Seal(Keyring.find(self._directory, create=False), PURPOSE)


def _read(box: Seal, pseudonym: str, sealed: bytes) -> tuple[bytes, Person]:
    plain = box.open(sealed, _context(pseudonym))
    kind, _, name = plain[KEY_BYTES:].decode().partition("\0")
    return plain[:KEY_BYTES], Person(kind, name)


def _joined(key: bytes, person: Person) -> bytes:
    return key + _named(person)


def _named(person: Person) -> bytes:
    return f"{person.kind}\0{person.name}".encode()


def _context(pseudonym: str) -> bytes:
    return f"subjects|{pseudonym}".encode()
