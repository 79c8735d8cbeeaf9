"""What goes into the journal and what comes back: the types that callers of the store see.

Strategy: a fact is turned into its canonical bytes at once, when it is handed over, so that nothing that happens to the
caller's dictionary afterwards can change what is recorded. The journal's own attributes all begin with ``tg``; in key
order they stand between the attributes before and those after, so the final body is put together from three pieces
without serialising the fact a second time.

Source: CloudEvents 1.0.2, "Context Attributes" (extension names are lower-case letters and digits; an Integer has 32
bits, which is why ``tgmono``, milliseconds of uptime, is a string: it would not fit after 25 days).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import orjson

from edge.bus.messages.facts import FactClass
from edge.bus.messages.personal import Person
from edge.journal import chain
from edge.journal.clock import Stamp

Statement = tuple[str, Sequence[object]]
"""One SQL statement with its parameters."""

ConflictKind = Literal["id", "sequence"]

OWN_PREFIX = "tg"
_AFTER_OWN = "th"
MAX_LANE_SEQ = 9_999_999_999


@dataclass(frozen=True, slots=True)
class NewFact:
    """A fact to be journalled.

    `event` is the CloudEvent as parsed, already checked; attributes of its own that begin with ``tg`` are left out.
    `lane_seq` is the lane's own counter, 1 to 9,999,999,999; None for what the gateway itself says about a lane.
    `person` is whom it is about, if it is: all of its data but the `impersonal` parts is sealed with that person's key
    (`personal.py`), in the transaction that records it.
    """

    id: str
    type: str
    fact_class: FactClass
    source: str
    time: str
    lane: str | None
    lane_seq: int | None
    event: Mapping[str, object]
    person: Person | None = None
    impersonal: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Refuse what could not be kept: ValueError says which part."""
        if self.lane_seq is not None:
            if self.lane is None:
                raise ValueError("lane_seq is given without a lane: name the lane that counted it")
            if not 1 <= self.lane_seq <= MAX_LANE_SEQ:
                raise ValueError(f"lane_seq {self.lane_seq} is outside 1 to {MAX_LANE_SEQ}: a lane counts from 1")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The fact is on disk as `seq` of `fact_class` in `epoch`; `repeated` when it was there before."""

    fact_class: FactClass
    seq: int
    epoch: str
    repeated: bool


@dataclass(frozen=True, slots=True)
class Conflict:
    """Another fact already has this id or this lane sequence. Both are kept.

    `fact_class` and `seq` are the row that keeps the newcomer as evidence. `other_id`, `other_class` and `other_seq`
    are the first; when the first is no longer in the file (trimmed after its retention) `other_id` is None and
    `other_seq` is 0. `repeated` when this same newcomer was recorded before.
    """

    kind: ConflictKind
    fact_class: FactClass
    seq: int
    other_id: str | None
    other_class: FactClass
    other_seq: int
    repeated: bool


class NotStored(Exception):
    """What was handed over is not on disk: whoever sent it still owns it."""


class StorageFull(NotStored):
    """The disk is full and nothing may be evicted: try again later."""

    def __init__(self, free_bytes: int, reserve_bytes: int) -> None:
        super().__init__(
            f"the disk has {free_bytes} bytes free, of which {reserve_bytes} are kept in reserve, and nothing in the"
            " journal may be evicted: free some space, or restore the link to HQ so that facts are confirmed"
        )
        self.free_bytes = free_bytes
        self.reserve_bytes = reserve_bytes


class StoreFaulted(NotStored):
    """The disk has failed, or this process is ending. Once the disk is well, edge begins a new life with it."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A fact in bytes: the attributes that sort before ``tg``, and those that sort after."""

    before: bytes
    after: bytes
    digest: bytes
    nobody: bool = False
    """It is about a person who is erased."""

    @property
    def size_bytes(self) -> int:
        """Size without the journal's own attributes."""
        return len(self.before) + len(self.after)

    def body(self, fact_class: FactClass, seq: int, stamp: Stamp, conflict: ConflictKind | None) -> bytes:
        """The canonical envelope as it is stored and sent to HQ: JSON, keys sorted, no white space."""
        clash = f'"tgconflict":"{conflict}",' if conflict else ""
        own = (
            f'"tgboot":"{stamp.boot}","tgclass":"{fact_class.value}","tgclock":"{stamp.trust.value}",{clash}'
            f'"tgmono":"{stamp.mono_ms}","tgrecorded":"{stamp.wall}","tgseq":{seq}'
        ).encode()
        before, after = self.before[1:-1], self.after[1:-1]
        return b"{" + b",".join(part for part in (before, own, after) if part) + b"}"


def prepare(event: Mapping[str, object]) -> Prepared:
    """The event in bytes; ValueError when it holds something JSON cannot carry."""
    before = {key: value for key, value in event.items() if key < OWN_PREFIX}
    after = {key: value for key, value in event.items() if key >= _AFTER_OWN}
    try:
        head = orjson.dumps(before, option=orjson.OPT_SORT_KEYS)
        tail = orjson.dumps(after, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise ValueError(f"the fact is not plain JSON: {error}") from None
    return Prepared(head, tail, chain.digest(head + tail))


def content_digest(body: bytes) -> bytes:
    """The digest of what the till sent, recomputed from a stored body; ValueError when it is not a JSON object."""
    event = orjson.loads(body)
    if not isinstance(event, dict):
        raise ValueError("the body is not a JSON object")
    return prepare(event).digest
