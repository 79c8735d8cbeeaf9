"""What the gateway says of its own records: numbers that miss or collide, what had to go, which clock to believe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edge.bus.messages.base import Id, Recorded
from edge.bus.messages.facts.classes import FactClass


class LaneGapFound(Recorded):
    lane: Id
    first: int
    last: int


class LaneGapFilled(Recorded):
    lane: Id
    first: int
    last: int


class SequenceConflict(Recorded):
    lane: Id | None
    kind: Literal["id", "sequence"]
    of: str = Field(description="what the newcomer collides with: the id, or the lane sequence")
    first_class: FactClass
    first_seq: int
    second_class: FactClass
    second_seq: int


class Tombstone(Recorded):
    of_class: FactClass
    first: int
    last: int
    reason: Literal["evicted", "expired"]


class LostRange(Recorded):
    of_class: FactClass
    first: int
    last: int


class JournalDamaged(Recorded):
    """The journal of an earlier epoch was damaged. What could be read of it goes to HQ under its old numbers."""

    epoch: str = Field(description="of the damaged journal")
    file: str = Field(description="its name now; kept on the gateway")
    reason: str
    salvaged: int = Field(description="facts that could be read, those HQ had before included")
    lost: tuple[LostRange, ...] = Field(
        default=(), strict=False, description="facts of that epoch that cannot be read any more"
    )


class SubjectErased(Recorded):
    """A customer's key was destroyed here: their part of every fact is unreadable from now on."""

    subject: str = Field(description="the pseudonym in this store's facts: `tgsealed`")


class ClockTrusted(Recorded):
    boot: str
    offset_ms: int = Field(description="wall clock minus monotonic clock of that boot")


class GatewayStarted(Recorded):
    version: str
    epoch: str
    boot: str
