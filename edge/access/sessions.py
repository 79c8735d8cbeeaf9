"""Who is logged in where: opaque tokens, of which only hashes are kept.

Strategy: a token is 256 random bits and says nothing; it is good at the place it was made for and nowhere else. It ends
when it was not used for a while, after a working day at the latest, at log-out, and when the person's password changes
or they are disabled. Its limits count on the boot's own clock, which nobody can set: it lives through a restart of
the gateway and ends with a reboot. What the person may do is looked up at each use, never kept in it.

Sources: OWASP Session Management Cheat Sheet; NIST SP 800-63B-4, 5.1 and 5.2 (session secrets, time-outs).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from edge.access.places import BOX
from edge.journal.clock import Clock
from edge.journal.entries import Statement

TOKEN_BYTES = 32
IDLE_MS = {True: 15 * 60_000, False: 60 * 60_000}
"""Unused for so long, by whether it is at the box: a till's shows its cashier all day, and locks by itself."""
WHOLE_MS = 12 * 3600_000
NOTE_USE_MS = 60_000
"""How exactly the last use is kept on disk."""
PER_PERSON = 20
"""Sessions a person has at once, at all places; the oldest goes."""

SESSIONS_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (
    hash    BLOB    PRIMARY KEY,
    person  TEXT    NOT NULL,
    place   TEXT    NOT NULL,
    boot    TEXT    NOT NULL,
    made_ms INTEGER NOT NULL,
    used_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""


@dataclass(slots=True)
class Session:
    """`made_ms` and `used_ms` are of this boot's own clock."""

    hash: bytes
    person: str
    place: str
    made_ms: int
    used_ms: int


class Sessions:
    """The sessions of this boot. `keep` takes statements that may be written a little later."""

    def __init__(self, clock: Clock, keep: Callable[[list[Statement]], None]) -> None:
        self._clock = clock
        self._keep = keep
        self._sessions: dict[bytes, Session] = {}

    def load(self, rows: list[tuple[bytes, str, str, str, int, int]]) -> None:
        """Take (hash, person, place, boot, made_ms, used_ms) of an earlier life; those of another boot are over."""
        boot = self._clock.boot
        for digest, person, place, of_boot, made_ms, used_ms in rows:
            if of_boot == boot:
                self._sessions[digest] = Session(digest, person, place, made_ms, used_ms)
        self._keep([("DELETE FROM sessions WHERE boot <> ?", (boot,))])

    def begin(self, person: str, place: str) -> str:
        """A token for this person at this place. Whoever was logged in at that lane no longer is."""
        now_ms = self._clock.now().mono_ms
        if place != BOX:
            self.end_all(lambda session: session.place == place)
        mine = sorted((s for s in self._sessions.values() if s.person == person), key=lambda s: s.made_ms)
        self.end_all(lambda session: session in mine[: max(0, len(mine) - PER_PERSON + 1)])
        token = secrets.token_urlsafe(TOKEN_BYTES)
        session = Session(_hash(token), person, place, now_ms, now_ms)
        self._sessions[session.hash] = session
        row = (session.hash, person, place, self._clock.boot, now_ms, now_ms)
        self._keep([("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?)", row)])
        return token

    def find(self, token: str, place: str) -> Session | None:
        """The session of this token, if it lives and belongs here; that is a use of it."""
        session = self._sessions.get(_hash(token))
        if session is None or session.place != place:
            return None
        now_ms = self._clock.now().mono_ms
        if now_ms - session.made_ms >= WHOLE_MS or now_ms - session.used_ms >= IDLE_MS[place == BOX]:
            self.end_all(lambda one: one is session)
            return None
        if now_ms - session.used_ms >= NOTE_USE_MS:
            self._keep([("UPDATE sessions SET used_ms = ? WHERE hash = ?", (now_ms, session.hash))])
        session.used_ms = now_ms
        return session

    def belongs_elsewhere(self, token: str, place: str) -> Session | None:
        """The session of this token when it is another place's: somebody has taken it along."""
        session = self._sessions.get(_hash(token))
        return session if session is not None and session.place != place else None

    def end(self, session: Session) -> None:
        """Log out."""
        self.end_all(lambda one: one is session)

    def end_all(self, which: Callable[[Session], bool]) -> int:
        """End all of a kind; how many there were."""
        gone = [session for session in self._sessions.values() if which(session)]
        for session in gone:
            del self._sessions[session.hash]
        if gone:
            self._keep([("DELETE FROM sessions WHERE hash = ?", (session.hash,)) for session in gone])
        return len(gone)

    def of(self, person: str) -> list[Session]:
        """A person's sessions."""
        return [session for session in self._sessions.values() if session.person == person]


def _hash(token: str) -> bytes:
    """SHA-256: the token is 256 random bits, nothing to be guessed from a hash."""
    return hashlib.sha256(token.encode()).digest()
