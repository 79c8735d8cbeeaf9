"""Facts: things that happened, in the past tense, recorded once.

Strategy: `FACTS` is the one table from fact type to class, data model and who may report it. `check` takes an event as
it was parsed and either returns its `FactType` or raises `BadFact` with what would be right. The event itself is never
rebuilt from the model: what the till sent is what is journalled. By family: `sales` from tills; `devices`,
`headquarters`, `journal` and `audit` from the gateway.

Source: design pages "The local bus" (facts) and "Journal, bridge, HQ" (classes). Business keys: ARTS POSLog 6.0.
"""

from __future__ import annotations

from edge.bus.messages.facts.access import StrangerSeen
from edge.bus.messages.facts.audit import AUDIT_ACTIONS, AuditAction, AuditOutcome, AuditRecorded
from edge.bus.messages.facts.checking import BadFact, FactEnvelope, check, first_error
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
from edge.bus.messages.facts.headquarters import (
    CommandFinished,
    CommandProblem,
    CommandReceived,
    Outage,
    PriceActivated,
    PriceRefused,
)
from edge.bus.messages.facts.journal import (
    ClockTrusted,
    GatewayStarted,
    JournalDamaged,
    LaneGapFilled,
    LaneGapFound,
    LostRange,
    SequenceConflict,
    SubjectErased,
    Tombstone,
)
from edge.bus.messages.facts.sales import (
    CardPayment,
    CashMoved,
    MeasuredWeight,
    MemberIdentified,
    ReturnCompleted,
    SaleCompleted,
    SaleLine,
    SaleVoided,
    TenderTaken,
)
from edge.bus.messages.facts.table import ABOUT_CUSTOMERS, CUSTOMER_TYPES, FACTS, TYPE_OF, FactType

__all__ = [
    "ABOUT_CUSTOMERS",
    "AUDIT_ACTIONS",
    "CUSTOMER_TYPES",
    "FACTS",
    "TYPE_OF",
    "AuditAction",
    "AuditOutcome",
    "AuditRecorded",
    "BadFact",
    "CardPayment",
    "CashMoved",
    "ClockTrusted",
    "CommandFinished",
    "CommandProblem",
    "CommandReceived",
    "DeviceBound",
    "DeviceChanged",
    "DeviceSwapped",
    "DeviceTakenOver",
    "DrawerClosed",
    "DrawerLeftOpen",
    "DrawerOpened",
    "FactClass",
    "FactEnvelope",
    "FactType",
    "GatewayStarted",
    "JournalDamaged",
    "LaneGapFilled",
    "LaneGapFound",
    "LostRange",
    "MeasuredWeight",
    "MemberIdentified",
    "Outage",
    "PriceActivated",
    "PriceRefused",
    "PrintFinished",
    "ReturnCompleted",
    "SaleCompleted",
    "SaleLine",
    "SaleVoided",
    "SequenceConflict",
    "StrangerSeen",
    "SubjectErased",
    "TenderTaken",
    "Tombstone",
    "check",
    "first_error",
]
