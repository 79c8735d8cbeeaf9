"""A virtual Digi DS-425: sends its weight and its tare by itself, as the service manual V1.04, chapter 4, says.

`header="yes"` adds the header codes, `stability="no"` leaves out the stability code (SPEC02 bits 0 and 1). Over its
capacity it sends nothing: the manual prints no form for that.
"""

from __future__ import annotations

from decimal import Decimal

from drivers.virtual.scales.base import VirtualScale
from drivers.virtual.wire import Wire

_EVERY_S = 0.1


class VirtualDigiDs425(VirtualScale):
    """Options: unit, capacity, header ("yes", "no"), stability ("yes", "no")."""

    def __init__(
        self,
        name: str,
        wire: Wire,
        *,
        unit: str = "kg",
        capacity: str = "15",
        header: bool = True,
        stability: bool = True,
    ) -> None:
        super().__init__(name, wire, unit=unit, capacity=capacity)
        self._net, self._tare = ("0", "4") if header else ("", "")
        self._stability = stability

    async def open(self) -> None:
        """Put the scale on its wire; it sends from now on."""
        await super().open()
        self.send_every(_EVERY_S)

    def tick(self) -> None:
        """Send one text."""
        plate = self.plate
        if plate.over:
            return
        self.weighings += 1
        state = ("\x01\r" if plate.moving else "\x00\r") if self._stability else ""
        text = f"{state}{self._net}{_seven(plate.net)}\r{self._tare}{_seven(plate.tare)}\r\n"
        self.wire.send(text.encode("ascii"))


def _seven(weight: Decimal) -> str:
    return f"{weight:07}"
