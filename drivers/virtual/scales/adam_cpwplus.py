"""A virtual Adam CPWplus: answers G, N, T and Z as the CPWplus user manual says (chapter 11.0), or sends by itself.

While it moves, its last digit dances, as a display's does. Z zeroes near zero and tares above. Over its capacity it
answers nothing when asked (the manual prints no form for it), and sends by itself with an E where N says "no error".
"""

from __future__ import annotations

from decimal import Decimal

from drivers.virtual.scales.base import VirtualScale
from drivers.virtual.wire import Wire

_EVERY_S = 0.1


class VirtualAdamCpwplus(VirtualScale):
    """Options: unit, capacity, output ("asked", "continuous")."""

    def __init__(self, name: str, wire: Wire, *, unit: str = "kg", capacity: str = "15", output: str = "asked") -> None:
        super().__init__(name, wire, unit=unit, capacity=capacity)
        self._continuous = output == "continuous"
        self._dance = 0

    async def open(self) -> None:
        """Put the scale on its wire."""
        await super().open()
        if self._continuous:
            self.send_every(_EVERY_S)

    def received(self, data: bytes) -> None:
        """Take commands that end with CR LF."""
        plate = self.plate
        for line in self.lines(data, b"\r\n"):
            if line == b"Z":
                plate.clear_tare()
                if not plate.set_zero():
                    plate.take_tare()
            elif plate.over:
                continue
            elif line in (b"G", b"N", b"T"):
                self.weighings += 1
                weight = {b"G": plate.gross, b"N": plate.net, b"T": plate.tare}[line]
                self.wire.send(line + self._shown(weight))

    def tick(self) -> None:
        """Send a line by itself."""
        plate = self.plate
        state = f"1{'U' if plate.moving else 'S'}{'E' if plate.over else 'N'}{'N' if plate.tare else 'G'}/W"
        self.wire.send(state.encode("ascii") + self._shown(plate.net))

    def _shown(self, weight: Decimal) -> bytes:
        if self.plate.moving:
            self._dance = (self._dance + 1) % 3
            weight += self._dance * self.plate.resolution
        sign = "-" if weight < 0 else "+"
        return f" {sign} {abs(weight):7} {self.plate.unit}\r\n".encode("ascii")
