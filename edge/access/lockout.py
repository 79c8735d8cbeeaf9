"""What wrong tries cost: growing pauses, counted so that a stranger's tries do not shut the owner out.

Strategy: tries are counted per person *and* place (a lane, the box): whoever guesses at lane 3 makes that person wait
at lane 3, not elsewhere. Beside it all tries at a place are counted, against one password tried on everybody, and all
tries for a person at lanes, against one who has many lanes; those two pauses stay short, because they hurt others. No
pause exceeds a quarter of an hour: nobody is locked out for good, and at the box nobody waits for what lanes did.
Counts are kept on disk; a restart begins the pause anew and forgives nothing.

A six-digit PIN is guessed at one lane in half of some 5,000 days at four tries an hour.

Sources: OWASP Authentication Cheat Sheet (account lockout, and that it can be used to keep users out); NIST SP
800-63B-4, 3.2.2 (rate limiting).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge.access.places import BOX
from edge.journal.entries import Statement


@dataclass(frozen=True, slots=True)
class Patience:
    """`free` wrong tries cost nothing; from then on the pause doubles from 1 s to `longest_s`.

    It is all forgotten when `forget_s` have passed without a wrong try.
    """

    free: int
    longest_s: float
    forget_s: float

    def pause_s(self, failures: int) -> float:
        """How long to wait after so many wrong tries."""
        if failures <= self.free:
            return 0.0
        return min(self.longest_s, 2.0 ** min(failures - self.free - 1, 30))


HERE = Patience(free=3, longest_s=900.0, forget_s=24 * 3600.0)
"""One person at one place."""
ANYBODY = Patience(free=10, longest_s=30.0, forget_s=3600.0)
"""Everybody at one place."""
ANYWHERE = Patience(free=20, longest_s=30.0, forget_s=24 * 3600.0)
"""One person at all lanes."""

EVERYBODY = "*"
"""Stands for the person, or the place, where it does not matter which."""
ROWS = 5_000
"""More names than this are not remembered one by one: the count of the place holds whoever makes them up."""

LOCKOUT_SCHEMA = """
CREATE TABLE IF NOT EXISTS wrong_tries (
    person   TEXT    NOT NULL,
    place    TEXT    NOT NULL,
    failures INTEGER NOT NULL,
    PRIMARY KEY (person, place)
) STRICT, WITHOUT ROWID;
"""


@dataclass(slots=True)
class _Count:
    failures: int
    last_s: float


class Lockout:
    """Counts wrong tries. `now_s` is a clock that nobody can set."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._counts: dict[tuple[str, str], _Count] = {}

    def load(self, rows: list[tuple[str, str, int]]) -> None:
        """Take (person, place, failures) of an earlier life: their pauses begin now."""
        for person, place, failures in rows:
            self._counts[person, place] = _Count(failures, self._now_s())

    def wait_s(self, person: str, place: str) -> float:
        """How long until this person may try again here; 0: now."""
        now = self._now_s()
        waits = [0.0]
        for key, patience in _counted(person, place):
            count = self._counts.get(key)
            if count is not None and now - count.last_s < patience.forget_s:
                waits.append(count.last_s + patience.pause_s(count.failures) - now)
        return max(waits)

    def failed(self, person: str, place: str) -> list[Statement]:
        """Count a wrong try; the statements keep it."""
        now = self._now_s()
        kept: list[Statement] = []
        for key, patience in _counted(person, place):
            count = self._counts.get(key)
            if count is None and len(self._counts) >= ROWS:
                continue
            if count is None or now - count.last_s >= patience.forget_s:
                count = self._counts[key] = _Count(0, now)
            count.failures, count.last_s = count.failures + 1, now
            kept.append(
                (
                    "INSERT INTO wrong_tries(person, place, failures) VALUES (?, ?, ?)"
                    " ON CONFLICT (person, place) DO UPDATE SET failures = excluded.failures",
                    (*key, count.failures),
                )
            )
        return kept

    def succeeded(self, person: str, place: str) -> list[Statement]:
        """Forget this person's tries here and their sum: not those at other places, which may be somebody else's."""
        return self._forget([(person, place), (person, EVERYBODY)])

    def unlock(self, person: str) -> list[Statement]:
        """Forget all of a person's tries."""
        return self._forget([key for key in self._counts if key[0] == person])

    def forget_old(self) -> list[Statement]:
        """Forget what no longer counts."""
        now = self._now_s()
        longest_s = max(one.forget_s for one in (HERE, ANYBODY, ANYWHERE))
        return self._forget([key for key, count in self._counts.items() if now - count.last_s >= longest_s])

    def _forget(self, keys: list[tuple[str, str]]) -> list[Statement]:
        gone = [key for key in keys if self._counts.pop(key, None) is not None]
        return [("DELETE FROM wrong_tries WHERE person = ? AND place = ?", key) for key in gone]


def _counted(person: str, place: str) -> list[tuple[tuple[str, str], Patience]]:
    """What a try of this person at this place is counted under."""
    counted = [((person, place), HERE), ((EVERYBODY, place), ANYBODY)]
    return counted if place == BOX else [*counted, ((person, EVERYBODY), ANYWHERE)]
