"""Codes and weights on their way to a till."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edge.bus.messages.base import Id, Message, WeightValue

SCAN_EXPIRY_S = 3
"""A scan older than this lands in the next customer's basket: the broker drops it."""


class Embedded(Message):
    """What a restricted circulation number carries (GS1 General Specifications 24, section 2.1.11)."""

    item: str = Field(description="the item's own digits, e.g. 2112345: what price.lookup takes")
    price_minor: int | None = None
    weight: WeightValue | None = None
    unit: Literal["kg", "lb"] | None = None


class ScanMessage(Message):
    scan_id: str
    counter: int = Field(ge=1, description="per lane, from 1 after each start of the gateway: a hole is a lost scan")
    text: str
    symbology: str | None = Field(description="AIM identifier such as ]E0, where the scanner or the code tells it")
    gtin: str | None = Field(default=None, description="GTIN-14, where the code holds one")
    gs1: dict[str, str] | None = Field(default=None, description="GS1 application identifier -> value")
    embedded: Embedded | None = None
    captured_at: str
    device: Id


class WeightMessage(Message):
    value: WeightValue
    unit: Literal["kg", "g", "lb", "oz"]
    stable: bool
    net: bool | None = Field(description="whether a tare was taken off; null: the scale does not say")
    tare: WeightValue | None
    raw: str = Field(description="the scale's frame in hexadecimal")
    weighed_at: str
    device: Id
