"""What a frame says, read a second time from the protocols' documents and not from our parsers.

An oracle gets the raw frame of a `Weight` and says which (value, unit) pairs it can mean: usually one, and None when
it means no weight at all (a wrong checksum, an overload). `seal` makes the checksum of a changed frame right again, so
that the fuzzer also tries wrong contents behind right checksums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

Said = frozenset[tuple[str, str]] | None


@dataclass(frozen=True, slots=True)
class Oracle:
    """The second reading of one protocol."""

    weight: Callable[[bytes, Mapping[str, Any]], Said]
    seal: Callable[[bytearray], None] | None = None


def _says(digits: str, unit: str) -> Said:
    """The decimal without leading fill, all other digits kept."""
    text = digits.strip()
    sign, text = ("-", text[1:]) if text.startswith("-") else ("", text.removeprefix("+"))
    text = text.strip()
    whole, _, rest = text.partition(".")
    if not whole.isdigit() or (rest and not rest.isdigit()):
        return None
    plain = str(int(whole)) + (f".{rest}" if rest else "")
    return frozenset({(("" if Decimal(plain) == 0 else sign) + plain, unit)})


# -- Toledo 8217: STX, digits with a point, N when net, CR. Two decimals are pounds, three are kilograms. --------------


def _toledo_8217(raw: bytes, options: Mapping[str, Any]) -> Said:
    if raw[0] & 0x80:
        if any(bin(byte).count("1") % 2 for byte in raw):
            return None
        raw = bytes(byte & 0x7F for byte in raw)
    text = raw.decode("latin-1")
    if text[0] != "\x02" or text[-1] != "\r":
        return None
    body = text[1:-1].removesuffix("N")
    if not all(character in "0123456789." for character in body):
        return None
    decimals = len(body) - body.index(".") - 1 if "." in body else 0
    unit = {2: "lb", 3: "kg"}.get(decimals)
    if unit is None or options.get("unit") not in (None, unit):
        return None
    return _says(body, unit)


# -- USB HID scale: report 3 or 4, status, unit, signed power of ten, 16 bits little endian ---------------------------


def _usb_hid_scale(raw: bytes, options: Mapping[str, Any]) -> Said:
    if len(raw) < 6 or raw[0] not in (3, 4) or raw[1] not in (2, 3, 4):
        return None
    unit = {2: "g", 3: "kg", 11: "oz", 12: "lb"}.get(raw[2])
    power = raw[3] - 256 if raw[3] > 127 else raw[3]
    if unit is None or abs(power) > 9:
        return None
    weight = Decimal(raw[4] + 256 * raw[5]).scaleb(power)
    return frozenset({(f"{weight:.{max(0, -power)}f}", unit)})


ORACLES: Mapping[str, Oracle] = {
    "toledo-8217": Oracle(_toledo_8217),
    "usb-hid-scale": Oracle(_usb_hid_scale),
}
