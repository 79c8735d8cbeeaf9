"""What tills report. Business keys: ARTS POSLog 6.0."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

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
from edge.bus.messages.personal import Personal


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


MaskedNumber = Annotated[str, StringConstraints(pattern=r"^([0-9]{0,6}[*xX]{2,15}|[0-9]{8}[*xX]{4,7})[0-9]{4}$")]
"""A card number of which at most the first six and last four digits are left; the first eight where it has 16 or more
(PCI DSS 4.0, requirement 3.4.1; PCI SSC FAQ 1091)."""


class CardPayment(Recorded):
    """What the card terminal tells the till of a payment: enough to find it again, nothing to pay with."""

    masked_number: MaskedNumber | None = Field(default=None, description="e.g. 411111******1111 or ************1111")
    scheme: str | None = Field(default=None, max_length=32, description="as the terminal names it, e.g. Visa")
    application: str | None = Field(default=None, pattern=r"^[0-9A-F]{10,32}$", description="EMV AID")
    entry: Literal["chip", "contactless", "swiped", "keyed"] | None = None
    authorisation: str | None = Field(default=None, max_length=16, description="the issuer's approval code")
    terminal: str | None = Field(default=None, max_length=32, description="the terminal's id at the acquirer")
    trace: str | None = Field(default=None, max_length=16, description="the terminal's own number for it")
    reference: str | None = Field(default=None, max_length=64, description="the acquirer's or the provider's")


class TenderTaken(Recorded):
    business_day_date: BusinessDay
    operator_id: Id
    receipt_number: str = Field(min_length=1, max_length=64)
    kind: Literal["cash", "card", "voucher", "other"]
    currency: Currency
    amount_minor: Minor
    change_minor: PositiveMinor = 0
    card: CardPayment | None = None


class CashMoved(Recorded):
    business_day_date: BusinessDay
    operator_id: Id
    direction: Literal["in", "out"]
    currency: Currency
    amount_minor: PositiveMinor
    reason: str = Field(min_length=1, max_length=200)


class MemberIdentified(Recorded):
    receipt_number: str = Field(min_length=1, max_length=64)
    member: Annotated[str, Field(min_length=1, max_length=64), Personal(subject=True)]
