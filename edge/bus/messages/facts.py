"""Facts: things that happened, in the past tense, recorded once.

Strategy: `FACTS` is the one table from fact type to class, data model and who may report it. `check` takes an event as
it was parsed and either returns its `FactType` or raises `BadFact` with what would be right. The event itself is never
rebuilt from the model: what the till sent is what is journalled.

Source: design pages "The local bus" (facts) and "Journal, bridge, HQ" (classes). Business keys: ARTS POSLog 6.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from edge.bus.messages.base import (
    BusinessDay,
    Currency,
    EventId,
    Id,
    Minor,
    PositiveMinor,
    Quantity,
    Recorded,
    WeightValue,
)


class FactClass(StrEnum):
    """How important a fact is, most important first; the order is the order of sending."""

    CRITICAL = "critical"
    TRANSACTION = "transaction"
    OPERATION = "operation"
    ENGAGEMENT = "engagement"
    TELEMETRY = "telemetry"

    @property
    def durable(self) -> bool:
        """Whether ``accepted`` waits for the disk (the others are on disk within 1 s)."""
        return self in (FactClass.CRITICAL, FactClass.TRANSACTION, FactClass.OPERATION)

    @property
    def evictable(self) -> bool:
        """Whether unconfirmed facts of this class may go when the disk fills."""
        return self in (FactClass.ENGAGEMENT, FactClass.TELEMETRY)


class BadFact(ValueError):
    """The event is no fact we can keep as such; the text names the place and what would be right."""


# -- from tills --------------------------------------------------------------------------------------------------------


class MeasuredWeight(Recorded):
    value: WeightValue
    unit: Literal["kg", "lb"]


class SaleLine(Recorded):
    line: int = Field(ge=1)
    item: str = Field(min_length=1, max_length=64, description="GTIN or in-store code")
    text: str = Field(max_length=200)
    quantity: Quantity
    unit_price_minor: PositiveMinor
    amount_minor: PositiveMinor
    weight: MeasuredWeight | None = None
    scan_id: EventId | None = None


class SaleCompleted(Recorded):
    business_day_date: BusinessDay
    operator_id: Id
    receipt_number: str = Field(min_length=1, max_length=64)
    currency: Currency
    lines: tuple[SaleLine, ...] = Field(min_length=1, max_length=2000, strict=False)
    total_minor: PositiveMinor
    price_version: str | None = None


class SaleVoided(Recorded):
    business_day_date: BusinessDay
    operator_id: Id
    receipt_number: str = Field(min_length=1, max_length=64)
    reason: str = Field(min_length=1, max_length=200)


class ReturnCompleted(Recorded):
    business_day_date: BusinessDay
    operator_id: Id
    receipt_number: str = Field(min_length=1, max_length=64)
    original_receipt_number: str | None = None
    currency: Currency
    lines: tuple[SaleLine, ...] = Field(min_length=1, max_length=2000, strict=False)
    total_minor: PositiveMinor


class TenderTaken(Recorded):
    business_day_date: BusinessDay
    operator_id: Id
    receipt_number: str = Field(min_length=1, max_length=64)
    kind: Literal["cash", "card", "voucher", "other"]
    currency: Currency
    amount_minor: Minor
    change_minor: PositiveMinor = 0


class CashMoved(Recorded):
    business_day_date: BusinessDay
    operator_id: Id
    direction: Literal["in", "out"]
    currency: Currency
    amount_minor: PositiveMinor
    reason: str = Field(min_length=1, max_length=200)


class MemberIdentified(Recorded):
    receipt_number: str = Field(min_length=1, max_length=64)
    member: str = Field(min_length=1, max_length=64)


# -- from the gateway --------------------------------------------------------------------------------------------------


class DrawerOpened(Recorded):
    device: Id
    lane: Id | None
    request: EventId | None = Field(description="the request that opened it; null: opened without a command")
    operator_id: Id | None = None
    receipt_number: str | None = None
    reason: str | None = None
    outcome: Literal["seen", "unknown"] = Field(description="seen: the drawer's own contact said so")
    shared_with: tuple[Id, ...] = Field(
        default=(), strict=False, description="drawers on the same contact: it may have been one of these instead"
    )


class DrawerClosed(Recorded):
    device: Id
    lane: Id | None
    open_ms: int | None = Field(description="how long it stood open; null when the opening was not seen")


class DrawerLeftOpen(Recorded):
    device: Id
    lane: Id | None
    request: EventId | None = Field(description="the request that opened it; null: opened without a command")
    open_ms: int | None = Field(description="how long it has stood open by now; null when the opening was not seen")


class DeviceChanged(Recorded):
    device: Id
    category: str
    state: str
    detail: str = ""
    changes: int = Field(default=1, ge=1, description="how often it changed since it was last told")


class DeviceSwapped(Recorded):
    device: Id
    category: str
    port: str
    serial_before: str | None = Field(description="of the device that was in this port; null: it had none")
    serial_now: str | None


class DeviceTakenOver(Recorded):
    device: Id
    category: str
    lane: Id
    from_lane: Id
    operator_id: Id
    reason: str = Field(min_length=1, max_length=200)
    lease: int = Field(description="the fencing token of the lane that has it now")


class DeviceBound(Recorded):
    """A scanner serves another lane from now on: a lane card was scanned with it."""

    device: Id
    lane: Id
    previous: Id
    home: bool = Field(description="brought back to its configured lanes, by the home card")


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


class ClockTrusted(Recorded):
    boot: str
    offset_ms: int = Field(description="wall clock minus monotonic clock of that boot")


class GatewayStarted(Recorded):
    version: str
    epoch: str
    boot: str


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


class PrintFinished(Recorded):
    job: str
    device: Id
    lane: Id | None
    state: str
    proven: bool


@dataclass(frozen=True, slots=True)
class FactType:
    """One row of the table: `name` is the CloudEvents type."""

    name: str
    fact_class: FactClass
    data: type[Recorded]
    from_till: bool = False


_C, _T, _O, _E, _M = FactClass

FACTS: dict[str, FactType] = {
    row.name: row
    for row in (
        FactType("tillgate.tender.taken.v1", _C, TenderTaken, from_till=True),
        FactType("tillgate.sale.completed.v1", _T, SaleCompleted, from_till=True),
        FactType("tillgate.sale.voided.v1", _T, SaleVoided, from_till=True),
        FactType("tillgate.return.completed.v1", _T, ReturnCompleted, from_till=True),
        FactType("tillgate.cash.moved.v1", _T, CashMoved, from_till=True),
        FactType("tillgate.drawer.opened.v1", _T, DrawerOpened),
        FactType("tillgate.drawer.closed.v1", _T, DrawerClosed),
        FactType("tillgate.drawer.left_open.v1", _T, DrawerLeftOpen),
        FactType("tillgate.price.activated.v1", _O, PriceActivated),
        FactType("tillgate.price.refused.v1", _O, PriceRefused),
        FactType("tillgate.command.received.v1", _O, CommandReceived),
        FactType("tillgate.command.finished.v1", _O, CommandFinished),
        FactType("tillgate.lane.gap_found.v1", _O, LaneGapFound),
        FactType("tillgate.lane.gap_filled.v1", _O, LaneGapFilled),
        FactType("tillgate.sequence.conflict.v1", _O, SequenceConflict),
        FactType("tillgate.journal.tombstone.v1", _O, Tombstone),
        FactType("tillgate.journal.damaged.v1", _O, JournalDamaged),
        FactType("tillgate.clock.trusted.v1", _O, ClockTrusted),
        FactType("tillgate.link.restored.v1", _O, Outage),
        FactType("tillgate.print.finished.v1", _O, PrintFinished),
        FactType("tillgate.device.swapped.v1", _O, DeviceSwapped),
        FactType("tillgate.device.taken_over.v1", _O, DeviceTakenOver),
        FactType("tillgate.device.bound.v1", _O, DeviceBound),
        FactType("tillgate.member.identified.v1", _E, MemberIdentified, from_till=True),
        FactType("tillgate.device.changed.v1", _M, DeviceChanged),
        FactType("tillgate.gateway.started.v1", _M, GatewayStarted),
    )
}
TYPE_OF: dict[type[Recorded], str] = {row.data: row.name for row in FACTS.values()}


class FactEnvelope(Recorded):
    """A CloudEvent as a till publishes it on its ``facts`` topic."""

    model_config = ConfigDict(title="Fact")

    specversion: Literal["1.0"]
    id: EventId
    source: str = Field(description="/stores/{store}/lanes/{lane}")
    type: str = Field(max_length=128)
    time: str = Field(min_length=20, max_length=40, description="RFC 3339, UTC")
    sequence: str = Field(pattern=r"^[0-9]{10}$", description="the lane's own counter from 1, contiguous")
    datacontenttype: Literal["application/json"] = "application/json"
    data: dict[str, Any]


def check(event: dict[str, Any], source: str) -> tuple[FactType, int]:
    """The fact's type and lane sequence; BadFact when a till may not send this as a fact from `source`."""
    try:
        envelope = FactEnvelope.model_validate(event)
    except ValidationError as error:
        raise BadFact(first_error(error)) from None
    row = FACTS.get(envelope.type)
    if row is None or not row.from_till:
        known = ", ".join(sorted(name for name, row in FACTS.items() if row.from_till))
        raise BadFact(f"type: {envelope.type!r} is not a fact a till sends; known: {known}")
    if envelope.source != source:
        raise BadFact(f"source: must be {source!r}, not {envelope.source!r}")
    sequence = int(envelope.sequence)
    if sequence < 1:
        raise BadFact("sequence: a lane counts from 0000000001")
    try:
        row.data.model_validate(envelope.data)
    except ValidationError as error:
        raise BadFact(f"data.{first_error(error)}") from None
    return row, sequence


def first_error(error: ValidationError) -> str:
    """The first complaint as ``place: what would be right``."""
    first = error.errors(include_url=False, include_context=False, include_input=True)[0]
    place = ".".join(str(part) for part in first["loc"]) or "message"
    found = repr(first["input"])
    shown = found if len(found) <= 60 else found[:57] + "..."
    return f"{place}: {first['msg']} (found {shown})"
