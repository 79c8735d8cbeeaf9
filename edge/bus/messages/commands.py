"""Commands: what HQ may ask of a store (downlink stream ``commands``). Signed, expiring, run once, answered by a fact.

Strategy: `COMMANDS` is the one table from operation to its parameters. One that has no effect when it is run twice is
marked `repeatable`: a crash in the middle lets it run again, where any other becomes ``unknown_outcome``.

The answer is `tillgate.command.finished.v1`; before it runs, `tillgate.command.received.v1` is in the journal. Problem
codes are those of replies (`edge.bus.messages.replies.Code`) and those of `Refusal`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from edge.bus.messages.base import EventId, Id, Message
from edge.bus.messages.signed import UTC_TIME, Numbered

COMMANDS_STREAM = "commands"


class Command(Numbered):
    """The signed text of a command."""

    type: Literal["tillgate.command.v1"] = "tillgate.command.v1"
    id: EventId = Field(description="UUIDv7, chosen by HQ: a store runs it once, whatever comes how often")
    operation: str = Field(min_length=1, max_length=64)
    parameters: dict[str, Any] = Field(default_factory=dict)
    by: str = Field(default="", max_length=64, description="who gave it")
    issued_at: str = Field(pattern=UTC_TIME)
    expires_at: str = Field(pattern=UTC_TIME, description="not begun any more from then on")


class Refusal(StrEnum):
    """Why a command was not even begun, where no other problem code says it."""

    BAD_SIGNATURE = "bad_signature"
    NO_KEY = "no_key"


class Nothing(Message):
    """No parameters."""


class OneDevice(Message):
    device: Id = Field(description="a device id of the store")


class OneSubject(Message):
    subject: str = Field(
        pattern=r"^[A-Za-z0-9_-]{16}$", description="a customer's pseudonym in this store's facts: `tgsealed`"
    )


@dataclass(frozen=True, slots=True)
class CommandOperation:
    """One row: `within_s` is how long it may take; `repeatable`: running it twice is as good as once."""

    name: str
    parameters: type[Message]
    summary: str
    repeatable: bool
    within_s: float


COMMANDS: dict[str, CommandOperation] = {
    row.name: row
    for row in (
        CommandOperation("status.report", Nothing, "The gateway's status and every device's.", True, 30),
        CommandOperation("device.identify", OneDevice, "A device shows itself: it beeps, prints or shows.", False, 60),
        CommandOperation("device.test", OneDevice, "Try a device as a till would (not a cash drawer).", False, 120),
        CommandOperation("journal.verify", Nothing, "Walk the journal: contiguous, chained, unchanged?", True, 3600),
        CommandOperation("privacy.erase", OneSubject, "Destroy the key of one customer's data.", True, 300),
    )
}
