"""What edge and bridge tell each other over the store's broker (unix socket only)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edge.bus.messages.base import Message
from edge.bus.messages.facts import FactClass
from edge.bus.messages.statuses import Link


class JournalHeads(Message):
    """edge -> bridge, retained: the last sequence per class."""

    epoch: str
    heads: dict[FactClass, int]


class BridgeStatus(Message):
    """bridge -> edge, retained: the state of the link and what HQ has confirmed."""

    link: Link
    since: str
    detail: str = ""
    epoch: str = Field(default="", description="the journal epoch that `confirmed` speaks of")
    confirmed: dict[FactClass, int] = Field(default_factory=dict)
    parked: int = Field(default=0, description="facts HQ rejected, set aside")
    eta_s: int | None = None
    confirm: Literal["hq", "broker"] = "hq"


class Committed(Message):
    """edge -> bridge: a downlink message is on disk, or refused for good."""

    stream: str
    epoch: str
    seq: int
    ok: bool
    detail: str = ""


class Need(Message):
    """store -> HQ: where this store stands in each downlink stream; HQ replays from there."""

    store: str
    have: dict[str, StreamPosition] = Field(description="stream -> last committed position; empty: nothing yet")


class StreamPosition(Message):
    epoch: str
    seq: int = Field(ge=0)


class Confirmed(Message):
    """HQ -> store: the highest contiguous sequence per class that is in HQ's database, and what it will never take."""

    epoch: str
    confirmed: dict[FactClass, int]
    rejected: dict[FactClass, list[int]] = Field(default_factory=dict)
