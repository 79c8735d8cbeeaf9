"""Bars and spaces of the barcodes that a receipt printer draws, from the data it was sent.

Written from the symbology standards: ISO/IEC 15420 (EAN, UPC), 16388 (Code 39), 15417 (Code 128), 16390 (Interleaved
2 of 5), AIM BC3 (Codabar) and BC5 (Code 93), and, for what a printer takes as data and how wide its wide bars are,
Epson's GS k and GS w. Data that does not fit its symbology draws nothing, as on a real printer.
"""

# ruff: noqa: SIM905 (the tables stand as in the standards, to be compared by eye)

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_LEFT = "0001101 0011001 0010011 0111101 0100011 0110001 0101111 0111011 0110111 0001011".split()
_RIGHT = ["".join("10"[int(bit)] for bit in code) for code in _LEFT]
_EVEN = [code[::-1] for code in _RIGHT]
_EAN13_PARITY = "LLLLLL LLGLGG LLGGLG LLGGGL LGLLGG LGGLLG LGGGLL LGLGLG LGLGGL LGGLGL".split()
_UPC_E_PARITY = "GGGLLL GGLGLL GGLLGL GGLLLG GLGGLL GLLGGL GLLLGG GLGLGL GLGLLG GLLGLG".split()

_CODE39 = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-. $/+%*",
        (
            "nnnwwnwnn wnnwnnnnw nnwwnnnnw wnwwnnnnn nnnwwnnnw wnnwwnnnn nnwwwnnnn nnnwnnwnw wnnwnnwnn nnwwnnwnn "
            "wnnnnwnnw nnwnnwnnw wnwnnwnnn nnnnwwnnw wnnnwwnnn nnwnwwnnn nnnnnwwnw wnnnnwwnn nnwnnwwnn nnnnwwwnn "
            "wnnnnnnww nnwnnnnww wnwnnnnwn nnnnwnnww wnnnwnnwn nnwnwnnwn nnnnnnwww wnnnnnwwn nnwnnnwwn nnnnwnwwn "
            "wwnnnnnnw nwwnnnnnw wwwnnnnnn nwnnwnnnw wwnnwnnnn nwwnwnnnn nwnnnnwnw wwnnnnwnn nwwnnnwnn nwnwnwnnn "
            "nwnwnnnwn nwnnnwnwn nnnwnwnwn nwnnwnwnn"
        ).split(),
        strict=True,
    )
)
_ITF = "nnwwn wnnnw nwnnw wwnnn nnwnw wnwnn nwwnn nnnww wnnwn nwnwn".split()
_CODABAR = dict(
    zip(
        "0123456789-$:/.+ABCD",
        (
            "nnnnnww nnnnwwn nnnwnnw wwnnnnn nnwnnwn wnnnnwn nwnnnnw nwnnwnn nwwnnnn wnnwnnn nnnwwnn nnwwnnn wnnnwnw "
            "wnwnnnw wnwnwnn nnwnwnw nnwwnwn nwnwnnw nnnwnww nnnwwwn"
        ).split(),
        strict=True,
    )
)
_CODE93_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-. $/+%"  # then the four shifts ($) (%) (/) (+) and the start
_CODE93 = (
    "100010100 101001000 101000100 101000010 100101000 100100100 100100010 101010000 100010010 100001010 110101000 "
    "110100100 110100010 110010100 110010010 110001010 101101000 101100100 101100010 100110100 100011010 101011000 "
    "101001100 101000110 100101100 100010110 110110100 110110010 110101100 110100110 110010110 110011010 101101100 "
    "101100110 100110110 100111010 100101110 111010100 111010010 111001010 101101110 101110110 110101110 100100110 "
    "111011010 111010110 100110010 101011110"
).split()
_CODE93_ALONE = {"\0": "U", "@": "V", "`": "W"}
_CODE128 = (
    "212222 222122 222221 121223 121322 131222 122213 122312 132212 221213 221312 231212 112232 122132 122231 113222 "
    "123122 123221 223211 221132 221231 213212 223112 312131 311222 321122 321221 312212 322112 322211 212123 212321 "
    "232121 111323 131123 131321 112313 132113 132311 211313 231113 231311 112133 112331 132131 113123 113321 133121 "
    "313121 211331 231131 213113 213311 213131 311123 311321 331121 312113 312311 332111 314111 221411 431111 111224 "
    "111422 121124 121421 141122 141221 112214 112412 122114 122411 142112 142211 241211 221114 413111 241112 134111 "
    "111242 121142 121241 114212 124112 124211 411212 421112 421211 212141 214121 412121 111143 111341 131141 114113 "
    "114311 411113 411311 113141 114131 311141 411131 211412 211214 211232"
).split()
_CODE128_STOP = "2331112"
_WIDE = {2: 5, 3: 8, 4: 10, 5: 13, 6: 16}


