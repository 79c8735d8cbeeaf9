"""Receipt printers by model: what they can do and how wide they print. A new printer is one row here.

`escpos_profile` names the row of python-escpos' own table that the encoder uses (fonts, code pages,
barcodes). What a printer can tell of itself decides how far its word goes: without `proves_printing` a job
ends as "sent".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PrinterProfile:
    """One model. `columns` in font A; `width_dots` is the printable width."""

    name: str
    escpos_profile: str
    columns: int
    width_dots: int
    native_qr: bool = True
    real_time_status: bool = True
    automatic_status: bool = True
    proves_printing: bool = True


PROFILES: Mapping[str, PrinterProfile] = {
    profile.name: profile
    for profile in (
        PrinterProfile("TM-T88V", "TM-T88V", columns=42, width_dots=512),
        PrinterProfile("TM-T88IV", "TM-T88IV", columns=42, width_dots=512),
        PrinterProfile("TM-T88III", "TM-T88III", columns=42, width_dots=512, proves_printing=False),
        PrinterProfile("TM-T20II", "TM-T20II", columns=48, width_dots=576),
        PrinterProfile("TM-U220", "TM-U220B", columns=33, width_dots=400, native_qr=False),
        # Clones: they print what Epson prints; few of them prove it.
        PrinterProfile("generic-80", "default", columns=42, width_dots=512, proves_printing=False),
        # No knife: a cut feeds the paper to where it is torn off.
        PrinterProfile("generic-58", "POS-5890", columns=32, width_dots=384, native_qr=False, proves_printing=False),
        # No status at all: one-way cables and converters. Everything ends as "sent".
        PrinterProfile(
            "one-way",
            "default",
            columns=42,
            width_dots=512,
            real_time_status=False,
            automatic_status=False,
            proves_printing=False,
        ),
    )
}
