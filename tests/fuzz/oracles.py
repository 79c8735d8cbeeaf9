"""What a frame says, read a second time from the protocols' documents and not from our parsers.

An oracle gets the raw frame of a `Weight` and says which (value, unit) pairs it can mean: usually one, and None when
it means no weight at all (a wrong checksum, an overload). `seal` makes the checksum of a changed frame right again, so
that the fuzzer also tries wrong contents behind right checksums.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from operator import xor
from typing import Any

Said = frozenset[tuple[str, str]] | None


@dataclass(frozen=True, slots=True)
class Oracle:
    """The second reading of one protocol."""

    weight: Callable[[bytes, Mapping[str, Any]], Said]
    seal: Callable[[bytearray], None] | None = None


UNITS = ("kg", "g", "lb", "oz")


def _says(digits: str, unit: str) -> Said:
    """The decimal without leading fill, all other digits kept; None when it is none."""
    match = re.fullmatch(r" *([+-]?) *0*([0-9]+)(\.[0-9]+)? *", digits)
    if match is None or unit not in UNITS:
        return None
    sign, whole, rest = match.groups(default="")
    nothing = not (whole + rest).strip("0.")
    return frozenset({(("-" if sign == "-" and not nothing else "") + whole + rest, unit)})


def _read(pattern: str, raw: bytes, mask: int = 0xFF) -> Said:
    """The groups `w` and `u` of a whole frame."""
    text = bytes(byte & mask for byte in raw).decode("latin-1")
    match = re.fullmatch(pattern, text, re.DOTALL)
    return _says(match["w"], match["u"].strip().lower()) if match else None


def _only(said: Said, options: Mapping[str, Any]) -> Said:
    """Nothing, where another unit is configured."""
    wanted = options.get("unit")
    return None if said and wanted and any(unit != wanted for _, unit in said) else said


def _points(digits: str, decimals: int) -> str:
    return f"{digits[:-decimals]}.{digits[-decimals:]}" if decimals else digits


# -- Toledo 8217: STX, digits with a point, N when net, CR. Two decimals are pounds, three are kilograms. --------------


def _toledo_8217(raw: bytes, options: Mapping[str, Any]) -> Said:
    if raw[0] & 0x80 and any(byte.bit_count() % 2 for byte in raw):
        return None
    said = _plain(r"\x02(\d+\.\d\d)N?\r", raw, "lb") or _plain(r"\x02(\d+\.\d{3})N?\r", raw, "kg")
    return _only(said, options)


def _plain(pattern: str, raw: bytes, unit: str) -> Said:
    """The first group of a whole frame of seven bits, in `unit`."""
    match = re.fullmatch(pattern, bytes(byte & 0x7F for byte in raw).decode("ascii"), re.DOTALL)
    return _says(match[1], unit) if match else None


# -- Toledo 8213 and SASI: digits with two or three decimals, or none (grams); the unit is configured. -----------------


def _toledo_8213(raw: bytes, options: Mapping[str, Any]) -> Said:
    return _plain(r"\x02(\d{2,3}\.\d{2,3}|\d{5,6})N?\r", raw, options["unit"])


# -- NCI SCP-01: LF, weight and unit, CR LF, status bytes (S before them in the form for registers), CR ETX. -----------


def _nci(raw: bytes, options: Mapping[str, Any]) -> Said:
    return _only(_read(r"\n(?P<w>[ 0-9.+-]+)(?P<u>[A-Za-z]{1,2}) ?\r\nS?[0-?p-\x7f]{2,}\r\x03", raw, 0x7F), options)


# -- SMA SCP-0499: LF s r n m f weight(10) unit(3) CR; a weight only when s is Z or blank. -----------------------------


def _sma(raw: bytes, options: Mapping[str, Any]) -> Said:
    return _read(r"\n[Z ].[GNgn][M ].(?P<w>[ 0-9.-]{10})(?P<u>[a-zA-Z ]{3})\r", raw)


# -- MT-SICS: S, S or D, the weight to the right in ten characters, the unit. ------------------------------------------


def _mt_sics(raw: bytes, options: Mapping[str, Any]) -> Said:
    return _read(r"S [SD] (?P<w> *(-? *)[0-9.]+)(?<=S [SD] .{10}) (?P<u>[a-z]+)\r\n", raw)


# -- Adam: what an AZextra prints (one weight, or the net one of several); a line of a CPWplus with sign and unit. -----


def _azextra(raw: bytes, options: Mapping[str, Any]) -> Said:
    found: dict[str, list[Said]] = {}
    for line in raw.decode("latin-1").split("\n"):
        match = re.fullmatch(r"\s*((?:[a-z./: ]*[: ])?)([0-9]+(?:\.[0-9]+)?) *(kg|lb)[ \r]*", line, re.I)
        if match is not None:
            word = match[1].strip().lower()
            name = "net" if re.search(r"\bn(et|t|/?w)\b", word) else "other"
            found.setdefault(name, []).append(_says(match[2], match[3].lower()))
    chosen = found.get("net") or found.get("other", [])
    return chosen[0] if len(chosen) == 1 else None


def _cpwplus(raw: bytes, options: Mapping[str, Any]) -> Said:
    return _read(r"[^+\r\n]*?(?P<w>[+-] *[0-9]+(\.[0-9]+)?) *(?P<u>[A-Za-z]+) *\r?\n", raw)


# -- Digi DS-425: [state CR] [0] net(7) CR [4] tare(7) CR LF; point or comma. ------------------------------------------


def _digi(raw: bytes, options: Mapping[str, Any]) -> Said:
    fields = raw.decode("latin-1").split("\r")
    if len(fields) == 4 and fields[0] in ("\x00", "\x01"):
        fields = fields[1:]
    if len(fields) != 3 or fields[2] != "\n" or len(fields[0]) != len(fields[1]) or len(fields[0]) not in (7, 8):
        return None
    headed = len(fields[0]) == 8
    if headed and (fields[0][0], fields[1][0]) != ("0", "4"):
        return None
    return _says(fields[0][headed:].replace(",", "."), options["unit"])


# -- Kern: M or blank, sign, ten characters, blank, unit; or ST,GS weight unit. ----------------------------------------


def _kern(raw: bytes, options: Mapping[str, Any]) -> Said:
    if options.get("form") == "kfb":
        return _read(r"(?i)(ST|US),(GS|NT),? *(?P<w>-? *[0-9.]+) *(?P<u>[A-Za-z]+) *\r\n", raw)
    return _read(r"(?=.{18,19}$)[M ]*(?P<w>[ -][ 0-9.-]+) (?P<u>[A-Za-z]+) *\r\n", raw)


# -- Dini Argeo: standard, extended and AF strings; the weight is the first one. ---------------------------------------


def _dini(raw: bytes, options: Mapping[str, Any]) -> Said:
    unit = r"(?P<u>[A-Za-z ]{2})\r\n"
    return (
        _read(r"(\d\d)?(ST|US),(GS|NT),(?P<w>.{8})," + unit, raw)
        or _read(r"(\d\d)?1(ST|US),(?P<w>.{10}),(PT|  )(.{10}),(.{10})," + unit, raw)
        or _read(r"(\d\d)?(ST|US),.,(?P<w>.{10})(?P<u>..),(PT|  )?[ -]*0*\.?0* *..\r\n", raw)
    )


# -- Samsung ECR: SOH STX, S or U, sign, six characters, unit, XOR, ETX EOT. -------------------------------------------


def _samsung(raw: bytes, options: Mapping[str, Any]) -> Said:
    if len(raw) != 15 or reduce(xor, raw[2:-3]) != raw[-3]:
        return None
    return _only(_read(r"\x01\x02[SU](?P<w>[ -][ 0-9.]{6})(?P<u>[ A-Za-z]{2}).\x03\x04", raw), options)


# -- ICL: STX id, five digits, XOR, ETX; the id tells the decimals. ----------------------------------------------------


def _icl(raw: bytes, options: Mapping[str, Any]) -> Said:
    bare = bytes(byte & 0x7F for byte in raw)
    if len(bare) != 9 or (bare[0], bare[-1]) != (2, 3) or reduce(xor, bare[1:-2]) != bare[-2]:
        return None
    form = {1: (3, "kg"), 2: (2, "lb"), 3: (3, "kg")}.get(bare[1] & 7)
    if form is None or bare[1] & 0x38 != 0x28:
        return None
    decimals, unit = form
    digits = bare[2:7].decode("ascii")
    if digits[0] == "\0":
        digits = "0" + digits[1:]
    if digits[-1] == "\0":
        digits, decimals = digits[:-1], decimals - 1
    return _only(_says(_points(digits, decimals), unit), options) if digits.isdigit() else None


# -- CAS streams. ------------------------------------------------------------------------------------------------------


def _cas_22(raw: bytes, options: Mapping[str, Any]) -> Said:
    pattern = r"(ST|US),(GS|NT),..,(?P<w>[ 0-9.+-]{8}) ?(?P<u>[kK][gG]|[lL][bB]|[gG] | [gG]|[gG]) ?\r\n"
    return _only(_read(pattern, raw), options)


def _cas_10(raw: bytes, options: Mapping[str, Any]) -> Said:
    text = raw.decode("latin-1")
    return _says(text[:-2], options["unit"]) if len(text) == 10 and text.endswith("\r\n") else None


# -- Dialog 02, 04, 06: STX 02 ESC u ESC weight ESC price ESC amount ETX; u tells the decimals. ------------------------


def _dialog(raw: bytes, options: Mapping[str, Any]) -> Said:
    bare = bytes(byte & 0x7F for byte in raw).decode("ascii")
    match = re.fullmatch(r"\x0202\x1b([0-3])\x1b(\d{5})\x1b(\d{5,6})\x1b(\d{5,6})\x03", bare)
    if match is None or int(match[3]) != int(options.get("unit_price", "0")):
        return None
    decimals, unit = {"1": (2, "lb"), "2": (3, "lb"), "3": (3, "kg")}.get(match[1], (0, ""))
    return _says(_points(match[2], decimals), unit)


# -- Dibal: 99, state, grams, state, amount, XOR, CR LF. ---------------------------------------------------------------


def _dibal(raw: bytes, options: Mapping[str, Any]) -> Said:
    if len(raw) < 10 or raw[-2:] != b"\r\n" or reduce(xor, raw[:-3]) != raw[-3]:
        return None
    match = re.fullmatch(r"990(\d{5})[01]\d{6}", raw[:-3].decode("latin-1"))
    if match is None:
        return None
    return (_says(_points(match[1], 3), "kg") or frozenset()) | (_says(match[1], "g") or frozenset())


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


def _sealed(first: int, at: int) -> Callable[[bytearray], None]:
    """Puts the XOR of the bytes from `first` on at place `at` (from the end)."""

    def seal(frame: bytearray) -> None:
        if len(frame) > first - at + 1:
            frame[at] = reduce(xor, frame[first:at], 0)

    return seal


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
    "toledo-8213": Oracle(_toledo_8213),
    "nci-scp-01": Oracle(_nci),
    "sma-scp-0499": Oracle(_sma),
    "mt-sics": Oracle(_mt_sics),
    "adam-azextra": Oracle(_azextra),
    "adam-cpwplus": Oracle(_cpwplus),
    "digi-ds-425": Oracle(_digi),
    "kern": Oracle(_kern),
    "dini-argeo": Oracle(_dini),
    "samsung-ecr": Oracle(_samsung, _sealed(2, -3)),
    "icl": Oracle(_icl, _sealed(1, -2)),
    "cas-22": Oracle(_cas_22),
    "cas-10": Oracle(_cas_10),
    "dialog-02": Oracle(_dialog),
    "dialog-04": Oracle(_dialog),
    "dialog-06": Oracle(_dialog),
    "dibal": Oracle(_dibal, _sealed(0, -3)),
    "magellan": Oracle(_magellan),
}
