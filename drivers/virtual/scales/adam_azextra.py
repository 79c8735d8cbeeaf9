"""A virtual Adam AZextra: answers P with a printout, as the AZextra user's manual (chapter 3.10) and design page
"Devices" say. T and Z do what its keys do, without a word.

It is silent while it moves, over, at or below zero, and when the weight is the one that it printed last. `label`:
"line" prints the weight alone, "full" date, gross, tare and net.
"""

from __future__ import annotations

from decimal import Decimal

from drivers.virtual.scales.base import VirtualScale
from drivers.virtual.wire import Wire


class VirtualAdamAzextra(VirtualScale):
    """Options: unit ("kg", "lb"), capacity, label ("line", "full")."""

    def __init__(self, name: str, wire: Wire, *, unit: str = "kg", capacity: str = "15", label: str = "line") -> None:
        super().__init__(name, wire, unit=unit, capacity=capacity)
        self._full = label == "full"
        self._printed: Decimal | None = None

    def received(self, data: bytes) -> None:
        """Take commands that end with CR LF."""
        for line in self.lines(data, b"\r\n"):
            if line == b"P":
                self._print()
            elif line == b"Z":
                self.plate.set_zero()
            elif line == b"T":
                self.plate.take_tare()

    def _print(self) -> None:
        plate = self.plate
        if plate.moving or plate.over or plate.net <= 0 or plate.net == self._printed:
            return
        self._printed = plate.net
        self.weighings += 1
        lines = [f"{plate.net:8}{plate.unit}"]
        if self._full:
            lines = [
                "Date       12/09/2026",
                "Time       14:56:27",
                f"Gross Wt. {plate.gross:8} {plate.unit}",
                f"Tare Wt.  {plate.tare:8} {plate.unit}",
                f"Net Wt.   {plate.net:8} {plate.unit}",
                f"Price/{plate.unit}       2.50",
                "",
            ]
        self.wire.send("".join(line + "\r\n" for line in lines).encode("ascii"))