def dots(symbology: str, data: bytes, module_dots: int) -> str:
    """One row of the barcode, "1" for a black dot; empty when a printer would draw nothing."""
    draw = _DRAW.get(symbology)
    return draw(data, module_dots) if draw is not None else ""


def text(symbology: str, data: bytes) -> str:
    """What is printed for people."""
    if symbology != "CODE128":
        return data.decode("latin-1")
    out, code_set = "", "B"
    for item in _CODE128_ITEM.findall(data):
        if item in (b"{A", b"{B", b"{C"):
            code_set = chr(item[1])
        elif code_set == "C" and len(item) == 1:
            out += f"{item[0]:02d}"
        elif item == b"{{" or len(item) == 1:
            out += chr(item[0])
    return out


def _modules(bits: str, module_dots: int) -> str:
    return "".join(bit * module_dots for bit in bits)


def _two_widths(elements: str, module_dots: int) -> str:
    """Narrow and wide elements, black and white in turn."""
    wide = _WIDE.get(module_dots, 3 * module_dots)
    widths = [wide if one == "w" else module_dots for one in elements]
    return "".join("10"[at % 2] * width for at, width in enumerate(widths))


def _digits(data: bytes, *lengths: int) -> str:
    """`data` as digits with a valid check digit (added when it is one short of the last of `lengths`)."""
    digits = data.decode("latin-1")
    if not digits.isascii() or not digits.isdigit() or len(digits) not in lengths:
        return ""
    body = digits[: lengths[-1] - 1]
    total = sum(int(digit) * (3, 1)[at % 2] for at, digit in enumerate(body[::-1]))
    check = str((10 - total % 10) % 10)
    return body + check if digits[len(body) :] in ("", check) else ""


def _ean13(data: bytes, module_dots: int) -> str:
    digits = _digits(data, 12, 13)
    return _ean13_bars(digits, module_dots) if digits else ""


def _ean13_bars(digits: str, module_dots: int) -> str:
    parity = _EAN13_PARITY[int(digits[0])]
    left = "".join((_LEFT if side == "L" else _EVEN)[int(one)] for one, side in zip(digits[1:7], parity, strict=True))
    right = "".join(_RIGHT[int(one)] for one in digits[7:])
    return _modules("101" + left + "01010" + right + "101", module_dots)


def _upc_a(data: bytes, module_dots: int) -> str:
    digits = _digits(data, 11, 12)
    return _ean13_bars("0" + digits, module_dots) if digits else ""


def _ean8(data: bytes, module_dots: int) -> str:
    digits = _digits(data, 7, 8)
    if not digits:
        return ""
    halves = "".join(_LEFT[int(one)] for one in digits[:4]), "".join(_RIGHT[int(one)] for one in digits[4:])
    return _modules("101" + halves[0] + "01010" + halves[1] + "101", module_dots)


def _upc_e(data: bytes, module_dots: int) -> str:
    """From the eleven or twelve digits of the UPC-A number, which must be one that can be shortened."""
    digits = _digits(data, 11, 12)
    if not digits or digits[0] != "0":
        return ""
    maker, item = digits[1:6], digits[6:11]
    if maker[3:] == "00" and maker[2] in "012" and item[:2] == "00":
        six = maker[:2] + item[2:] + maker[2]
    elif maker[3:] == "00" and item[:3] == "000":
        six = maker[:3] + item[3:] + "3"
    elif maker[4] == "0" and item[:4] == "0000":
        six = maker[:4] + item[4] + "4"
    elif item[:4] == "0000" and item[4] in "56789":
        six = maker + item[4]
    else:
        return ""
    parity = _UPC_E_PARITY[int(digits[11])]
    bars = "".join((_LEFT if side == "L" else _EVEN)[int(one)] for one, side in zip(six, parity, strict=True))
    return _modules("101" + bars + "010101", module_dots)


