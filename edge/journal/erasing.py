"""Erasing a person from the store's files: the key, bad input that names them, and what older files hold of the key.

Strategy: one transaction destroys the key, drops from quarantine what names the person, and records `SubjectErased`, so
that HQ hears of it. The digest of the name also goes into a list beside the store (`ErasedList`), which no snapshot of
the store holds: whatever is put in the store's place later, the people on the list are erased again as it is opened.

Source: SQLite, "PRAGMA secure_delete", "PRAGMA wal_checkpoint".
"""

from __future__ import annotations

import json
import logging
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge.bus.messages.base import Recorded
from edge.bus.messages.facts import SubjectErased
from edge.bus.messages.personal import Person
from edge.journal import quarantine
from edge.journal.reader import NoJournal, connect
from edge.journal.subjects import Subjects
from edge.journal.writer import Done, Writer
from edge.seal import Seal

log = logging.getLogger(__name__)

FOLD_TRY_MS = 200
RESEALED_AT_ONCE = 500
_QUARANTINE_SLICE = 500
_OVERLAP_BYTES = 4096
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Erasure:
    """What became of it. `pseudonyms`: of the keys that were destroyed: one, or none when nobody knew them.

    `quarantined`: rows of bad input that went because they named the person. `unsearched`: files set aside as damaged
    that cannot be read, so that nobody knows whether they hold the key; `closed`: keys
    that cannot be opened now, of which the same is true. `folded`: nothing is left in the write-ahead log.
    """

    pseudonyms: tuple[str, ...]
    quarantined: int = 0
    unsearched: tuple[str, ...] = ()
    closed: int = 0
    folded: bool = False

    @property
    def whole(self) -> bool:
        """Nothing is left to be done by a person."""
        return self.folded and not self.unsearched and not self.closed


def erase(writer: Writer, path: Path, person: Person) -> tuple[Erasure, Done]:
    """Erase `person`, of whom nothing need be known here: what comes later is kept without them.

    `fold` comes next: until then the write-ahead log may still hold the key. Runs on the writer's thread.
    """
    subjects = writer.subjects
    found = subjects.find(person)
    lookup = subjects.lookup_of(person)
    pseudonyms = tuple(one.pseudonym for one in found)
    at = writer.clock.now().wall
    dropped = 0
    seal = writer.bodies.seal_of(quarantine.PLACE.purpose)

    def work() -> Sequence[Recorded]:
        nonlocal dropped
        subjects.destroy(lookup, pseudonyms, at)
        dropped = _drop_quarantined(writer.db, seal, person.name)
        ErasedList(path).add(lookup, at)
        return [SubjectErased(subject=pseudonym) for pseudonym in pseudonyms]

    with securely(writer.db):
        done = writer.alone(work)
    unsearched = tuple(_overwrite_set_aside(path, {one.pseudonym: one.sealed for one in found})) if found else ()
    return Erasure(pseudonyms, dropped, unsearched, subjects.closed()), done


def readmit(writer: Writer, path: Path, person: Person) -> bool:
    """Take somebody who was erased as a person again; False when they were not. Runs on the writer's thread."""
    subjects = writer.subjects
    lookup = subjects.lookup_of(person)
    if not subjects.readmit(lookup):
        return False
    ErasedList(path).take_off(lookup, writer.clock.now().wall)
    return True


def reseal(writer: Writer, after: int) -> tuple[int | None, int]:
    """Seal one slice of the keys under the present master key: (where to go on, how many). On the writer's thread."""
    found: tuple[int | None, int] = (None, 0)

    def work() -> Sequence[Recorded]:
        nonlocal found
        found = writer.subjects.reseal(after, RESEALED_AT_ONCE)
        return []

    with securely(writer.db):
        writer.alone(work)
    return found


@contextmanager
def securely(db: sqlite3.Connection) -> Iterator[None]:
    """What is deleted or replaced meanwhile is overwritten with zeros. Not always: it doubles the wear of trimming."""
    db.execute("PRAGMA secure_delete = ON")
    try:
        yield
    finally:
        db.execute("PRAGMA secure_delete = OFF")


def fold(db: sqlite3.Connection) -> bool:
    """Fold the write-ahead log into the file and cut it to nothing; False while somebody reads: try again."""
    (before_ms,) = db.execute("PRAGMA busy_timeout").fetchone()
    db.execute(f"PRAGMA busy_timeout = {FOLD_TRY_MS}")
    try:
        busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        db.execute(f"PRAGMA busy_timeout = {before_ms}")
    return not busy


