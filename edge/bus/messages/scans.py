"""Codes and weights on their way to a till."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edge.bus.messages.base import Id, Message, WeightValue

SCAN_EXPIRY_S = 3
"""A scan older than this lands in the next customer's basket: the broker drops it."""


RejectCode = Literal[
    "check_digit",
    "verifier_digit",
    "wrong_length",
    "not_gs1",
    "price_precision",
    "control_characters",
    "not_text",
    "empty",
    "too_long",
    "prefix_missing",
    "aim_missing",
    "keys_not_understood",
    "cut_off",
    "lost_events",
    "garbled",
    "other_store",
    "no_lane",
    "storage_full",
    "card_number",
]
"""Why a code was not delivered. A code never changes its meaning; new ones may come."""


class Embedded(Message):
    """What a code carries beside its item: a restricted circulation number (GS1 General Specifications 24, section
    2.1.11) or element strings with a net weight (310n, 320n) or a price (392n).
    """

    item: str = Field(description="the item's own digits, e.g. 2112345, or its GTIN-14: what price.lookup takes")
    price_minor: int | None = None
    count: int | None = None
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
    barcode: str | None = Field(default=None, description="its family where the AIM identifier tells, e.g. ean_upc, qr")
    add_on: str | None = Field(default=None, description="2 or 5 digits of a periodical's or book's add-on symbol")
    captured_at: str
    device: Id


class ScanRejected(Message):
    """Something was scanned and is not delivered: the cashier should hear so. It is kept in quarantine."""

    code: RejectCode
    reason: str = Field(description="for people who look for the cause")
    please: str = Field(description="what the cashier should do")
    captured_at: str
    device: Id


Unit = Literal["kg", "g", "lb", "oz"]


class WeightMessage(Message):
    value: WeightValue
    unit: Unit
    stable: bool
    net: bool | None = Field(description="whether a tare was taken off; null: the scale does not say")
    tare: WeightValue | None
    raw: str = Field(description="the scale's frame in hexadecimal")
    weighed_at: str
    device: Id


class LiveWeight(Message):
    """What a watched scale shows now: to look at, not to sell by."""

    value: WeightValue | None = Field(default=None, description="null: no weight now; `reason` says why")
    unit: Unit | None = None
    stable: bool = Field(default=False, description="false also where the scale does not say")
    net: bool | None = Field(default=None, description="whether a tare was taken off; null: the scale does not say")
    tare: WeightValue | None = None
    reason: str | None = Field(
        default=None,
        description="why this could not be sold by: in_motion, over, under_zero, no_answer, garbled, ...; null: nothing"
        " is known against it. In the last message: not_watched, leased (to another lane) or device_lost",
    )
    watching: bool = Field(default=True, description="false: the last message of this watch")
    read_at: str
    device: Id
