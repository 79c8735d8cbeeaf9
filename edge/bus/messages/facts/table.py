"""The one table from fact type to class, data model and who may report it."""

from __future__ import annotations

from dataclasses import dataclass

from edge.bus.messages.base import Recorded
from edge.bus.messages.facts.access import StrangerSeen
from edge.bus.messages.facts.audit import AuditRecorded
from edge.bus.messages.facts.classes import FactClass
from edge.bus.messages.facts.devices import (
    DeviceBound,
    DeviceChanged,
    DeviceSwapped,
    DeviceTakenOver,
    DrawerClosed,
    DrawerLeftOpen,
    DrawerOpened,
    PrintFinished,
)
from edge.bus.messages.facts.headquarters import CommandFinished, CommandReceived, Outage, PriceActivated, PriceRefused
from edge.bus.messages.facts.journal import (
    ClockTrusted,
    GatewayStarted,
    JournalDamaged,
    LaneGapFilled,
    LaneGapFound,
    SequenceConflict,
    SubjectErased,
    Tombstone,
)
from edge.bus.messages.facts.sales import (
    CashMoved,
    MemberIdentified,
    ReturnCompleted,
    SaleCompleted,
    SaleVoided,
    TenderTaken,
)
from edge.bus.messages.personal import about


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
        FactType("tillgate.subject.erased.v1", _O, SubjectErased),
        FactType("tillgate.clock.trusted.v1", _O, ClockTrusted),
        FactType("tillgate.link.restored.v1", _O, Outage),
        FactType("tillgate.print.finished.v1", _O, PrintFinished),
        FactType("tillgate.discovery.stranger_seen.v1", _O, StrangerSeen),
        FactType("tillgate.audit.recorded.v1", _O, AuditRecorded),
        FactType("tillgate.device.swapped.v1", _O, DeviceSwapped),
        FactType("tillgate.device.taken_over.v1", _O, DeviceTakenOver),
        FactType("tillgate.device.bound.v1", _O, DeviceBound),
        FactType("tillgate.member.identified.v1", _E, MemberIdentified, from_till=True),
        FactType("tillgate.device.changed.v1", _M, DeviceChanged),
        FactType("tillgate.gateway.started.v1", _M, GatewayStarted),
    )
}
TYPE_OF: dict[type[Recorded], str] = {row.data: row.name for row in FACTS.values()}
CUSTOMER_TYPES = {row.name: whose for row in FACTS.values() if (whose := about(row.data)) is not None}
"""The facts that are about a customer, and what of their data is whose."""

ABOUT_CUSTOMERS = frozenset(FACTS[name].fact_class for name in CUSTOMER_TYPES)
"""The classes in which a fact may have parts that are sealed with a customer's key."""
