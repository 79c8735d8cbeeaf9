"""A virtual MT-SICS scale: answers S, SI, Z, T, TA and TAC as Mettler Toledo's reference manual says (11780711).

What cannot be done while moving is answered with I at once (a real one waits for rest first). Z also clears the tare.
Below zero it shows a minus; S - is far below what it can weigh, and comes for half the capacity and more.
"""

from __future__ import annotations

from decimal import Decimal

from drivers.virtual.scales.base import VirtualScale


class VirtualMtSics(VirtualScale):
    """Options: unit, capacity, resolution."""

    def received(self, data: bytes) -> None:
        """Take commands that end with CR LF."""
        for line in self.lines(data, b"\r\n"):
            self.wire.send((self._answer(line.decode("latin-1")) + "\r\n").encode("ascii"))

    def _answer(self, command: str) -> str:
        plate = self.plate
        name, *parameters = command.split(" ")
        if name in ("S", "SI") and not parameters:
            return self._weigh(name)
        if name == "Z" and not parameters:
            if plate.moving:
                return "Z I"
            if not plate.in_capture_range:
                return "Z +" if plate.load > 0 else "Z -"
            plate.clear_tare()
            plate.set_zero()
            return "Z A"
        if name == "T" and not parameters:
            if plate.moving:
                return "T I"
            if plate.over or plate.gross < 0:
                return "T +" if plate.over else "T -"
            plate.take_tare()
            return f"T S {plate.tare:10} {plate.unit}"
        if name == "TA" and len(parameters) == 2:
            value, unit = parameters
            if unit != plate.unit or Decimal(value) > plate.capacity:
                return "TA L"
            plate.tare = Decimal(value).quantize(plate.resolution)
            return f"TA A {plate.tare:10} {plate.unit}"
        if name == "TAC" and not parameters:
            return "TAC A" if plate.clear_tare() else "TAC I"
        return "ES"

    def _weigh(self, command: str) -> str:
        plate = self.plate
        if plate.over:
            return "S +"
        if plate.gross < -plate.capacity / 2:
            return "S -"
        if plate.moving and command == "S":
            return "S I"
        self.weighings += 1
        return f"S {'D' if plate.moving else 'S'} {plate.net:10} {plate.unit}"
