"""What a scanned text is: GTIN, GS1 element string, Digital Link, or a number with a price or a weight inside.

Strategy: pure functions, no state. The commonest code by far, a plain EAN-13, is settled with a dozen integer
additions and no further look. GS1 element strings and Digital Links need biip, which takes a third of a second and
16 MB to import (`needs_library`, `load_library`): only a store that scans such codes pays for it.
A code whose own check digit contradicts it is rejected with the reason, never corrected.

Without an AIM identifier a text of 8, 12 or 13 digits whose check digit fits is taken as EAN-8, UPC-A or EAN-13;
one whose check digit does not fit is delivered as plain text, because it may be any other number.

Source: ISO/IEC 15424 (AIM identifiers); GS1 General Specifications 24, sections 7.9 (check digits), 2.1.11
(restricted circulation numbers), 5.4 (element strings).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge.config import VariableMeasure

GS1_SYMBOLOGIES = frozenset(("C1", "e0", "d2", "Q3", "J1"))
"""GS1-128, DataBar, GS1 DataMatrix, GS1 QR, GS1 DotCode: their text is element strings."""

_EAN = frozenset(("E0", "E4"))
_ITF = frozenset(("I0", "I1"))
_INFERRED = {8: "]E4", 12: "]E0", 13: "]E0"}
_GTIN_IDENTIFIERS = ("01", "02")


class Rejected(ValueError):
    """The code contradicts itself; the text says how. It is kept in quarantine and not delivered."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a code says. Fields as in `ScanMessage`; `embedded` has the keys of `Embedded` that apply."""

    symbology: str | None
    gtin: str | None = None
    gs1: dict[str, str] | None = None
    embedded: dict[str, Any] | None = None


def read(text: str, aim: str | None, measures: Sequence[VariableMeasure], minor_digits: int) -> Reading:
    """Normalise a scanned `text`; `aim` is the identifier without its bracket, or None.

    `measures` is the country's table, `minor_digits` the decimals of the store's currency. Raises `Rejected`.
    """
    if aim is None:
        inferred = _INFERRED.get(len(text)) if text.isdecimal() and text.isascii() else None
        if inferred is not None and check_digit_fits(text):
            return _ean(text, inferred, measures, minor_digits)
        return _link(text, None)
    if aim in _EAN:
        return _ean(_checked_ean(text), f"]{aim}", measures, minor_digits)
    if aim in GS1_SYMBOLOGIES:
        return _link(text, aim) if text.startswith(("http:", "https:")) else _element_strings(text, aim)
    if aim in _ITF and len(text) == 14 and text.isdecimal() and text.isascii() and check_digit_fits(text):
        return Reading(f"]{aim}", gtin=text)
    return _link(text, aim)


def needs_library(text: str, aim: str | None) -> bool:
    """Whether `read` will import biip for this text, should it not be loaded yet."""
    return aim in GS1_SYMBOLOGIES or _looks_like_link(text)


def load_library() -> None:
    """Import what GS1 codes need (blocks; call it in a thread)."""
    import biip.gs1_digital_link_uris
    import biip.gs1_messages  # noqa: F401


def check_digit_fits(digits: str) -> bool:
    """Whether the last digit is the GS1 check digit of those before it (weights 3, 1, 3 ... from right)."""
    values = [ord(digit) - 48 for digit in reversed(digits)]
    return (sum(values[::2]) + 3 * sum(values[1::2])) % 10 == 0


def _checked_ean(text: str) -> str:
    """The digits of an EAN or UPC symbol, UPC-E expanded to UPC-A; Rejected when the check digit is wrong."""
    if not (text.isdecimal() and text.isascii() and len(text) in (8, 12, 13)):
        raise Rejected(f"an EAN or UPC symbol holds 8, 12 or 13 digits, not {text[:20]!r}")
    if check_digit_fits(text):
        return text
    if len(text) == 8 and text[0] in "01":
        expanded = _expand_upc_e(text)
        if check_digit_fits(expanded):
            return expanded
    raise Rejected(f"wrong check digit in {text}")


def _expand_upc_e(text: str) -> str:
    """UPC-E with number system and check digit to UPC-A (GS1 General Specifications 24, 5.2.2.4.2)."""
    system, body, check = text[0], text[1:7], text[7]
    last = body[5]
    if last in "012":
        middle = body[:2] + last + "0000" + body[2:5]
    elif last == "3":
        middle = body[:3] + "00000" + body[3:5]
    elif last == "4":
        middle = body[:4] + "00000" + body[4]
    else:
        middle = body[:5] + "0000" + last
    return system + middle + check


