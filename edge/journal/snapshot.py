"""Sealed snapshots of ``store.db``: taken while edge writes, opened by whoever has the store's keyring.

Strategy: SQLite's backup copies the file page by page beside it; that copy is compressed and sealed in chunks as it is
read, so that neither needs the memory of a whole file. The chunks are sealed in the manner of STREAM: each
nonce is a number that counts up and a byte that is 1 for the last chunk only. So a chunk that was changed, left out,
doubled or moved does not open, and a file that was cut off does not end. Each file has a key of its own, derived from
the master key and a random salt, so that the counted nonces never meet again.

    0xC2 "TGSNAP" 1 | key id, 4 bytes | salt, 32 bytes | header length, 4 bytes big-endian | header, JSON
    chunk ...          AES-256-GCM: 64 KiB of zstd and a tag of 16 bytes; the last may be shorter
    nonce of a chunk   7 zero bytes | its number, 4 bytes big-endian | 1 for the last, else 0
    context of each    everything before the first chunk

The header (store, epoch, when, how far each class goes) is in plain and authenticated: a file can be told from another
without its key. What comes back goes on as a new epoch, with the facts of the old one beside it as salvaged ones: what
was written after the snapshot took numbers that would else be given a second time.

Source: V. T. Hoang, R. Reyhanitabar, P. Rogaway, D. Vizár, "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance", CRYPTO 2015 (STREAM); NIST SP 800-38D; sqlite.org/backup.html.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
import struct
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import orjson

from edge.journal.clock import wall_text
from edge.journal.opening import transaction
from edge.journal.reader import connect
from edge.seal import Keyring, Seal

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"\xc2TGSNAP\x01"
PURPOSE = "snapshot"
CHUNK_BYTES = 64 * 1024
SALT_BYTES = 32
TAG_BYTES = 16
LEFT_OVER_S = 60.0
"""A folder of a snapshot that is younger may just be beginning."""
_PREFIX = ".snapshot-"
PAGES_AT_ONCE = 256
"""So many pages are copied at a time; edge's commits go in between."""
_MAX_HEADER_BYTES = 64 * 1024


class BadSnapshot(Exception):
    """This is no whole snapshot, or it was changed; the text says which."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a snapshot says of itself: whose it is, which epoch, when it was made, and the last sequence per class."""

    store: str
    epoch: str
    made_at: str
    heads: Mapping[str, int]
    key_id: str


def take(store_db: Path, target: Path, keyring: Keyring, *, at_ms: int) -> Header:
    """Write a snapshot of `store_db` to `target`, whole or not at all. NoJournal, OSError, sqlite3.Error.

    The plain copy stands in the folder of `store_db`, where all of it is sealed row by row anyhow, while this runs.
    """
    _clear_left_overs(store_db.parent)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=store_db.parent) as folder, _in_use(Path(folder)):
        copy = Path(folder) / "store.db"
        _copy(store_db, copy)
        header = _header_of(copy, keyring, at_ms)
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "wb") as file:
                _seal_file(copy, file, header, keyring)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, target)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    return header


