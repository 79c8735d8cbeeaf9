"""What the gateway says of what HQ sent it, and of the line to HQ."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from edge.bus.messages.base import EventId, Id, Recorded
from edge.bus.messages.facts.classes import FactClass


class PriceActivated(Recorded):
    version: str
    items: int
    effective_at: str
    late: bool


class PriceRefused(Recorded):
    version: str
    code: str
    detail: str


class CommandReceived(Recorded):
    """HQ's command is on this gateway's disk and will be run: written before it is."""

    command: EventId
    operation: str
    parameters: dict[str, Any]
    by: str
    group: Id | None = Field(description="given to a group of this store; null: to this store alone")
    issued_at: str
    expires_at: str


class CommandProblem(Recorded):
    code: str
    detail: str


class CommandFinished(Recorded):
    """What became of HQ's command."""

    command: EventId | None = Field(description="null: nothing that its sender could prove to be HQ's")
    operation: str | None
    ok: bool
    result: dict[str, Any] | None = None
    problem: CommandProblem | None = None


class Outage(Recorded):
    """One outage of the link. Seconds are counted by the monotonic clock; `began` and `ended` are the wall clock's."""

    id: EventId
    began: str
    ended: str | None = Field(default=None, description="null: it goes on")
    offline_s: int = Field(ge=0, description="without a link, in all its cuts together")
    causes: dict[Literal["lan", "wan", "cloud", "unknown"], int] = Field(
        default_factory=dict, description="cause -> seconds, in the order in which they were found"
    )
    detail: str = Field(default="", max_length=500, description="the last thing that was seen, and what to do")
    cuts: int = Field(default=1, ge=1, description="short ones that follow closely are one outage")
    kept: dict[FactClass, int] = Field(default_factory=dict, description="facts journalled meanwhile")
    shed: dict[FactClass, int] = Field(default_factory=dict, description="facts evicted or expired meanwhile")
    drained_in_s: int | None = Field(
        default=None, description="from the link's return until HQ had what was kept; null: not yet"
    )
    exact: bool = Field(default=True, description="false: the gateway was off meanwhile, the seconds are a lower bound")
