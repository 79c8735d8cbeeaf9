"""What a scanned text is: GTIN, GS1 element string, Digital Link, or a number with a price or a weight inside.

Strategy: pure functions, no state. The commonest code by far, a plain EAN-13, is settled with a dozen integer
additions and no further look. GS1 element strings and Digital Links need biip, which takes a third of a second and
16 MB to import (`needs_library`, `load_library`): only a store that scans such codes pays for it.
A code whose own check digit contradicts it is rejected with the reason, never corrected.

Without an AIM identifier a text of 8, 12 or 13 digits whose check digit fits is taken as EAN-8 (or UPC-E, when it
fits as that alone), UPC-A or EAN-13; one whose check digit does not fit is delivered as plain text, because it may be
any other number.

Source: ISO/IEC 15424 (AIM identifiers); GS1 General Specifications 24, sections 7.9 (check digits), 2.1.11
(restricted circulation numbers), 3 (application identifiers), 5.2.2.4 (UPC-E), 5.4 (element strings).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge.config import VariableMeasure
from edge.devices.rejected import Rejected
from edge.devices.variable_measure import cut, decimal, price_minor

SYMBOLOGIES: Mapping[str, str] = {
    "A": "code_39",
    "B": "telepen",
    "C": "code_128",
    "D": "code_one",
    "E": "ean_upc",
    "F": "codabar",
    "G": "code_93",
    "H": "code_11",
    "I": "itf",
    "J": "dotcode",
    "K": "code_16k",
    "L": "pdf417",
    "M": "msi",
    "N": "anker",
    "O": "codablock",
    "P": "plessey",
    "Q": "qr",
    "R": "straight_2_of_5",
    "S": "straight_2_of_5",
    "T": "code_49",
    "U": "maxicode",
    "X": "other",
    "c": "channel_code",
    "d": "data_matrix",
    "e": "databar",
    "h": "han_xin",
    "o": "ocr",
    "p": "posicode",
    "s": "supercode",
    "z": "aztec",
}
"""The code letter of an AIM identifier -> the family of bar codes. A letter that is not here is passed on unnamed."""

GS1_SYMBOLOGIES = frozenset(("C1", "e0", "e1", "e2", "d2", "Q3", "J1"))
"""GS1-128, DataBar, Composite, GS1 DataMatrix, GS1 QR, GS1 DotCode: their text is element strings."""

_EAN = frozenset(("E0", "E4"))
_ADD_ON = "E3"
_INFERRED = {12: "]E0", 13: "]E0"}
_GTIN_IDENTIFIERS = ("01", "02")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a code says. Fields as in `ScanMessage`; `embedded` has the keys of `Embedded` that apply."""

    symbology: str | None
    gtin: str | None = None
    gs1: dict[str, str] | None = None
    embedded: dict[str, Any] | None = None
    add_on: str | None = None


def read(text: str, aim: str | None, measures: Sequence[VariableMeasure], minor_digits: int) -> Reading:
    """Normalise a scanned `text`; `aim` is the identifier without its bracket, or None.

    `measures` is the country's table, `minor_digits` the decimals of the store's currency. Raises `Rejected`.
    """
    if aim is None:
        if text.isdecimal() and text.isascii():
            if len(text) == 8:
                return _eight(text)
            inferred = _INFERRED.get(len(text))
            if inferred is not None and check_digit_fits(text):
                return _ean(text, inferred, measures, minor_digits)
        return _link(text, None, minor_digits)
    if aim in _EAN:
        return _ean(_checked_ean(text, aim), f"]{aim}", measures, minor_digits)
    if aim == _ADD_ON:
        return _with_add_on(text, measures, minor_digits)
    if aim in GS1_SYMBOLOGIES:
        if text.startswith(("http:", "https:")):
            return _link(text, aim, minor_digits)
        return _element_strings(text, aim, minor_digits)
    if aim[0] == "I" and text.isdecimal() and text.isascii():
        return _itf(text, aim)
    return _link(text, aim, minor_digits)


def is_goods(text: str, aim: str | None) -> bool:
    """Whether the symbology says that this is the number of goods, whatever else it looks like."""
    if aim is None:
        return False
    return aim in _EAN or aim == _ADD_ON or aim in GS1_SYMBOLOGIES or (aim[0] == "I" and len(text) == 14)


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


# -- EAN and UPC -------------------------------------------------------------------------------------------------------


def _eight(text: str) -> Reading:
    """Eight digits and no identifier: EAN-8, or UPC-E, whose check digit is that of the number it stands for."""
    upc_a = _upc_a(text)
    if check_digit_fits(text):
        # Both fit one time in ten: then nobody can tell which it is.
        return Reading(None) if upc_a else Reading("]E4", gtin=text.rjust(14, "0"))
    return Reading("]E0", gtin=upc_a.rjust(14, "0")) if upc_a else Reading(None)