def erase_again(db: sqlite3.Connection, subjects: Subjects, path: Path, at: str) -> int:
    """Erase those on the list beside `path` of whom the file still has the key: it is older than the list.

    Also writes into the list who is missing there. Returns how many were erased.
    """
    listed = ErasedList(path)
    on_list = listed.read()
    known = {bytes(row[0]): str(row[1]) for row in db.execute("SELECT lookup, at FROM subjects_erased")}
    for lookup in known.keys() - on_list.keys():
        listed.add(lookup, known[lookup])
    late = on_list.keys() - known.keys()
    again = 0
    if late:
        with securely(db):
            db.execute("BEGIN IMMEDIATE")
            try:
                again = sum(subjects.destroy(lookup, (), on_list[lookup]) for lookup in sorted(late))
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")
        fold(db)
    if again:
        log.warning("%s is older than the erasure of %d people, who are erased again", path, again)
    return again


class ErasedList:
    """``store.erased`` beside ``store.db``: one line for each of the erased, digest and time. Only ever appended."""

    def __init__(self, store_db: Path) -> None:
        self.path = store_db.with_suffix(".erased")

    def read(self) -> dict[bytes, str]:
        """Digest -> when. A line that is cut off is left out: the store has it too."""
        try:
            lines = self.path.read_text("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return {}
        found = (re.fullmatch(r"([+-])([0-9a-f]{32}) (\S{1,40})", line) for line in lines)
        listed: dict[bytes, str] = {}
        for match in found:
            if match is None:
                continue
            if match[1] == "+":
                listed[bytes.fromhex(match[2])] = match[3]
            else:
                listed.pop(bytes.fromhex(match[2]), None)
        return listed

    def add(self, lookup: bytes, at: str) -> None:
        """Put somebody on the list."""
        self._append(f"+{lookup.hex()} {at}\n")

    def take_off(self, lookup: bytes, at: str) -> None:
        """They are known again from now on."""
        self._append(f"-{lookup.hex()} {at}\n")

    def _append(self, line: str) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(handle, line.encode())
            os.fsync(handle)
        finally:
            os.close(handle)


# -- bad input -----------------------------------------------------------------------------------------------------


def _drop_quarantined(db: sqlite3.Connection, seal: Seal, name: str) -> int:
    """Bad input that names the person goes, with its reason."""
    names = naming(name)
    after = dropped = 0
    while True:
        rows = db.execute(
            "SELECT id, reason, fingerprint, payload FROM quarantine WHERE id > ? ORDER BY id LIMIT ?",
            (after, _QUARANTINE_SLICE),
        ).fetchall()
        if not rows:
            return dropped
        after = rows[-1][0]
        hits = [
            (id_,)
            for id_, reason, fingerprint, payload in rows
            if names(reason.encode(errors="replace")) or names(quarantine.opened(seal, fingerprint, payload))
        ]
        db.executemany("DELETE FROM quarantine WHERE id = ?", hits)
        dropped += len(hits)


def naming(name: str) -> Callable[[bytes], object]:
    """What finds `name` as a word of its own, as text or as JSON writes it."""
    forms = {name.encode(), json.dumps(name)[1:-1].encode(), json.dumps(name, ensure_ascii=False)[1:-1].encode()}
    words = b"|".join(re.escape(form) for form in sorted(forms))
    return re.compile(rb"(?<![0-9A-Za-z])(?:" + words + rb")(?![0-9A-Za-z])").search


# -- files of earlier epochs ---------------------------------------------------------------------------------------


def _overwrite_set_aside(path: Path, sealed: Mapping[str, bytes]) -> Iterator[str]:
    """Overwrite sealed keys (by pseudonym) wherever they stand in files that were set aside; names those that cannot be
    searched.

    In place, byte by byte: a damaged file is not one to be written through SQLite. The rest of it stays as it is.
    """
    for damaged in sorted(path.parent.glob(f"{path.stem}.damaged-*{path.suffix}")):
        forms = set(sealed.values())
        try:
            with closing(connect(damaged, may_be_copy=True)) as db:
                for pseudonym in sealed:
                    found = db.execute("SELECT sealed FROM subjects WHERE pseudonym = ?", (pseudonym,)).fetchall()
                    forms.update(bytes(row[0]) for row in found)
        except (NoJournal, sqlite3.Error) as error:
            if "no such table" not in str(error):
                log.error("%s cannot be searched for the key of somebody who was erased: %s", damaged, error)
                yield damaged.name
        for part in (damaged, damaged.with_name(damaged.name + "-wal")):
            if part.exists():
                _overwrite(part, forms)


def _overwrite(file: Path, forms: set[bytes]) -> None:
    with file.open("r+b", buffering=0) as opened:
        place = 0
        while chunk := os.pread(opened.fileno(), _CHUNK_BYTES + _OVERLAP_BYTES, place):
            for form in forms:
                at = chunk.find(form)
                while at >= 0:
                    os.pwrite(opened.fileno(), bytes(len(form)), place + at)
                    at = chunk.find(form, at + len(form))
            place += _CHUNK_BYTES
        os.fsync(opened.fileno())
