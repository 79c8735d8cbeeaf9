"""What lies sealed in ``store.db``: the bodies of facts, and what services keep that people may not read.

Strategy: a row stays a row. Its numbers, times and hashes are in plain, because they are looked up; what was sold, to
whom and by whom is in its body, which is sealed. The chain's hash is over the plain body, so that HQ and a verifier see
the same chain. The context names the fact (epoch, class, sequence) and not the table, so a fact that is carried from a
damaged file into a new one is copied as it is, also when the key that opens it is not here.

`seal_keys` lists by which keys something in the file may be sealed, and `PLAIN` while something of an earlier version
is still as it was. So opening the file tells at once whether a key is missing, and re-sealing whether there is anything
to do. Beside `PLAIN` stands a permit, itself sealed: up to which sequence of each class facts may lie in plain. Without
it anybody could put facts in plain in the place of sealed ones, with hashes to fit.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import orjson

from edge.seal import Keyring, NoKey, Seal, Unsealable, is_sealed

JOURNAL = "journal"
PLAIN = "plain"
STEP = "journal-3"
SCHEMA = """
CREATE TABLE seal_keys (
    epoch  TEXT NOT NULL,           -- of the facts; what is not a fact goes with this file's own
    id     TEXT NOT NULL,           -- of a master key by which something of it is sealed; 'plain'
    own    INTEGER NOT NULL,        -- 1: the file's own epoch, should meta be unreadable
    since  TEXT NOT NULL,
    permit BLOB,                    -- beside 'plain', sealed: up to which seq of each class
    PRIMARY KEY (epoch, id)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER quarantine_changed AFTER UPDATE OF payload ON quarantine BEGIN
    UPDATE quarantine_totals SET kept_bytes = kept_bytes - length(OLD.payload) + length(NEW.payload);
END;
"""
LOOK_AGAIN_S = 1.0
PUT_THERE = "it lies in plain, where only what is sealed may be: it was put there"


def context(epoch: str, fact_class: str, seq: int) -> bytes:
    """What a body is sealed with: which fact it is."""
    return f"facts|{epoch}|{fact_class}|{seq}".encode()


@dataclass(frozen=True, slots=True)
class Place:
    """A column of a table of ``store.db`` that is sealed, row by row. `keys` are the columns that name the row."""

    table: str
    keys: tuple[str, ...]
    column: str
    purpose: str

    def sealed(self, seal: Seal, names: Sequence[object], plain: bytes) -> bytes:
        """What is stored in the row with these keys."""
        return seal.seal(plain, self._context(names))

    def plain(self, seal: Seal, names: Sequence[object], stored: bytes, *, lets_plain: bool) -> bytes:
        """What was stored there. `lets_plain` (`Bodies.lets_plain`): what an earlier version left in plain comes back
        as it is. Raises Unsealable.
        """
        if is_sealed(stored):
            return seal.open(stored, self._context(names))
        if not lets_plain:
            raise Unsealable(PUT_THERE)
        return stored

    def _context(self, names: Sequence[object]) -> bytes:
        texts = (name.hex() if isinstance(name, bytes) else str(name) for name in names)
        return "|".join((self.table, self.column, *texts)).encode(errors="replace")


class Bodies:
    """Seals and opens bodies. `find` is asked for the keyring when it is first needed, and again for a missing key.

    `of` names the connection to the file that the bodies are from: it holds the permits for what lies in plain.
    """

    def __init__(self, find: Callable[[], Keyring]) -> None:
        self._find = find
        self._file: sqlite3.Connection | None = None
        self._permits: dict[str, Mapping[str, int] | None] = {}
        self._seal: Seal | None = None
        self._others: dict[str, Seal] = {}
        self._again_at = 0.0

    @classmethod
    def beside(cls, path: Path) -> Bodies:
        """Of the journal `path`, by the keyring of its directory; none is made."""
        return cls(lambda: Keyring.find(path.parent, create=False))

    @classmethod
    def by(cls, keyring: Keyring) -> Bodies:
        """By this keyring."""
        return cls(lambda: keyring)

    def of(self, file: sqlite3.Connection) -> Self:
        """These, with the permits of `file`."""
        self._file = file
        self._permits.clear()
        return self

    def with_permits_of(self, file: sqlite3.Connection) -> Bodies:
        """Others by the same keyring, with the permits of another file."""
        return Bodies(self._find).of(file)

    def current_id(self) -> str:
        """Of the key that seals now."""
        return self._current().key_id

    def seal_of(self, purpose: str) -> Seal:
        """For what is no body, by the same keyring. Raises Unsealable when there is none."""
        if purpose not in self._others:
            self._others[purpose] = Seal(self._current().keyring, purpose)
        return self._others[purpose]

    def sealed(self, epoch: str, fact_class: str, seq: int, body: bytes) -> bytes:
        """The body as it is stored."""
        return self._current().seal(body, context(epoch, fact_class, seq))

    def plain(self, epoch: str, fact_class: str, seq: int, stored: bytes) -> bytes:
        """The body of a stored one; what may lie in plain comes back as it is. Raises Unsealable."""
        if not is_sealed(stored):
            permit = self._permit(epoch)
            if permit is not None and seq > permit.get(fact_class, 0):
                raise Unsealable(PUT_THERE)
            return stored
        where = context(epoch, fact_class, seq)
        try:
            return self._current().open(stored, where)
        except Unsealable as error:
            if not error.missing or not self._look_again():
                raise
        return self._current().open(stored, where)

    def as_far_as_possible(self, epoch: str, fact_class: str, seq: int, stored: bytes) -> bytes:
        """As `plain`; for a body that was changed stands one that says so: its hash will not do, and HQ refuses it.

        Raises Unsealable only when a key is missing: such a body may be whole.
        """
        try:
            return self.plain(epoch, fact_class, seq, stored)
        except Unsealable as error:
            if error.missing:
                raise
            return _stand_in(fact_class, seq, str(error))

    def lets_plain(self, epoch: str) -> bool:
        """Whether what is no fact may lie in plain still: the file is of an earlier version and not sealed through."""
        if self._file is None or not _has_seals(self._file):
            return True
        row = self._permit_row(epoch)
        try:
            return row is not None and bool(self._current().open(row[0], _permit_context(epoch)))
        except Unsealable:
            return False

    def _permit_row(self, epoch: str) -> tuple[bytes] | None:
        sql = "SELECT permit FROM seal_keys WHERE epoch = ? AND id = ? AND permit IS NOT NULL"
        row: tuple[bytes] | None = self._file.execute(sql, (epoch, PLAIN)).fetchone() if self._file else None
        return row

    def _permit(self, epoch: str) -> Mapping[str, int] | None:
        """Up to which sequence of each class facts of the epoch may lie in plain; None: all, in an earlier file."""
        if epoch not in self._permits:
            self._permits[epoch] = self._read_permit(epoch)
        return self._permits[epoch]

    def _read_permit(self, epoch: str) -> Mapping[str, int] | None:
        if self._file is None or not _has_seals(self._file):
            return None
        row = self._permit_row(epoch)
        if row is None:
            return {}
        try:
            told: dict[str, int] = orjson.loads(self._current().open(row[0], _permit_context(epoch)))
        except Unsealable as error:
            if error.missing:
                raise
            return {}
        return told

    def _current(self) -> Seal:
        if self._seal is None:
            try:
                self._seal = Seal(self._find(), JOURNAL)
            except NoKey as error:
                raise Unsealable(str(error), missing=True) from error
        return self._seal

    def _look_again(self) -> bool:
        """Whether the keyring may have got another key since."""
        if time.monotonic() < self._again_at:
            return False
        self._again_at = time.monotonic() + LOOK_AGAIN_S
        self._seal = None
        self._others.clear()
        return True


def _stand_in(fact_class: str, seq: int, why: str) -> bytes:
    event = {
        "data": {"why": why},
        "id": f"unreadable-{fact_class}-{seq}",
        "tgclass": fact_class,
        "tgseq": seq,
        "type": "tillgate.journal.unreadable",
    }
    return orjson.dumps(event, option=orjson.OPT_SORT_KEYS)


def _has_seals(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'seal_keys'").fetchone() is not None


def _permit_context(epoch: str) -> bytes:
    return f"plain|{epoch}".encode()


def permit_plain(db: sqlite3.Connection, keyring: Keyring, epoch: str, at: str) -> None:
    """A file of an earlier version: what is in it now may lie in plain until it is sealed."""
    heads = dict(db.execute("SELECT class, max(seq) FROM facts GROUP BY class").fetchall())
    if heads or db.execute("SELECT 1 FROM quarantine LIMIT 1").fetchone():
        permit = Seal(keyring, JOURNAL).seal(orjson.dumps(heads), _permit_context(epoch))
        note_key(db, PLAIN, epoch, at)
        db.execute("UPDATE seal_keys SET permit = ? WHERE epoch = ? AND id = ?", (permit, epoch, PLAIN))


def note_key(db: sqlite3.Connection, key_id: str, epoch: str, at: str, *, own: bool = True) -> None:
    """From now on something of this epoch may be sealed by this key: before the first row is."""
    sql = "INSERT OR IGNORE INTO seal_keys (epoch, id, own, since) VALUES (?, ?, ?, ?)"
    db.execute(sql, (epoch, key_id, int(own), at))


def keys_of(db: sqlite3.Connection) -> dict[str, set[str]]:
    """Per epoch by which keys something in this file is sealed; `PLAIN` when something is not."""
    found: dict[str, set[str]] = {}
    if _has_seals(db):
        for epoch, key_id in db.execute("SELECT epoch, id FROM seal_keys"):
            found.setdefault(epoch, set()).add(key_id)
    return found


def missing_keys(db: sqlite3.Connection, epoch: str, keyring: Keyring) -> list[str]:
    """The keys that the facts of `epoch` in this file need and the keyring has not."""
    return sorted(keys_of(db).get(epoch, set()) - {PLAIN} - {key.id for key in keyring.keys})


def teach(db: sqlite3.Connection, bodies: Bodies) -> None:
    """Give a connection the SQL function ``plain(class, seq, body)``: the body of a row of `facts`, opened.

    A body that cannot be opened fails the query (sqlite3.OperationalError).
    """
    epoch = ""

    def plain(fact_class: str, seq: int, stored: bytes) -> bytes:
        nonlocal epoch
        if not epoch:
            (epoch,) = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        return bodies.plain(epoch, fact_class, seq, stored)

    bodies.of(db)
    db.create_function("plain", 3, plain)