def _ean(digits: str, symbology: str, measures: Sequence[VariableMeasure], currency_digits: int) -> Reading:
    thirteen = digits.rjust(13, "0") if len(digits) == 12 else digits
    if measures and len(thirteen) == 13:
        for measure in measures:
            if thirteen.startswith(measure.prefix):
                return Reading(symbology, embedded=_embedded(thirteen, measure, currency_digits))
    return Reading(symbology, gtin=digits.rjust(14, "0"))


def _embedded(digits: str, measure: VariableMeasure, currency_digits: int) -> dict[str, Any]:
    item_end = 2 + measure.item_digits
    value = digits[-1 - measure.value_digits : -1]
    if measure.verifier:
        expected = price_verifier(value)
        found = digits[item_end]
        if found != expected:
            raise Rejected(f"wrong price verifier digit in {digits}: {found}, where {expected} belongs")
    item = digits[:item_end]
    if measure.value == "weight":
        return {"item": item, "weight": _decimal(value, measure.decimals), "unit": "kg"}
    minor, rest = divmod(int(value) * 10**currency_digits, 10**measure.decimals)
    if rest:
        raise Rejected(f"the price in {digits} is finer than the currency's smallest coin; check 'decimals'")
    return {"item": item, "price_minor": minor}


def _decimal(digits: str, decimals: int) -> str:
    if not decimals:
        return str(int(digits))
    padded = digits.rjust(decimals + 1, "0")
    return f"{int(padded[:-decimals])}.{padded[-decimals:]}"


# Weighted products of a digit 0-9 (GS1 General Specifications 24, section 7.9.2).
_TWO_MINUS = (0, 2, 4, 6, 8, 9, 1, 3, 5, 7)
_THREE = (0, 3, 6, 9, 2, 5, 8, 1, 4, 7)
_FIVE_PLUS = (0, 5, 1, 6, 2, 7, 3, 8, 4, 9)
_FIVE_MINUS = (0, 5, 9, 4, 8, 3, 7, 2, 6, 1)


def price_verifier(value: str) -> str:
    """The verifier digit of a price or weight of four or five digits (GS1 General Specifications 24, 7.9)."""
    values = [int(digit) for digit in value]
    if len(values) == 4:
        tables = (_TWO_MINUS, _TWO_MINUS, _THREE, _FIVE_MINUS)
        return str(sum(table[v] for table, v in zip(tables, values, strict=True)) * 3 % 10)
    if len(values) == 5:
        wide = (_FIVE_PLUS, _TWO_MINUS, _FIVE_MINUS, _FIVE_PLUS, _TWO_MINUS)
        total = sum(table[v] for table, v in zip(wide, values, strict=True))
        return str(_FIVE_MINUS.index(-total % 10))
    raise Rejected(f"there is no verifier digit for {len(values)} digits; check 'value_digits'")


def _element_strings(text: str, aim: str) -> Reading:
    from biip import ParseError
    from biip.gs1_messages import GS1Message

    try:
        message = GS1Message.parse(text.lstrip("\x1d"))
    except ParseError as error:
        raise Rejected(f"not GS1 element strings: {error}") from None
    return _from_elements(f"]{aim}", message.element_strings)


def _link(text: str, aim: str | None) -> Reading:
    """Any other text; a GS1 Digital Link is read as such, and any other address is a text like another."""
    symbology = f"]{aim}" if aim is not None else None
    if not _looks_like_link(text):
        return Reading(symbology)
    from biip import ParseError
    from biip.gs1_digital_link_uris import GS1DigitalLinkURI

    try:
        link = GS1DigitalLinkURI.parse(text)
    except ParseError:
        return Reading(symbology)
    return _from_elements(symbology, link.element_strings)


def _looks_like_link(text: str) -> bool:
    return text.startswith(("http://", "https://")) and "/01/" in text


def _from_elements(symbology: str | None, elements: Sequence[Any]) -> Reading:
    gs1: dict[str, str] = {}
    gtin = None
    for element in elements:
        identifier = element.ai.ai
        if element.gtin_error or element.sscc_error:
            raise Rejected(f"AI ({identifier}): {element.gtin_error or element.sscc_error}")
        gs1[identifier] = element.value
        if gtin is None and identifier in _GTIN_IDENTIFIERS:
            gtin = element.value
    return Reading(symbology, gtin=gtin, gs1=gs1)
