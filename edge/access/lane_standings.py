"""How each lane stands with its certificates, by the authority's book: what people, gate and rotation ask."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from edge.access.authority_book import Book

LaneState = Literal["valid", "expired", "revoked"]


@dataclass(frozen=True, slots=True)
class LaneStanding:
    """What a lane has: of its newest certificate, or that all of them are revoked. `left` is below 0 once expired."""

    state: LaneState
    left: timedelta
    not_after: datetime
    follows: bool
    """Whether the current authority has signed it."""

    @property
    def days_left(self) -> int:
        return max(0, self.left.days)


def standings(book: Book, now: datetime) -> dict[str, LaneStanding]:
    """Of each lane that was ever given a certificate: how it stands at `now`."""
    found: dict[str, LaneStanding] = {}
    for entry in book.entries:
        if entry.revoked_at is not None and entry.lane in found:
            continue  # what it has beside
        left, follows = entry.not_after - now, entry.authority == book.current.fingerprint
        state: LaneState = "valid" if left > timedelta() else "expired"
        if entry.revoked_at is not None:
            state = "revoked"
        found[entry.lane] = LaneStanding(state, left, entry.not_after, follows)
    return found