@contextlib.contextmanager
def _in_use(folder: Path) -> Iterator[None]:
    """Held while a copy stands in `folder`; whoever is killed holds nothing."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _clear_left_overs(directory: Path) -> None:
    """Take away the copies of those that were killed while they made a snapshot."""
    for folder in directory.glob(f"{_PREFIX}*"):
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            if time.time() - folder.stat().st_mtime > LEFT_OVER_S:
                with _in_use(folder):
                    shutil.rmtree(folder)


def read_header(snapshot: Path) -> Header:
    """What it says of itself, not yet proved. BadSnapshot, OSError."""
    with snapshot.open("rb") as file:
        return _read_start(file)[0]


def restore(snapshot: Path, target: Path, keyring: Keyring) -> Header:
    """Put the file of `snapshot` at `target`, whole or not at all; `target` must not exist.

    Its facts are those of an earlier epoch then, whose repeats are still known and which HQ gets as far as it has not;
    lanes go on counting. The new epoch begins with edge's next start.

    Raises BadSnapshot, Unsealable (the key is missing), FileExistsError, OSError.
    """
    if target.exists():
        raise FileExistsError(f"{target} is there already: nothing is written over a journal")
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with snapshot.open("rb") as file, os.fdopen(handle, "wb") as out:
            header, start, salt = _read_start(file)
            cipher = _cipher(keyring, header.key_id, salt)
            _open_file(file, out, cipher, start)
            out.flush()
            os.fsync(out.fileno())
        _begin_anew(draft, header)
        os.link(draft, target)
    finally:
        draft.unlink(missing_ok=True)
    return header


# -- sealing in chunks ---------------------------------------------------------------------------------------------


def _seal_file(copy: Path, out: IO[bytes], header: Header, keyring: Keyring) -> None:
    import zstandard

    salt = os.urandom(SALT_BYTES)
    told = {"store": header.store, "epoch": header.epoch, "made_at": header.made_at, "heads": dict(header.heads)}
    text = orjson.dumps(told, option=orjson.OPT_SORT_KEYS)
    start = MAGIC + bytes.fromhex(header.key_id) + salt + struct.pack(">I", len(text)) + text
    out.write(start)
    cipher = _cipher(keyring, header.key_id, salt)
    number, pending = 0, b""
    with copy.open("rb") as plain:
        for piece in zstandard.ZstdCompressor(level=3).read_to_iter(plain):
            pending += piece
            while len(pending) > CHUNK_BYTES:  # the last one, whatever its size, is sealed below
                out.write(cipher.encrypt(_nonce(number, last=False), pending[:CHUNK_BYTES], start))
                number, pending = number + 1, pending[CHUNK_BYTES:]
    out.write(cipher.encrypt(_nonce(number, last=True), pending, start))


def _open_file(file: IO[bytes], out: IO[bytes], cipher: AESGCM, start: bytes) -> None:
    import zstandard

    with contextlib.closing(zstandard.ZstdDecompressor().stream_writer(out, closefd=False)) as plain:
        try:
            for piece in _opened(file, cipher, start):
                plain.write(piece)
        except zstandard.ZstdError as error:
            raise BadSnapshot(f"its content cannot be expanded: {error}") from error


def _opened(file: IO[bytes], cipher: AESGCM, start: bytes) -> Iterator[bytes]:
    from cryptography.exceptions import InvalidTag

    number, chunk = 0, file.read(CHUNK_BYTES + TAG_BYTES)
    while True:
        following = file.read(CHUNK_BYTES + TAG_BYTES)
        try:
            yield cipher.decrypt(_nonce(number, last=not following), chunk, start)
        except (InvalidTag, ValueError):
            where = "the end" if not following else f"part {number + 1}"
            raise BadSnapshot(f"{where} does not fit: it was changed, moved, or the file is cut off") from None
        if not following:
            return
        number, chunk = number + 1, following


def _nonce(number: int, *, last: bool) -> bytes:
    return struct.pack(">7xIB", number, last)


def _cipher(keyring: Keyring, key_id: str, salt: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(Seal(keyring, PURPOSE).derived(key_id, salt))


def _read_start(file: IO[bytes]) -> tuple[Header, bytes, bytes]:
    """The header, everything before the first chunk, and the salt."""
    fixed = file.read(len(MAGIC) + 4 + SALT_BYTES + 4)
    if not fixed.startswith(MAGIC) or len(fixed) < len(MAGIC) + 4 + SALT_BYTES + 4:
        raise BadSnapshot("this is no snapshot of a store")
    key_id = fixed[len(MAGIC) : len(MAGIC) + 4].hex()
    salt = fixed[len(MAGIC) + 4 : -4]
    (length,) = struct.unpack(">I", fixed[-4:])
    text = file.read(length) if length <= _MAX_HEADER_BYTES else b""
    try:
        told: dict[str, Any] = orjson.loads(text)
        heads = {str(name): int(seq) for name, seq in told["heads"].items()}
        header = Header(str(told["store"]), str(told["epoch"]), str(told["made_at"]), heads, key_id)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadSnapshot("its header cannot be read: it was changed, or the file is cut off") from None
    return header, fixed + text, salt


# -- the file ------------------------------------------------------------------------------------------------------


def _copy(store_db: Path, copy: Path) -> None:
    """A consistent copy while somebody writes: SQLite begins anew with pages that changed meanwhile."""
    source = connect(store_db, may_be_copy=True)
    try:
        with contextlib.closing(sqlite3.connect(copy)) as db:
            source.backup(db, pages=PAGES_AT_ONCE, sleep=0.005)
            db.execute("PRAGMA journal_mode = DELETE")
    finally:
        source.close()


def _header_of(copy: Path, keyring: Keyring, at_ms: int) -> Header:
    with contextlib.closing(sqlite3.connect(copy)) as db:
        meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
        heads = dict(db.execute("SELECT class, max(seq) FROM facts GROUP BY class").fetchall())
    return Header(meta["store"], meta["epoch"], wall_text(at_ms), heads, keyring.current.id)


def _begin_anew(draft: Path, header: Header) -> None:
    """Make sure that it is the file that the header speaks of, and let it go on as a new epoch."""
    try:
        with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as db:
            meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
            if (meta.get("store"), meta.get("epoch")) != (header.store, header.epoch):
                raise BadSnapshot("what came out is another store or epoch than the header says")
            with transaction(db):
                for statement, parameters in _new_epoch(header.epoch, str(uuid.uuid4()), header.made_at):
                    db.execute(statement, parameters)
            db.execute("VACUUM")
    except sqlite3.Error as error:
        raise BadSnapshot(f"what came out is no store: {error}") from error


def _new_epoch(old: str, new: str, at: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    columns = "class, seq, id, lane, lane_seq, type, recorded_at, boot, mono_ms, clock, digest, body, hash, conflict"
    yield (
        "INSERT INTO lanes (lane, first_seen, floor)"
        " SELECT lane, ?, max(lane_seq) FROM facts WHERE lane_seq IS NOT NULL GROUP BY lane"
        " ON CONFLICT (lane) DO UPDATE SET floor = max(floor, excluded.floor)",
        (at,),
    )
    yield f"INSERT OR IGNORE INTO salvaged (epoch, {columns}) SELECT ?, {columns} FROM facts", (old,)  # noqa: S608
    yield "DELETE FROM facts", ()
    yield "DELETE FROM bases", ()
    yield "DELETE FROM tombstones", ()
    yield "UPDATE seal_keys SET own = 0", ()
    # What is sealed beside the facts belongs to the file, whatever its epoch.
    yield "INSERT INTO seal_keys SELECT ?, id, 1, since, NULL FROM seal_keys WHERE epoch = ?", (new, old)
    yield "UPDATE meta SET value = ? WHERE key = 'epoch'", (new,)
    yield "INSERT OR REPLACE INTO meta (key, value) VALUES ('restored_from', ?)", (old,)
