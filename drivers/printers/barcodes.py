"""Barcodes: what is wrong with the data, the bytes a printer wants for it, and bars for printers that draw none.

Documents: GS1 General Specifications (check digit, 7.9; element strings and FNC1, 7.8; fixed lengths, figure 7.8.4-2);
Epson ESC/POS command reference, GS k function B (`1D 6B m n d1..dn`) and GS w (dots of narrow and wide bars).

    m  65 UPC-A  66 UPC-E  67 EAN13  68 EAN8  69 CODE39  70 ITF  71 CODABAR  72 CODE93  73 CODE128
    CODE128 data is written in its code sets: `{A` `{B` `{C` choose one, `{1` is FNC1, `{{` a brace; in set C a byte is
    a pair of digits, and the pairs 16 04, 16 05 and 16 20 would be real-time commands: such data stays in set B.

A check digit that is left out is added, one that is given is verified.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Symbology = Literal[
    "EAN13", "EAN8", "UPC-A", "UPC-E", "CODE39", "CODE93", "CODE128", "GS1-128", "ITF", "ITF14", "CODABAR"
]

_GS_K: Mapping[str, int] = {
    "UPC-A": 65,
    "UPC-E": 66,
    "EAN13": 67,
    "EAN8": 68,
    "CODE39": 69,
    "ITF": 70,
    "ITF14": 70,
    "CODABAR": 71,
    "CODE93": 72,
    "CODE128": 73,
    "GS1-128": 73,
}
_DRAWN: Mapping[str, str] = {
    "EAN13": "ean13",
    "EAN8": "ean8",
    "UPC-A": "upca",
    "CODE39": "code39",
    "CODE128": "code128",
    "GS1-128": "gs1_128",
    "ITF": "itf",
    "ITF14": "itf",
    "CODABAR": "codabar",
}
"""What python-barcode calls them."""

_DIGITS: Mapping[str, int] = {"EAN13": 13, "EAN8": 8, "UPC-A": 12, "ITF14": 14}
_CODE39 = re.compile(r"[0-9A-Z $%+./-]+")
_CODABAR = re.compile(r"[A-D][0-9$+./:-]+[A-D]")
_GS1_ELEMENT = re.compile(r"\(([0-9]{2,4})\)([^()]+)")
_GS1_CHARACTERS = re.compile(r"[!\"%-?A-Z_a-z]+")
_WIDE_DOTS = {2: 5, 3: 8, 4: 10, 5: 13, 6: 16}
"""Of a wide bar, by the dots of a narrow one (GS w)."""

# Application identifiers whose length is predefined, by their first two digits: no FNC1 behind them.
_FIXED = {"00": 20, "01": 16, "02": 16, "03": 16, "04": 18, "20": 4, "41": 16}
_FIXED |= dict.fromkeys(("11", "12", "13", "14", "15", "16", "17", "18", "19"), 8)
_FIXED |= dict.fromkeys(("31", "32", "33", "34", "35", "36"), 10)
_WITH_CHECK_DIGIT = re.compile(r"00|01|02|03|41[0-7]")


@dataclass(frozen=True, slots=True)
class Checked:
    """A barcode that can be printed: `text` below its bars, `data` for the printer, `modules` of narrow bars."""

    symbology: Symbology
    text: str
    data: bytes
    modules: int
    wides: int = 0
    """How many of its elements are wide ones (two-width codes); `modules` then counts the narrow ones."""
    elements: tuple[str, ...] = ()
    """The element strings of GS1-128, where FNC1 parts them."""

    def width_dots(self, narrow_dots: int) -> int:
        """How wide it is printed."""
        return self.modules * narrow_dots + self.wides * _WIDE_DOTS[narrow_dots]

    def command(self, height_dots: int, narrow_dots: int, text: Literal["below", "above", "none"]) -> bytes:
        """GS h, GS w, GS H and GS k: print it."""
        place = {"none": 0, "above": 1, "below": 2}[text]
        settings = bytes((0x1D, 0x68, height_dots, 0x1D, 0x77, narrow_dots, 0x1D, 0x48, place))
        return settings + bytes((0x1D, 0x6B, _GS_K[self.symbology], len(self.data))) + self.data


def check(data: str, symbology: Symbology) -> Checked:
    """Look whether `data` can be a barcode of this kind; raises ValueError saying what is wrong with it."""
    if not data:
        raise ValueError(f"{symbology}: there is no data")
    if not data.isascii() or not data.isprintable():
        raise ValueError(f"{symbology}: a barcode holds printable ASCII characters only")
    if symbology in _DIGITS:
        return _of_digits(data, symbology)
    if symbology == "UPC-E":
        return _upc_e(data)
    if symbology == "ITF":
        if not data.isdigit() or len(data) % 2:
            raise ValueError(f"ITF: {data!r} is not an even number of digits")
        return _itf(data, symbology)
    if symbology == "CODE39":
        if not _CODE39.fullmatch(data):
            raise ValueError(f"CODE39: {data!r} has other characters than 0-9 A-Z space $ % + - . /")
        count = len(data) + 2
        return Checked(symbology, data, data.encode(), modules=count * 6 + count - 1, wides=count * 3)
    if symbology == "CODABAR":
        return _codabar(data.upper())
    if symbology == "CODE93":
        extra = sum(one not in "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-. $/+%" for one in data)
        return Checked(symbology, data, data.encode(), modules=9 * (len(data) + extra + 4) + 1)
    if symbology == "GS1-128":
        return _gs1_128(data)
    return _code128(symbology, data, (data,), fnc1=False)


def check_digit(digits: str) -> str:
    """The GS1 check digit of `digits` (without it): weights 3 and 1 from the right."""
    total = sum(int(digit) * (3 if at % 2 == 0 else 1) for at, digit in enumerate(reversed(digits)))
    return str(-total % 10)


def modules_of(checked: Checked) -> str | None:
    """Bars as "1" and spaces as "0", a character per module, for printers that draw none; None: not drawn here."""
    import barcode

    name = _DRAWN.get(checked.symbology)
    if name is None:
        return None
    text = "\xf1".join(checked.elements) or checked.text  # how the library writes FNC1
    options = {"add_checksum": False} if name == "code39" else {}
    built: str = barcode.get_barcode_class(name)(text, **options).build()[0]
    return built


def _verified(digits: str, symbology: str, wanted: int) -> str:
    """`digits` with their check digit."""
    if not digits.isdigit() or len(digits) not in (wanted - 1, wanted):
        raise ValueError(f"{symbology}: {digits!r} is not {wanted} digits ({wanted - 1} without the check digit)")
    right = check_digit(digits[: wanted - 1])
    if len(digits) == wanted and digits[-1] != right:
        raise ValueError(f"{symbology}: {digits!r} has a wrong check digit; the right one is {right}")
    return digits[: wanted - 1] + right


def _of_digits(data: str, symbology: Symbology) -> Checked:
    digits = _verified(data, symbology, _DIGITS[symbology])
    if symbology == "ITF14":
        return _itf(digits, symbology)
    return Checked(symbology, digits, digits.encode(), modules=67 if symbology == "EAN8" else 95)


def _itf(digits: str, symbology: Symbology) -> Checked:
    # Each digit: 3 narrow and 2 wide elements; start 4 narrow; stop 1 wide, 2 narrow.
    return Checked(symbology, digits, digits.encode(), modules=3 * len(digits) + 6, wides=2 * len(digits) + 1)


def _upc_e(data: str) -> Checked:
    digits = "0" + data if len(data) == 6 else data
    if not digits.isdigit() or len(digits) not in (7, 8) or digits[0] != "0":
        raise ValueError(f"UPC-E: {data!r} is not 6 digits, nor 7 or 8 that begin with 0")
    whole = expand_upc_e(digits[1:7])
    right = check_digit(whole)
    if len(digits) == 8 and digits[7] != right:
        raise ValueError(f"UPC-E: {data!r} has a wrong check digit; the right one is {right}")
    # A printer wants the UPC-A number and makes the short form itself.
    return Checked("UPC-E", digits[:7] + right, (whole + right).encode(), modules=51)


def expand_upc_e(six: str) -> str:
    """The eleven digits of the UPC-A number that a UPC-E number stands for (GS1 General Specifications 5.2.2.4.2)."""
    last = six[5]
    if last in "012":
        return f"0{six[:2]}{last}0000{six[2:5]}"
    if last == "3":
        return f"0{six[:3]}00000{six[3:5]}"
    if last == "4":
        return f"0{six[:4]}00000{six[4]}"
    return f"0{six[:5]}0000{last}"


def _codabar(data: str) -> Checked:
    if not _CODABAR.fullmatch(data):
        raise ValueError(f"CODABAR: {data!r} is not A to D, then 0-9 $ + - . / :, then A to D")
    many = sum(one in ":/.+ABCD" for one in data)  # these have three wide elements, the others two
    return Checked("CODABAR", data, data.encode(), modules=6 * len(data) - 1 - many, wides=2 * len(data) + many)


def _gs1_128(data: str) -> Checked:
    elements = _GS1_ELEMENT.findall(data)
    if "".join(f"({ai}){value}" for ai, value in elements) != data:
        raise ValueError(f"GS1-128: {data!r} is not written like (01)09506000134352(10)ABC123")
    parts: list[str] = []
    text = ""
    for at, (ai, value) in enumerate(elements):
        fixed = _FIXED.get(ai[:2])
        if not _GS1_CHARACTERS.fullmatch(value):
            raise ValueError(f"GS1-128: ({ai}) holds a character that GS1 does not allow")
        if _WITH_CHECK_DIGIT.fullmatch(ai) and fixed is not None:
            value = _verified(value, f"GS1-128 ({ai})", fixed - len(ai))
        if fixed is not None and (len(ai + value) != fixed or not value.isdigit()):
            raise ValueError(f"GS1-128: ({ai}) takes {fixed - len(ai)} digits, not {value!r}")
        text += f"({ai}){value}"
        parts.append(ai + value + ("" if fixed is not None or at == len(elements) - 1 else "\x1d"))
    whole = "".join(parts)
    if len(whole) > 48:
        raise ValueError(f"GS1-128: has {len(whole)} characters, of at most 48")
    between = tuple(whole.split("\x1d"))
    checked = _code128("GS1-128", whole, between, fnc1=True)
    return Checked("GS1-128", text, checked.data, checked.modules, elements=between)


def _code128(symbology: Symbology, text: str, parts: tuple[str, ...], *, fnc1: bool) -> Checked:
    data, symbols = _in_code_sets(parts, fnc1, pairs=True)
    if re.search(rb"\x10[\x04\x05\x14]", data):
        data, symbols = _in_code_sets(parts, fnc1, pairs=False)
    if len(data) > 255:
        raise ValueError(f"{symbology}: has {len(text)} characters, which is too long to print")
    return Checked(symbology, text, data, modules=11 * (symbols + 1) + 13)


def _in_code_sets(parts: tuple[str, ...], fnc1: bool, *, pairs: bool) -> tuple[bytes, int]:
    """The data of GS k, and how many symbols it makes, the start among them. Long runs of digits go in pairs."""
    out, symbols, code_set = bytearray(), 0, ""

    def choose(wanted: str) -> None:
        nonlocal code_set, symbols
        if code_set != wanted:
            out.extend(b"{" + wanted.encode())
            code_set, symbols = wanted, symbols + 1

    for part in parts:
        pieces = re.findall(r"(?:[0-9]{2}){2,}|[0-9]?[^0-9]+|[0-9]+", part) if pairs else [part]
        for number, piece in enumerate(pieces):
            choose("C" if pairs and piece.isdigit() and len(piece) % 2 == 0 and len(piece) >= 4 else "B")
            if fnc1 and number == 0:
                out += b"{1"
                symbols += 1
            if code_set == "C":
                out += bytes(int(piece[pair : pair + 2]) for pair in range(0, len(piece), 2))
                symbols += len(piece) // 2
            else:
                out += piece.replace("{", "{{").encode()
                symbols += len(piece)
    return bytes(out), symbols
