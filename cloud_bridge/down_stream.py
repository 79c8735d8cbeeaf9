"""One stream of the downlink: what is committed, what is in hand, how far it is known to go. No I/O, no clock."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from edge.bus.client import Message
from edge.bus.messages.base import Id

PENDING_MAXIMUM = 64
"""The bound of what is held of one stream: also a cloud that knows no receive maximum (MQTT 3.1.1) fills no memory."""


class DownHeader(BaseModel):
    """The part of a downlink header that the bridge needs."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    stream: Id
    epoch: str = Field(pattern=r"^[A-Za-z0-9-]{1,64}$")
    seq: int = Field(ge=1)
    group: Id | None = None

    @property
    def key(self) -> str:
        """What positions are kept under: the stream, with its group in front when it has one."""
        return f"{self.group}:{self.stream}" if self.group else self.stream


@dataclass(slots=True, eq=False)
class Pending:
    """What edge has been given: one message, in `messages` as often as it came; each wants to be acknowledged."""

    messages: list[Message]
    done: bool = False

    @property
    def payload(self) -> bytes:
        """What edge is given, byte for byte."""
        return self.messages[0].payload

    def ack(self) -> None:
        """Acknowledge it; of no effect on a connection that is gone."""
        for message in self.messages:
            message.ack()


@dataclass(slots=True)
class Stream:
    """One stream: `committed`, and in `pending` (in order) what edge has been given and has not answered.

    `gone`: HQ has nothing left at or below it but what is in hand. `seen`: the highest number known to exist. `until`:
    what HQ is sending now goes so far.
    """

    name: str
    epoch: str
    committed: int = 0
    gone: int = 0
    seen: int = 0
    until: int = 0
    pending: dict[int, Pending] = field(default_factory=dict)
    again_at: float = 0.0
    tries: int = 0

    @property
    def last(self) -> int:
        """The last sequence in hand."""
        newest = next(reversed(self.pending)) if self.pending else self.committed
        return max(newest, self.gone)

    def finished(self) -> list[int]:
        """What of it edge has answered, up to the first that it has not."""
        return [seq for seq, _ in itertools.takewhile(lambda one: one[1].done, self.pending.items())]

    @property
    def lacks(self) -> bool:
        """Whether there is more, and room for it."""
        return self.seen > self.last and not self.full

    @property
    def full(self) -> bool:
        """Whether edge owes so many answers that nothing more is taken."""
        return len(self.pending) >= PENDING_MAXIMUM

    @property
    def coming(self) -> bool:
        """Whether HQ has offered more than is in hand."""
        return self.last < self.until
