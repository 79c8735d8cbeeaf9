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


# -- One check character: the XOR of what stands between two places. ---------------------------------------------------


def _xored(data: bytes) -> int:
    check = 0
    for byte in data:
        check ^= byte
    return check


def _seal_xor(start: bytes, first: int, check: int, size: int) -> Callable[[bytearray], None]:
    """In a frame of `size` bytes that begins with `start`, the byte at `check` is the XOR of those from `first` on."""

    def seal(data: bytearray) -> None:
        at = data.find(start)
        if at >= 0 and len(data) >= at + size:
            data[at + check] = _xored(data[at + first : at + check])

    return seal


# -- Samsung ECR: SOH STX, S or U, sign, six characters, unit, check, ETX EOT. F is an overload. -----------------------


def _samsung_ecr(raw: bytes, options: Mapping[str, Any]) -> Said:
    if len(raw) != 15 or raw[:2] != b"\x01\x02" or raw[13:] != b"\x03\x04" or _xored(raw[2:12]) != raw[12]:
        return None
    text = raw[2:12].decode("latin-1")
    unit = text[8:].strip().lower()
    if text[0] not in "SU" or text[1] not in " -" or text[7] == " ":
        return None
    if unit not in ("kg", "g", "lb", "oz") or options.get("unit") not in (None, unit):
        return None
    return _says(text[1] + text[2:8].strip(), unit)


# -- ICL: STX, id, five digits or NUL at their ends, check, ETX. The capacity in the id tells the unit. ----------------


def _icl(raw: bytes, options: Mapping[str, Any]) -> Said:
    if len(raw) != 9 or raw[0] != 2 or raw[8] != 3 or _xored(raw[1:7]) != raw[7]:
        return None
    info, digits = raw[1], raw[2:7].decode("latin-1")
    if info & 0b10111000 != 0b00101000:
        return None
    unit = {0b001: "kg", 0b010: "lb", 0b011: "kg"}.get(info & 0b111)
    if unit is None or options.get("unit") not in (None, unit):
        return None
    places = 5 - (3 if unit == "kg" else 2)
    whole, rest = digits[:places].lstrip("\0"), digits[places:].rstrip("\0")
    if "\0" in whole + rest or not whole:
        return None
    return _says(f"{whole}.{rest}" if rest else whole, unit)


# -- CAS: 22 bytes with headers, 10 bytes without. ---------------------------------------------------------------------


def _cas_22(raw: bytes, options: Mapping[str, Any]) -> Said:
    text = raw.decode("latin-1")
    if len(text) != 22 or text[2] + text[5] + text[8] != ",,," or text[17] != " " or text[20:] != "\r\n":
        return None
    unit = text[18:20].strip().lower()
    if text[:2] not in ("ST", "US") or text[3:5] not in ("GS", "NT") or not text[16].isdigit():
        return None
    if unit not in ("kg", "g", "lb") or options.get("unit") not in (None, unit):
        return None
    return _says(text[9:17], unit)


def _cas_10(raw: bytes, options: Mapping[str, Any]) -> Said:
    text = raw.decode("latin-1")
    if len(text) != 10 or text[8:] != "\r\n" or not text[7].isdigit():
        return None
    return _says(text[:8], options["unit"])


# -- Dialog 02, 04 and 06: record 02, cut at its ESC; the price is the one that was sent. ------------------------------


def _dialog(raw: bytes, options: Mapping[str, Any]) -> Said:
    fields = raw[1:-1].decode("latin-1").split("\x1b")
    if raw[0] != 2 or raw[-1] != 3 or [len(field) for field in fields] not in ([2, 1, 5, 6, 6], [2, 1, 5, 5, 6]):
        return None
    number, state, digits, price, amount = fields
    if number != "02" or state not in "123" or not (digits + price + amount).isdigit():
        return None
    if price.lstrip("0") != options.get("unit_price", "").lstrip("0"):
        return None
    places = 3 if state == "1" else 2
    return _says(f"{digits[:places]}.{digits[places:]}", "kg" if state == "3" else "lb")


# -- Dibal: 99, status, thousandths of a kilogram, status, amount, check. ----------------------------------------------


def _dibal(raw: bytes, options: Mapping[str, Any]) -> Said:
    if len(raw) != 18 or raw[:3] != b"990" or raw[16:] != b"\r\n" or _xored(raw[:15]) != raw[15]:
        return None
    text = raw[3:15].decode("latin-1")
    if not text.isdigit() or text[5] not in "01":
        return None
    return _says(f"{text[:2]}.{text[2:5]}", "kg")


# -- Magellan: S (or STX), 11 or 144, four digits of pounds or five of kilograms, CR (or ETX) --------------------------


def _magellan(raw: bytes, options: Mapping[str, Any]) -> Said:
    first, last = ("\x02", "\x03") if options.get("form") == "stx" else ("S", "\r")
    text = raw.decode("latin-1").lstrip("\r\n")
    for head in (f"{first}11", f"{first}144"):
        digits = text[len(head) : -1]
        if text.startswith(head) and text.endswith(last) and digits.isdigit() and digits.isascii():
            unit = {4: "lb", 5: "kg"}.get(len(digits))
            if unit is not None and options.get("unit") in (None, unit):
                return _says(f"{digits[:2]}.{digits[2:]}", unit)
    return None


ORACLES: Mapping[str, Oracle] = {
    "toledo-8217": Oracle(_toledo_8217),
    "usb-hid-scale": Oracle(_usb_hid_scale),
    "samsung-ecr": Oracle(_samsung_ecr, _seal_xor(b"\x01\x02", 2, 12, 15)),
    "icl": Oracle(_icl, _seal_xor(b"\x02", 1, 7, 9)),
    "cas-22": Oracle(_cas_22),
    "cas-10": Oracle(_cas_10),
    "dialog-02": Oracle(_dialog),
    "dialog-04": Oracle(_dialog),
    "dialog-06": Oracle(_dialog),
    "dibal": Oracle(_dibal, _seal_xor(b"99", 0, 15, 18)),
    "magellan": Oracle(_magellan),
}
