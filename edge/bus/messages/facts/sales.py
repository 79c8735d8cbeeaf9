"""What tills report. Business keys: ARTS POSLog 6.0."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

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
    member: Annotated[str, Field(min_length=1, max_length=64), Personal(subject=True)]
