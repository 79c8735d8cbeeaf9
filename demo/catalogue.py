"""What the demo store sells: `catalogue.csv`, which is also what HQ publishes as the price version.

    4091180200119   a GTIN-13 on the packet
    2110101         an in-store item whose labels carry the price:    21 IIIII PPPPP C
    2220301         an in-store item whose labels carry the weight:   22 IIIII WWWWW C
    4011            loose goods, weighed at the till (a PLU number that the cashier knows)

Source of the label forms: GS1 General Specifications, section 2.1.11 (restricted circulation numbers).
"""

from __future__ import annotations

import csv
import random
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Literal

FILE = Path(__file__).with_name("catalogue.csv")

PRICE_PREFIX, WEIGHT_PREFIX = "21", "22"


@dataclass(frozen=True, slots=True)
class Item:
    """`price_minor` is per piece or per kg in cents; `how` is how it gets into the till."""

    code: str
    text: str
    price_minor: int
    per: Literal["each", "kg"]
    how: Literal["gtin", "price label", "weight label", "scale"]


def read_catalogue(file: Path = FILE) -> tuple[Item, ...]:
    """All items of the file."""
    with file.open(encoding="utf-8", newline="") as lines:
        return tuple(
            Item(row["code"], row["text"], int(row["price_minor"]), "kg" if row["per"] == "kg" else "each", _how(row))
            for row in csv.DictReader(lines)
        )


def label(item: Item, rng: random.Random) -> str:
    """What is printed on one packet of `item`: 13 digits with their check digit."""
    if item.how == "gtin":
        return item.code
    weight_g = rng.randint(120, 2_400)
    value = weight_g if item.how == "weight label" else amount_minor(item.price_minor, Decimal(weight_g) / 1000)
    digits = f"{item.code}{value:05d}"
    return digits + check_digit(digits)


def check_digit(digits: str) -> str:
    """GS1 check digit: weights 3 and 1 from the right (GS1 General Specifications, section 7.9)."""
    total = sum(int(digit) * (1 if place % 2 else 3) for place, digit in enumerate(reversed(digits)))
    return str(-total % 10)


def amount_minor(price_minor: int, quantity: Decimal) -> int:
    """Price times quantity, rounded half up to a whole cent."""
    return int((price_minor * quantity).quantize(Decimal(1), ROUND_HALF_UP))


def _how(row: dict[str, str]) -> Literal["gtin", "price label", "weight label", "scale"]:
    code = row["code"]
    if len(code) == 7 and code.startswith(PRICE_PREFIX):
        return "price label"
    if len(code) == 7 and code.startswith(WEIGHT_PREFIX):
        return "weight label"
    return "scale" if len(code) < 7 else "gtin"