def _code39(data: bytes, module_dots: int) -> str:
    letters = "*" + data.decode("latin-1").strip("*") + "*"
    if any(one not in _CODE39 for one in letters) or len(letters) < 3:
        return ""
    return _two_widths("n".join(_CODE39[one] for one in letters), module_dots)


def _itf(data: bytes, module_dots: int) -> str:
    digits = data.decode("latin-1")
    if not digits.isascii() or not digits.isdigit() or len(digits) % 2:
        return ""
    elements = "nnnn"
    for at in range(0, len(digits), 2):
        bars, spaces = _ITF[int(digits[at])], _ITF[int(digits[at + 1])]
        elements += "".join(bar + space for bar, space in zip(bars, spaces, strict=True))
    return _two_widths(elements + "wnn", module_dots)


def _codabar(data: bytes, module_dots: int) -> str:
    letters = data.decode("latin-1").upper()
    if not re.fullmatch(r"[A-D][-0-9$:/.+]+[A-D]", letters):
        return ""
    return _two_widths("n".join(_CODABAR[one] for one in letters), module_dots)


def _code93(data: bytes, module_dots: int) -> str:
    values: list[int] = []
    for byte in data:
        if byte > 0x7F:
            return ""
        values += _code93_values(chr(byte))
    for most in (20, 15):  # check characters C and K
        values.append(sum((at % most + 1) * value for at, value in enumerate(reversed(values))) % 47)
    bars = _CODE93[47] + "".join(_CODE93[value] for value in values) + _CODE93[47] + "1"
    return _modules(bars, module_dots)


def _code93_values(character: str) -> list[int]:
    if character in _CODE93_LETTERS:
        return [_CODE93_LETTERS.index(character)]
    dollar, percent, slash, plus = 43, 44, 45, 46
    code = ord(character)
    if "a" <= character <= "z":
        return [plus, code - ord("a") + 10]
    if 1 <= code <= 26:
        return [dollar, code - 1 + 10]
    if "!" <= character <= ":":
        return [slash, code - ord("!") + 10]
    if character in _CODE93_ALONE:
        return [percent, _CODE93_LETTERS.index(_CODE93_ALONE[character])]
    first, letter = next(row for row in ((0x7B, "P"), (0x5B, "K"), (0x3B, "F"), (0x1B, "A")) if code >= row[0])
    return [percent, _CODE93_LETTERS.index(letter) + code - first]


_CODE128_ITEM = re.compile(rb"\{[ABCS1234{]|[\x00-\xff]", re.DOTALL)
_FUNCTIONS = {"A": {b"{1": 102, b"{2": 97, b"{3": 96, b"{4": 101}, "B": {b"{1": 102, b"{2": 97, b"{3": 96, b"{4": 100}}


def _code128(data: bytes, module_dots: int) -> str:
    items = _CODE128_ITEM.findall(data)
    if not items or items[0] not in (b"{A", b"{B", b"{C"):
        return ""
    code_set = chr(items[0][1])
    values = [{"A": 103, "B": 104, "C": 105}[code_set]]
    for item in items[1:]:
        if item in (b"{A", b"{B", b"{C"):
            code_set = chr(item[1])
            values.append({"A": 101, "B": 100, "C": 99}[code_set])
        elif code_set == "C":
            if item == b"{1":
                values.append(102)
            elif len(item) == 1 and item[0] < 100:
                values.append(item[0])
            else:
                return ""
        elif item in _FUNCTIONS[code_set]:
            values.append(_FUNCTIONS[code_set][item])
        else:
            code = item[-1]
            if code_set == "A" and code < 0x60:
                values.append(code - 32 if code >= 32 else code + 64)
            elif code_set == "B" and 0x20 <= code < 0x80:
                values.append(code - 32)
            else:
                return ""
    values.append((values[0] + sum(at * value for at, value in enumerate(values))) % 103)
    widths = "".join(_CODE128[value] for value in values) + _CODE128_STOP
    return "".join("10"[at % 2] * int(width) * module_dots for at, width in enumerate(widths))


_DRAW: Mapping[str, Callable[[bytes, int], str]] = {
    "EAN13": _ean13,
    "EAN8": _ean8,
    "UPC-A": _upc_a,
    "UPC-E": _upc_e,
    "CODE39": _code39,
    "CODE93": _code93,
    "CODE128": _code128,
    "ITF": _itf,
    "CODABAR": _codabar,
}
