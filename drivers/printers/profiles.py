"""Receipt printers by model: what they can do and how wide they print. A new printer is one row here.

Where the figures come from: Epson's ESC/POS command reference (ESC t: code pages by model; GS ( H: models that prove
printing; GS ( k: models that draw QR codes) and the specification pages of each model's manual for columns and dots;
for other makers, what their ESC/POS emulations have in common. A row claims only what is certain: without
`proves_printing` a job ends as "sent", without `native_qr` or `native_barcodes` codes are drawn as pictures, and
characters that no listed code page has are drawn too. `escpos_profile` is the row of python-escpos' own table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from drivers.printers.pictures import PictureCommand

CodePages = tuple[tuple[int, str], ...]
"""Numbers of ESC t and what they mean on this model."""

COMMON_PAGES: CodePages = (
    (0, "CP437"),
    (2, "CP850"),
    (3, "CP860"),
    (4, "CP863"),
    (5, "CP865"),
    (16, "CP1252"),
    (17, "CP866"),
    (18, "CP852"),
    (19, "CP858"),
)
"""The pages that all makers number alike; beyond 19 each has its own numbers."""


@dataclass(frozen=True, slots=True)
class PrinterProfile:
    """One model. `columns` in font A (`small_columns` in font B); `width_dots` is how wide a picture may be.

    A printer of another `language` takes ready-made jobs only.
    `code_pages` None: as in python-escpos' table.
    """

    name: str
    escpos_profile: str
    columns: int
    width_dots: int
    small_columns: int = 0
    native_qr: bool = True
    native_barcodes: bool = True
    cutter: bool = True
    picture: PictureCommand = "raster"
    language: Literal["escpos", "zpl"] = "escpos"
    code_pages: CodePages | None = None
    real_time_status: bool = True
    automatic_status: bool = True
    proves_printing: bool = True


def _epson(name: str, columns: int, width_dots: int, small_columns: int, like: str = "TM-T88V") -> PrinterProfile:
    """Thermal, with the code pages of `like`."""
    return PrinterProfile(name, like, columns, width_dots, small_columns)


def _other(name: str, columns: int, width_dots: int, small_columns: int) -> PrinterProfile:
    """ESC/POS of another maker: what all have in common, and no word on whether a job was printed."""
    return PrinterProfile(
        name, "default", columns, width_dots, small_columns, code_pages=COMMON_PAGES, proves_printing=False
    )


def _impact(name: str, *, cutter: bool) -> PrinterProfile:
    """Nine pins, 200 dots across in pictures (ESC * 0)."""
    return PrinterProfile(
        name,
        "TM-U220B" if cutter else "TM-U220",
        33,
        200,
        40,
        native_qr=False,
        native_barcodes=False,
        cutter=cutter,
        picture="columns",
        code_pages=COMMON_PAGES,
    )


_NARROW = replace(_other("", 32, 384, 42), native_qr=False, native_barcodes=False, cutter=False)

PROFILES: Mapping[str, PrinterProfile] = {
    profile.name: profile
    for profile in (
        _epson("TM-T88VI", 42, 512, 56),
        _epson("TM-T88V", 42, 512, 56),
        replace(_epson("TM-T88IV", 42, 512, 56, "TM-T88IV"), native_qr=False),
        replace(_epson("TM-T88III", 42, 512, 56, "TM-T88III"), native_qr=False, proves_printing=False),
        _epson("TM-T20III", 48, 576, 64, "TM-T20II"),
        _epson("TM-T20II", 48, 576, 64, "TM-T20II"),
        _epson("TM-T20", 48, 576, 64, "TM-T20II"),
        _epson("TM-T70II", 42, 512, 56),
        replace(_epson("TM-T70", 42, 512, 56, "TM-T88IV"), native_qr=False),
        _epson("TM-m30III", 48, 576, 57),
        _epson("TM-m30II", 48, 576, 57),
        _epson("TM-m30", 48, 576, 57),
        replace(_epson("TM-L90", 48, 576, 64, "TM-L90"), proves_printing=False),
        replace(_epson("TM-P20", 32, 384, 42), cutter=False, proves_printing=False),
        # Impact printers: no raster, no codes of their own.
        _impact("TM-U220", cutter=True),
        _impact("TM-U220A", cutter=True),
        _impact("TM-U220B", cutter=True),
        _impact("TM-U220D", cutter=False),
        # Star, with its switches set to ESC/POS (TSP650II, TSP700II, mC-Print3; mC-Print2).
        _other("star-escpos-80", 48, 576, 64),
        _other("star-escpos-58", 32, 384, 42),
        _other("SRP-350", 42, 512, 56),
        _other("SRP-330", 42, 512, 56),
        _other("CT-S310", 48, 576, 64),
        _other("CT-S601", 48, 576, 64),
        _other("CT-E651", 48, 576, 64),
        _other("SLK-TS400", 48, 576, 64),
        # Clones: they print what Epson prints; few of them prove it. Their self test tells which of the two it is.
        _other("generic-80", 42, 512, 56),
        _other("generic-80-wide", 48, 576, 64),
        _other("XP-80", 48, 576, 64),
        # No knife: a cut feeds the paper to where it is torn off.
        replace(_NARROW, name="generic-58", escpos_profile="POS-5890"),
        replace(_NARROW, name="XP-58", escpos_profile="POS-5890"),
        # No status at all: one-way cables and converters. Everything ends as "sent".
        replace(_other("one-way", 42, 512, 56), real_time_status=False, automatic_status=False),
    )
}
