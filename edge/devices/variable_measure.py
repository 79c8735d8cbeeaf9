"""Numbers with a price, a weight or a count inside: how each country cuts them, and their verifier digit.

A row (`VariableMeasure`) is two digits of prefix, the item, perhaps a verifier digit, the value and the check digit.
Prefixes 02 and 20-29 mean what the national GS1 organisation, or the store itself, says: a country is listed here only
where its organisation's own page was read; everywhere else the rows stand in store.toml.

Source: GS1 General Specifications 24, sections 2.1.11 (restricted circulation numbers) and 7.9 (verifier digits).
GS1 Germany, "Das Konzept der SAN-4" (san.gs1-germany.de): 22/23 price, 25/26 pieces, 28/29 weight, with verifier.
GS1 UK, "How to barcode variable measure items" (gs1uk.org): 20 and 28 price, with verifier.
GS1 Sweden, "Variable weight number" (gs1.se): 20-22 price with 2, 1, 0 decimals, 23-25 kilograms with 3, 2, 1.
GS1 Finland, "How to identify the product" (gs1.fi): 23-25 kilograms with 3, 2, 1 decimals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from edge.config import VariableMeasure
from edge.devices.rejected import Rejected

Value = Literal["price", "weight", "count"]


def _rows(
    prefixes: str, value: Value, decimals: int, *, item_digits: int, value_digits: int, verifier: bool = False
) -> tuple[VariableMeasure, ...]:
    return tuple(
        VariableMeasure(
            prefix=prefix,
            item_digits=item_digits,
            value=value,
            value_digits=value_digits,
            decimals=decimals,
            verifier=verifier,
        )
        for prefix in prefixes.split()
    )


_NORDIC_WEIGHT = tuple(
    row
    for prefix, decimals in (("23", 3), ("24", 2), ("25", 1))
    for row in _rows(prefix, "weight", decimals, item_digits=6, value_digits=4)
)

COUNTRIES: Mapping[str, tuple[VariableMeasure, ...]] = {
    "de": (
        *_rows("22 23", "price", 2, item_digits=4, value_digits=5, verifier=True),
        *_rows("25 26", "count", 0, item_digits=4, value_digits=5, verifier=True),
        *_rows("28 29", "weight", 3, item_digits=4, value_digits=5, verifier=True),
    ),
    "fi": _NORDIC_WEIGHT,
    "gb": _rows("20 28", "price", 2, item_digits=5, value_digits=4, verifier=True),
    "se": (
        *_rows("20", "price", 2, item_digits=6, value_digits=4),
        *_rows("21", "price", 1, item_digits=6, value_digits=4),
        *_rows("22", "price", 0, item_digits=6, value_digits=4),
        *_NORDIC_WEIGHT,
    ),
}


def cut(digits: str, measures: Sequence[VariableMeasure], currency_digits: int) -> dict[str, Any] | None:
    """What 13 digits with a fitting check digit carry, by the first row with their prefix; None when there is none.

    The keys are those of `edge.bus.messages.scans.Embedded` that apply. Raises `Rejected`.
    """
    for row in measures:
        if digits.startswith(row.prefix):
            return _cut(digits, row, currency_digits)
    return None


def _cut(digits: str, row: VariableMeasure, currency_digits: int) -> dict[str, Any]:
    item_end = 2 + row.item_digits
    value = digits[-1 - row.value_digits : -1]
    if row.verifier:
        expected, found = verifier_digit(value), digits[item_end]
        if found != expected:
            raise Rejected(
                "verifier_digit", f"wrong {row.value} verifier digit in {digits}: {found}, where {expected} belongs"
            )
    item = digits[:item_end]
    if row.value == "count":
        return {"item": item, "count": int(value)}
    if row.value == "weight":
        return {"item": item, "weight": decimal(value, row.decimals), "unit": row.unit}
    return {"item": item, "price_minor": price_minor(value, row.decimals, currency_digits, digits)}


def price_minor(value: str, decimals: int, currency_digits: int, code: str) -> int:
    """A price of `decimals` decimals in the currency's smallest coin; Rejected when it is finer than that."""
    minor, rest = divmod(int(value + "0" * currency_digits), int("1" + "0" * decimals))
    if rest:
        raise Rejected("price_precision", f"the price in {code} is finer than the currency's smallest coin")
    return minor


def decimal(digits: str, decimals: int) -> str:
    """``("00482", 3)`` -> ``"0.482"``."""
    if not decimals:
        return str(int(digits))
    padded = digits.rjust(decimals + 1, "0")
    return f"{int(padded[:-decimals])}.{padded[-decimals:]}"


# Weighted products of a digit 0-9 (GS1 General Specifications 24, section 7.9.2).
_TWO_MINUS = (0, 2, 4, 6, 8, 9, 1, 3, 5, 7)
_THREE = (0, 3, 6, 9, 2, 5, 8, 1, 4, 7)
_FIVE_PLUS = (0, 5, 1, 6, 2, 7, 3, 8, 4, 9)
_FIVE_MINUS = (0, 5, 9, 4, 8, 3, 7, 2, 6, 1)


def verifier_digit(value: str) -> str:
    """The verifier digit of a price or weight of four or five digits (GS1 General Specifications 24, 7.9)."""
    values = [int(digit) for digit in value]
    if len(values) == 4:
        tables = (_TWO_MINUS, _TWO_MINUS, _THREE, _FIVE_MINUS)
        return str(sum(table[v] for table, v in zip(tables, values, strict=True)) * 3 % 10)
    wide = (_FIVE_PLUS, _TWO_MINUS, _FIVE_MINUS, _FIVE_PLUS, _TWO_MINUS)
    total = sum(table[v] for table, v in zip(wide, values, strict=True))
    return str(_FIVE_MINUS.index(-total % 10))
