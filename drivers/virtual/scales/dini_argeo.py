"""A virtual Dini Argeo indicator: answers READ, REXT, ZERO, TARE and TMAN as the manuals of DGT4X (pages 52 and 54) and
LTP (page 43) say.

OK is said to every command that is understood, whether or not it can be done just now. `address` is the RS-485 address
("01") that stands before every string, or none.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from drivers.virtual.scales.base import VirtualScale
from drivers.virtual.wire import Wire


class VirtualDiniArgeo(VirtualScale):
    """Options: unit, capacity, address."""

    def __init__(self, name: str, wire: Wire, *, unit: str = "kg", capacity: str = "15", address: str = "") -> None:
        super().__init__(name, wire, unit=unit, capacity=capacity)
        self._address = address
        self._known_tare = False

    def received(self, data: bytes) -> None:
        """Take commands that end with CR LF."""
        for line in self.lines(data, b"\r\n"):
            self.wire.send((self._answer(line.decode("latin-1")) + "\r\n").encode("ascii"))

    def _answer(self, command: str) -> str:
        plate = self.plate
        if command in ("READ", "REXT"):
            self.weighings += 1
            return self._address + (self._standard() if command == "READ" else self._extended())
        if command == "ZERO":
            plate.set_zero()
        elif command == "TARE":
            self._known_tare = False
            plate.take_tare()
        elif command[:4] == "TMAN":
            try:
                plate.tare = Decimal(command[4:]).quantize(plate.resolution)
            except InvalidOperation:
                return "ERR02"
            self._known_tare = plate.tare != 0
        else:
            return "ERR01" if command[:4] in ("READ", "REXT", "ZERO", "TARE") else "ERR04"
        return "OK"

    def _standard(self) -> str:
        plate = self.plate
        return f"{self._stability()},{'NT' if plate.tare else 'GS'},{plate.net:8},{plate.unit:>2}"

    def _extended(self) -> str:
        plate = self.plate
        mark = "PT" if self._known_tare else "  "
        return f"1{self._stability()},{plate.net:10},{mark}{plate.tare:10},{0:10},{plate.unit:>2}"

    def _stability(self) -> str:
        plate = self.plate
        if plate.over:
            return "OL"
        if plate.under:
            return "UL"
        return "US" if plate.moving else "ST"