def _checked_ean(text: str, aim: str) -> str:
    """The digits of an EAN or UPC symbol, UPC-E expanded to UPC-A; Rejected when the check digit is wrong."""
    if not (text.isdecimal() and text.isascii() and len(text) in (8, 12, 13)):
        raise Rejected("wrong_length", f"an EAN or UPC symbol holds 8, 12 or 13 digits, not {text[:20]!r}")
    if len(text) == 8 and aim != "E4" and (upc_a := _upc_a(text)):
        return upc_a
    if check_digit_fits(text):
        return text
    raise Rejected("check_digit", f"wrong check digit in {text}")


def _upc_a(text: str) -> str | None:
    """UPC-E with number system and check digit as UPC-A; None when it is no UPC-E."""
    if text[0] not in "01":
        return None
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
    expanded = system + middle + check
    return expanded if check_digit_fits(expanded) else None


def _ean(digits: str, symbology: str, measures: Sequence[VariableMeasure], currency_digits: int) -> Reading:
    if measures and len(digits) > 8:
        embedded = cut(digits.rjust(13, "0"), measures, currency_digits)
        if embedded is not None:
            return Reading(symbology, embedded=embedded)
    return Reading(symbology, gtin=digits.rjust(14, "0"))


def _with_add_on(text: str, measures: Sequence[VariableMeasure], currency_digits: int) -> Reading:
    """EAN or UPC with an add-on of two digits (issue of a periodical) or five (price of a book) behind it."""
    for size in (13, 12, 8):
        main, add_on = text[:size], text[size:]
        if len(add_on) in (2, 5) and text.isdecimal() and text.isascii():
            reading = _ean(_checked_ean(main, "E0"), "]E3", measures, currency_digits)
            return Reading(reading.symbology, reading.gtin, embedded=reading.embedded, add_on=add_on)
    raise Rejected(
        "wrong_length", f"an EAN or UPC symbol with add-on holds 8, 12 or 13 digits and 2 or 5 more: {text[:24]!r}"
    )


def _itf(digits: str, aim: str) -> Reading:
    fits = check_digit_fits(digits)
    if aim == "I1" and not fits:  # the scanner says that it has checked it
        raise Rejected("check_digit", f"wrong check digit in {digits}")
    gtin = digits if fits and len(digits) == 14 and aim in ("I0", "I1") else None
    return Reading(f"]{aim}", gtin=gtin)


# -- GS1 element strings and Digital Links -----------------------------------------------------------------------------


def _element_strings(text: str, aim: str, currency_digits: int) -> Reading:
    from biip import ParseError
    from biip.gs1_messages import GS1Message

    try:
        message = GS1Message.parse(text.lstrip("\x1d"))
    except ParseError as error:
        raise Rejected("not_gs1", f"not GS1 element strings: {error}") from None
    return _from_elements(f"]{aim}", message.element_strings, currency_digits)


def _link(text: str, aim: str | None, currency_digits: int) -> Reading:
    """Any other text; a GS1 Digital Link is read as such, and any other address is a text like another."""
    symbology = f"]{aim}" if aim is not None else None
    if not _looks_like_link(text):
        return Reading(symbology)
    from biip import ParseError
    from biip.gs1_digital_link_uris import GS1DigitalLinkURI

    try:
        link = GS1DigitalLinkURI.parse(text)
    except (ParseError, ValueError):  # the latter for what urllib takes for no address at all
        return Reading(symbology)
    return _from_elements(symbology, link.element_strings, currency_digits)


def _looks_like_link(text: str) -> bool:
    return text.startswith(("http://", "https://")) and "/01/" in text


def _from_elements(symbology: str | None, elements: Sequence[Any], currency_digits: int) -> Reading:
    gs1: dict[str, str] = {}
    gtin = None
    for element in elements:
        identifier = element.ai.ai
        if error := element.gtin_error or element.sscc_error:
            raise Rejected("check_digit", f"AI ({identifier}): {error}")
        gs1[identifier] = element.value
        if gtin is None and identifier in _GTIN_IDENTIFIERS:
            gtin = element.value
    return Reading(symbology, gtin=gtin, gs1=gs1, embedded=_measured(gtin, gs1, currency_digits))


def _measured(gtin: str | None, gs1: Mapping[str, str], currency_digits: int) -> dict[str, Any] | None:
    """Net weight (310n kg, 320n lb) and price in the store's own currency (392n) of a variable measure trade item."""
    if gtin is None or "01" not in gs1:
        return None
    found: dict[str, Any] = {}
    for identifier, value in gs1.items():
        kind, decimals = identifier[:3], identifier[3:]
        if kind in ("310", "320"):
            found |= {"weight": decimal(value, int(decimals)), "unit": "kg" if kind == "310" else "lb"}
        elif kind == "392":
            found["price_minor"] = price_minor(value, int(decimals), currency_digits, f"AI ({identifier})")
    return {"item": gtin, **found} if found else None
