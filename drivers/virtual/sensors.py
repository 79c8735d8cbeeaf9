"""What the sensors of a receipt printer see, and the status bytes that say it. No I/O.

Written from Epson's ESC/POS command reference: DLE EOT (real time), GS a (automatic status), GS r (in the queue).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

ERRORS = {"none": 0, "cutter": 0x08, "recoverable": 0x40, "unrecoverable": 0x20}
"""Bits of DLE EOT 3, and of the second byte of the automatic status."""


@dataclass(frozen=True, slots=True)
class Sensors:
    """One moment. `drawer_open` is the level of pin 3 with a drawer open: "high", "low", or "none" without a switch.

    `paper`: "ok", "near_end", "end". `open_drawers`: connectors (0 is pin 2, 1 is pin 5) whose drawer stands open.
    """

    drawer_open: str = "high"
    on: bool = True
    paper: str = "ok"
    cover_open: bool = False
    error: str = "none"
    open_drawers: frozenset[int] = frozenset()

    @property
    def stuck(self) -> bool:
        """Whether nothing can be printed."""
        return not self.on or self.paper == "end" or self.cover_open or self.error != "none"

    @property
    def pin3_high(self) -> bool:
        """One line for all drawers: their switches hang on it side by side. Without a switch nothing pulls it up."""
        return self.drawer_open != "none" and bool(self.open_drawers) == (self.drawer_open == "high")

    def tells(self, before: Sensors) -> bool:
        """Whether automatic status tells of the change."""
        quiet = dataclasses.replace(before, on=self.on, open_drawers=self.open_drawers)
        return quiet != self or before.pin3_high != self.pin3_high

    def real_time(self, number: int) -> bytes:
        """DLE EOT 1 to 4: one byte."""
        status = 0x12
        if number == 1:
            status |= 0x04 if self.pin3_high else 0
            status |= 0x08 if self.stuck else 0
        elif number == 2:
            status |= 0x04 if self.cover_open else 0
            status |= 0x20 if self.paper == "end" else 0
            status |= 0x40 if self.error != "none" else 0
        elif number == 3:
            status |= ERRORS[self.error]
        else:
            status |= 0x0C if self.paper != "ok" else 0
            status |= 0x60 if self.paper == "end" else 0
        return bytes((status,))

    def automatic(self) -> bytes:
        """GS a: four bytes."""
        first = 0x10
        first |= 0x04 if self.pin3_high else 0
        first |= 0x08 if self.stuck else 0
        first |= 0x20 if self.cover_open else 0
        third = 0x03 if self.paper != "ok" else 0
        third |= 0x0C if self.paper == "end" else 0
        return bytes((first, ERRORS[self.error], third, 0x0F))

    def queued(self, number: int) -> bytes:
        """GS r 1 (paper) and 2 (drawer): one byte."""
        if number == 1:
            return b"\x03" if self.paper == "near_end" else b"\x00"
        return bytes((int(self.pin3_high),))
