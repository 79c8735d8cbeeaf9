"""Who there is in a store, and what is kept of each: one sealed row of store.db a person, all of them in memory.

What is kept: a password's Argon2id hash, the secret of an authenticator app, hashes of recovery codes, public keys of
passkeys. Whoever copies the disk without the store's key has none of it. A row whose key is not here is left alone and
its person cannot log in until the key is back. A row in plain, or another person's in its place, is nobody: whoever
could write to the disk would otherwise make themselves an owner.
"""

from __future__ import annotations

import logging
from typing import Any

from pydantic import Field, ValidationError

from edge.access.audit import Audit
from edge.access.roles import ROLES, Person, Right, Role
from edge.bus.messages.base import Message
from edge.bus.messages.facts import AuditAction, first_error
from edge.bus.messages.replies import Code, ProblemError
from edge.journal.store import NotStored, Statement, Store
from edge.seal import Seal, Unsealable, sealed_by
from edge.services.replies import not_stored
from edge.supervisor import Background

log = logging.getLogger(__name__)

REGISTER_SCHEMA = """
CREATE TABLE IF NOT EXISTS people (
    id     TEXT PRIMARY KEY,
    sealed BLOB NOT NULL        -- Kept, as JSON
) STRICT, WITHOUT ROWID;
"""


class App(Message):
    """An authenticator app: its secret in base64, and the step of the last code that was used."""

    secret: str = Field(repr=False)
    last_step: int = 0


class Passkey(Message):
    """A passkey: its credential id and public key (COSE) in base64url, and the highest counter it has shown."""

    id: str
    public_key: str
    counter: int = 0
    label: str = ""


class Kept(Message):
    """What is kept of a person."""

    name: str = Field(min_length=1, max_length=100)
    role: Role = Field(strict=False)
    active: bool = True
    password: str = Field(repr=False)
    app: App | None = None
    recovery_salt: str | None = None
    recovery_hashes: tuple[str, ...] = Field(default=(), strict=False)
    passkeys: tuple[Passkey, ...] = Field(default=(), strict=False)


class Register:
    """What is kept of everybody. `open` first."""

    def __init__(self, store: Store, seal: Seal, audit: Audit) -> None:
        self._store = store
        self._seal = seal
        self._audit = audit
        self._kept: dict[str, Kept] = {}
        self._background = Background(NotStored)
        self.unreadable: tuple[str, ...] = ()
        """People whose rows cannot be opened."""

    async def open(self) -> None:
        """Read who there is."""
        unreadable = []
        for id_, sealed in await self._store.fetch_all("SELECT id, sealed FROM people"):
            try:
                self._kept[id_] = Kept.model_validate_json(self._seal.open(sealed, _context(id_)))
            except (Unsealable, ValidationError) as error:
                # A ValidationError's own text shows what was found: hashes and secrets.
                why = first_error(error, shown=False) if isinstance(error, ValidationError) else error
                log.error("what is kept of person %s cannot be read: %s", id_, why)
                unreadable.append(id_)
                continue
            if sealed_by(sealed) != self._seal.key_id:
                self.keep_soon([self._row(id_, self._kept[id_])])
        self.unreadable = tuple(unreadable)

    async def close(self) -> None:
        """Let go of what runs."""
        await self._background.stop()

    def get(self, id_: str) -> Kept | None:
        """What is kept of this person."""
        return self._kept.get(id_)

    def there(self, id_: str) -> Kept:
        """The same; ProblemError `not_found`."""
        kept = self._kept.get(id_)
        if kept is None:
            raise ProblemError(Code.NOT_FOUND, f"there is no person {id_!r}; `tillgate people list` shows who there is")
        return kept

    def person(self, id_: str) -> Person | None:
        """Who it is now; None for nobody, or somebody who was disabled."""
        kept = self._kept.get(id_)
        return Person(id_, kept.name, kept.role) if kept is not None and kept.active else None

    def all(self) -> dict[str, Kept]:
        """Everybody, by id."""
        return dict(sorted(self._kept.items()))

    def active_with(self, right: Right) -> list[str]:
        """Who may do this."""
        return [id_ for id_, kept in self._kept.items() if kept.active and right in ROLES[kept.role].rights]

    async def change(self, action: AuditAction, by: str, id_: str, kept: Kept, detail: str) -> None:
        """A change and its audit entry, on disk together before it counts. ProblemError: `storage_full`, `faulted`."""
        try:
            await self._audit.record(action, person=by, subject=id_, detail=detail, also=[self._row(id_, kept)])
        except NotStored as error:
            raise not_stored(error) from error
        self._kept[id_] = kept

    def change_soon(self, id_: str, **changes: Any) -> None:
        """What a log-in leaves: in force at once, on disk soon, for a full disk keeps nobody from logging in."""
        self._kept[id_] = self._kept[id_].model_copy(update=changes)
        self.keep_soon([self._row(id_, self._kept[id_])])

    def keep_soon(self, statements: list[Statement]) -> None:
        """Write without anybody waiting."""
        if statements:
            self._background.hold(self._store.write(statements), "keeping what a log-in leaves")

    async def write(self, statements: list[Statement]) -> None:
        """Write; ProblemError as `change`."""
        if not statements:
            return
        try:
            await self._store.write(statements)
        except NotStored as error:
            raise not_stored(error) from error

    def _row(self, id_: str, kept: Kept) -> Statement:
        sealed = self._seal.seal(kept.model_dump_json().encode(), _context(id_))
        return (
            "INSERT INTO people(id, sealed) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET sealed = excluded.sealed",
            (id_, sealed),
        )


def _context(id_: str) -> bytes:
    return b"people|sealed|" + id_.encode()
