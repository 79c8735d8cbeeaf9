"""A virtual SMA scale: answers W, Z, T and C as SCP-0499 says (as printed in Sartorius PR 5210, chapters 5.3 and 5.4).

Every answer is the standard message. A zero or a tare that cannot be had (in motion, out of range, nothing on the
plate) shows as E or T with dashes. What is not understood gets LF ? CR.
"""

from __future__ import annotations

from decimal import Decimal

from drivers.virtual.scales.base import VirtualScale
from drivers.virtual.wire import Wire

_COMMAND_LIMIT_BYTES = 16


class VirtualSmaScp0499(VirtualScale):
    """Options: unit, capacity."""

    def __init__(self, name: str, wire: Wire, *, unit: str = "kg", capacity: str = "15") -> None:
        super().__init__(name, wire, unit=unit, capacity=capacity)
        self._command: bytearray | None = None

    def received(self, data: bytes) -> None:
        """Take commands between LF and CR."""
        for byte in data:
            if byte == 0x0A:
                self._command = bytearray()
            elif self._command is None:
                continue
            elif byte == 0x0D:
                self._obey(self._command.decode("latin-1"))
                self._command = None
            elif len(self._command) < _COMMAND_LIMIT_BYTES:
                self._command.append(byte)

    def _obey(self, command: str) -> None:
        plate = self.plate
        if command == "W":
            self.weighings += 1
            self._say(self._status())
        elif command == "Z":
            self._say(self._status() if plate.set_zero() else "E")
        elif command == "T":
            self._say(self._status() if plate.take_tare() else "T")
        elif command[:1] == "T" and len(command) == 11:
            plate.tare = Decimal(command[1:].strip()).quantize(plate.resolution)
            self._say(self._status())
        elif command == "C":
            self._say(self._status() if plate.clear_tare() else "T")
        else:
            self.wire.send(b"\n?\r")

    def _status(self) -> str:
        plate = self.plate
        if plate.over:
            return "O"
        if plate.under:
            return "U"
        return "Z" if plate.gross == 0 else " "

    def _say(self, status: str) -> None:
        plate = self.plate
        kind = "N" if plate.tare else "G"
        motion = "M" if plate.moving else " "
        weight = "----------" if status in "ET" else f"{plate.net:10}"
        self.wire.send(f"\n{status}1{kind}{motion} {weight}{plate.unit:<3}\r".encode("ascii"))
