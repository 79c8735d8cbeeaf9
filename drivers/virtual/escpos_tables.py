"""Numbers of Epson's ESC/POS command reference that the virtual printer reads by: code pages, barcodes, lengths."""

from __future__ import annotations

from drivers.virtual.paper import Align

CODE_PAGES = {
    0: "cp437",
    2: "cp850",
    3: "cp860",
    4: "cp863",
    5: "cp865",
    13: "cp857",
    14: "cp737",
    15: "iso8859-7",
    16: "cp1252",
    17: "cp866",
    18: "cp852",
    19: "cp858",
    33: "cp775",
    34: "cp855",
    35: "cp861",
    36: "cp862",
    37: "cp864",
    38: "cp869",
    39: "iso8859-2",
    40: "iso8859-15",
    45: "cp1250",
    46: "cp1251",
    47: "cp1253",
    48: "cp1254",
    49: "cp1255",
    50: "cp1256",
    51: "cp1257",
    52: "cp1258",
}
BARCODES_A = {0: "UPC-A", 1: "UPC-E", 2: "EAN13", 3: "EAN8", 4: "CODE39", 5: "ITF", 6: "CODABAR"}
BARCODES_B = {code + 65: name for code, name in BARCODES_A.items()} | {72: "CODE93", 73: "CODE128"}
ALIGNS: tuple[Align, Align, Align] = ("left", "center", "right")

# How many parameters follow; commands that take more than that are handled by name.
ESC_LENGTHS = dict.fromkeys(b" !%-3=?EGJKMRTUVadert{", 1) | dict.fromkeys(b"2<@LSim\x0c", 0)
ESC_LENGTHS |= {
    ord("$"): 2,
    ord("\\"): 2,
    ord("A"): 1,
    ord("B"): 2,
    ord("c"): 2,
    ord("f"): 2,
    ord("p"): 3,
    ord("W"): 8,
}
GS_LENGTHS = dict.fromkeys(b"!/BEHITabfhjrw", 1) | dict.fromkeys(b"$LPW\\", 2) | {ord(":"): 0, ord("^"): 3}
FS_LENGTHS = dict.fromkeys(b"!-CW", 1) | dict.fromkeys(b"&.", 0) | {ord("S"): 2, ord("p"): 2}
COLUMN_SCALES = {0: (2, 3), 1: (1, 3), 32: (2, 1), 33: (1, 1)}
"""How large a dot of ESC * is printed, by its mode."""
