"""What the store authority remembers, in one file, so that every change of it is one step: ``access/authority.json``.

Strategy: authorities with their sealed keys, the certificates given to lanes, the list of revoked ones and what the
broker has now are one JSON document, replaced whole (tmp, fsync, rename) and written twice: when the first copy cannot
be read, the second is used. It does not lie in ``store.db``: a journal that is damaged and set aside must not bring
back a till that was revoked. Nothing is forgotten in it; a lane that renews six times a year adds 150 bytes each time.

A digest of itself stands in it: a bit that a card has lost inside a certificate leaves a readable document, which would
be copied from then on. It finds damage, not somebody who can write here.

A crash between this file and those made of it (``trusted.pem``, ``revoked.crl``) is mended at the next opening.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, Field, ValidationError

from edge.bus.messages.base import Id, Message
from edge.seal import write_if_changed

FILE = "authority.json"
COPY = "authority.copy.json"


class Unreadable(Exception):
    """Neither copy of the book can be read; the text says why."""


class Generation(Message):
    """One authority of the store. `key` is PKCS #8 in PEM, sealed, in base64; `crl` its list of revoked (PEM)."""

    fingerprint: str = Field(description="SHA-256 of the certificate's DER, lower hex")
    certificate: str
    key: str
    cross: str | None = Field(default=None, description="this one, signed by the one before it (PEM)")
    since: AwareDatetime
    left_h: int | None = Field(default=None, ge=0, description="hours until it is dropped; None: it is the current one")
    crl: str
    crl_number: int = Field(ge=1)
    listed: int = Field(default=0, ge=0, description="how many certificates are on the list")


class Entry(Message):
    """One certificate that a lane was given; `certificate` is its chain, kept while it is the lane's newest."""

    serial: str = Field(description="lower hex")
    lane: Id
    authority: str
    issued_at: AwareDatetime
    not_after: AwareDatetime
    key: str = Field(description="SHA-256 of its SubjectPublicKeyInfo, lower hex")
    certificate: str | None = None
    revoked_at: AwareDatetime | None = None
    why: str = ""


class Server(Message):
    """What the broker has. `digest` is the SHA-256 of its file."""

    authority: str
    names: tuple[str, ...] = Field(strict=False)
    issued_at: AwareDatetime
    not_after: AwareDatetime
    digest: str


class Book(Message):
    """All of it. The first generation is the current one."""

    version: Literal[1] = 1
    store: Id
    generations: tuple[Generation, ...] = Field(min_length=1, max_length=2, strict=False)
    entries: tuple[Entry, ...] = Field(default=(), strict=False)
    server: Server | None = None
    digest: str | None = Field(default=None, description="SHA-256 of this document without it, lower hex")

    @property
    def current(self) -> Generation:
        return self.generations[0]

    @property
    def former(self) -> Generation | None:
        """The authority before, while it is still believed."""
        return self.generations[1] if len(self.generations) > 1 else None

    def trusted(self) -> str:
        """Every authority that is believed (PEM)."""
        return "".join(generation.certificate for generation in self.generations)

    def generation(self, fingerprint: str) -> Generation | None:
        return next((one for one in self.generations if one.fingerprint == fingerprint), None)

    def with_generation(self, changed: Generation) -> Book:
        """The same with this generation in place of the one with its fingerprint."""
        generations = tuple(changed if one.fingerprint == changed.fingerprint else one for one in self.generations)
        return self.model_copy(update={"generations": generations})


def read(folder: Path) -> Book | None:
    """The book of this folder, None where there has never been one. Raises Unreadable, OSError."""
    wrong: list[str] = []
    for name in (FILE, COPY):
        try:
            book = Book.model_validate_json((folder / name).read_bytes())
            if book.digest in (None, _digest(book)):  # None: written by an earlier version
                return book
            wrong.append(f"{folder / name}: it is not what was written")
        except FileNotFoundError:
            continue
        except ValidationError as error:
            wrong.append(f"{folder / name}: {error.errors(include_url=False)[0]['msg']}")
        except OSError as error:
            wrong.append(f"{folder / name}: {error.strerror}")
    if wrong:
        raise Unreadable("; ".join(wrong))
    return None


def write(folder: Path, book: Book) -> None:
    """Replace the book, then its copy, each whole, where they are not so yet; durable then. Raises OSError."""
    for name in (FILE, COPY):
        write_if_changed(folder / name, _text(book))


def _text(book: Book) -> bytes:
    return book.model_copy(update={"digest": _digest(book)}).model_dump_json(indent=1).encode() + b"\n"


def _digest(book: Book) -> str:
    return hashlib.sha256(book.model_dump_json(exclude={"digest"}).encode()).hexdigest()


def stamp(folder: Path) -> tuple[int, int] | None:
    """Changes when the book does; None where there is none."""
    try:
        status = (folder / FILE).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Alone with the book: broker's starter, edge and command line are three processes."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def at(moment: datetime) -> datetime:
    """To the second, as certificates have it."""
    return moment.replace(microsecond=0)
