"""Invitations on disk: one open one for a lane, 15 minutes, one use.

Strategy: a row is found by the name that is derived from the code; the code itself is nowhere. What proves and checks
(`Keys`) lies there sealed, so a copied disk lets nobody in. Time is counted on the clock that runs since boot: a wall
clock that jumps neither lengthens an invitation nor ends it. So an invitation lives on when edge is restarted, and
ends with a reboot, after which nobody can tell how old it is. Who fails too often to prove that he knows the code he
names ends it, too: the name is known only to who has the code, or has seen it on its way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge.bus.enrolment import Keys, Refusal, keys_of
from edge.bus.invitation import new_code
from edge.journal.clock import Clock
from edge.journal.store import Statement, Store

if TYPE_CHECKING:
    from edge.seal import Seal

LIFE_S = 15 * 60
MAX_FAILURES = 5
REMEMBER_S = 24 * 3600
"""How long the reason is told to who comes with an old code."""

INVITATIONS_SCHEMA = """
CREATE TABLE invitations (
    name       TEXT PRIMARY KEY,         -- derived from the code, which is nowhere
    lane       TEXT    NOT NULL,
    keys       BLOB    NOT NULL,         -- of both proofs, sealed
    made_at    TEXT    NOT NULL,         -- wall clock, for people
    boot       TEXT    NOT NULL,
    expires_ms INTEGER NOT NULL,         -- on the clock of that boot
    failures   INTEGER NOT NULL DEFAULT 0,
    used       BLOB,                     -- the digest of the request that used it
    answer     BLOB                      -- and what that was answered
) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Invited:
    """A fresh invitation. `code` is told to a person and kept nowhere."""

    name: str
    lane: str
    code: str = field(repr=False)
    expires_s: int


@dataclass(frozen=True, slots=True)
class Kept:
    """A row. `over` says why it lets nobody in any more; None: it is open, for `left_s` more seconds."""

    name: str
    lane: str
    keys: Keys
    over: Refusal | None
    left_s: int
    failures: int
    used: bytes | None
    answer: bytes | None


class Invitations:
    """Reads and changes the table."""

    def __init__(self, store: Store, clock: Clock, seal: Seal) -> None:
        self._store = store
        self._clock = clock
        self._seal = seal

    async def invite(self, lane: str, fingerprint: str) -> Invited:
        """Make one for `lane`, and end the lane's former ones. Raises NotStored."""
        now = self._clock.now()
        code = new_code(fingerprint)
        keys = keys_of(code)
        sealed = self._seal.seal(keys.till + keys.gateway, _context(keys.invitation, lane))
        await self._store.write(
            [
                (
                    "DELETE FROM invitations WHERE boot <> ?1 OR expires_ms < ?2 OR (lane = ?3 AND used IS NULL)",
                    (now.boot, now.mono_ms - REMEMBER_S * 1000, lane),
                ),
                (
                    "INSERT INTO invitations(name, lane, keys, made_at, boot, expires_ms) VALUES (?, ?, ?, ?, ?, ?)",
                    (keys.invitation, lane, sealed, now.wall, now.boot, now.mono_ms + LIFE_S * 1000),
                ),
            ]
        )
        return Invited(keys.invitation, lane, code, LIFE_S)

    async def find(self, name: str) -> Kept | None:
        """The invitation of this name. Raises Unsealable when its keys cannot be opened any more."""
        row = await self._store.fetch_one(
            "SELECT lane, keys, boot, expires_ms, failures, used, answer FROM invitations WHERE name = ?", (name,)
        )
        if row is None:
            return None
        lane, sealed, boot, expires_ms, failures, used, answer = row
        now = self._clock.now()
        left_ms = expires_ms - now.mono_ms if boot == now.boot else 0
        over: Refusal | None = None
        if left_ms <= 0:
            over = Refusal.INVITATION_EXPIRED
        elif failures >= MAX_FAILURES:
            over = Refusal.INVITATION_BLOCKED
        elif used is not None:
            over = Refusal.INVITATION_USED
        made = self._seal.open(sealed, _context(name, lane))
        return Kept(name, lane, Keys(name, made[:32], made[32:]), over, max(0, left_ms // 1000), failures, used, answer)

    async def failed(self, name: str) -> None:
        """Count a proof that did not hold."""
        await self._store.write([("UPDATE invitations SET failures = failures + 1 WHERE name = ?", (name,))])

    @staticmethod
    def use(name: str, request: bytes, answer: bytes) -> Statement:
        """The statement that ends it: `request` (a digest) has used it and was answered so."""
        return "UPDATE invitations SET used = ?, answer = ? WHERE name = ? AND used IS NULL", (request, answer, name)

    async def withdraw(self, lane: str) -> None:
        """End what is open for a lane."""
        await self._store.write([("DELETE FROM invitations WHERE lane = ? AND used IS NULL", (lane,))])


def _context(name: str, lane: str) -> bytes:
    """Also for which lane it is: nobody writes another one into the row."""
    return f"invitation|{name}|{lane}".encode()
