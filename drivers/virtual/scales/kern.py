"""A virtual Kern scale: answers w and t as the KDE-T operating instructions say (9.3.4), or W, T and Z as those of KFB
do (10.4). Commands are single letters.

`form="kde"`: eighteen bytes; while moving without a unit; Error over its capacity or far below zero. `form="kfb"`: over
its capacity it says nothing, since no form is printed for that.
"""

from __future__ import annotations

from drivers.virtual.scales.base import VirtualScale
from drivers.virtual.wire import Wire


class VirtualKern(VirtualScale):
    """Options: unit, capacity, form ("kde", "kfb")."""

    def __init__(self, name: str, wire: Wire, *, unit: str = "kg", capacity: str = "15", form: str = "kde") -> None:
        super().__init__(name, wire, unit=unit, capacity=capacity)
        self._kde = form == "kde"

    def received(self, data: bytes) -> None:
        """Take single letters."""
        plate = self.plate
        for letter in data.decode("latin-1"):
            if letter == ("w" if self._kde else "W"):
                self._weigh()
            elif letter == ("t" if self._kde else "T"):
                if not plate.take_tare() and plate.gross == 0:
                    plate.clear_tare()
            elif letter == "Z" and not self._kde:
                plate.set_zero()

    def _weigh(self) -> None:
        plate = self.plate
        if self._kde:
            sign = "-" if plate.net < 0 else " "
            shown = f" {sign}{abs(plate.net):10} {'    ' if plate.moving else plate.unit.ljust(3)}"[:16]
            if plate.over or plate.gross < -plate.capacity / 2:
                shown = "Error".rjust(16)
        elif plate.over:
            return
        else:
            state, kind = "US" if plate.moving else "ST", "NT" if plate.tare else "GS"
            shown = f"{state},{kind} {plate.net:8}{plate.unit.upper()}"
        self.weighings += 1
        self.wire.send(shown.encode("ascii") + b"\r\n")
