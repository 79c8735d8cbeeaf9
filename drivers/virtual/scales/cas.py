"""Virtual CAS scales that send by themselves: 22 bytes (CI-150A manual, appendix 1, page 55) or 10 (the same page).

Ten times a second. Of 10 bytes the manual does not say how an overload is sent; this one sends nothing then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drivers.virtual.scales.base import VirtualScale
from drivers.virtual.twin import get
from drivers.virtual.wire import Wire

_INTERVAL_S = 0.1


class VirtualCas22(VirtualScale):
    """Options: unit, capacity. Action: hold (on)."""

    def __init__(self, name: str, wire: Wire, *, unit: str = "kg", capacity: str = "15") -> None:
        super().__init__(name, wire, unit=unit, capacity=capacity)
        self.holds = False
        self.actions["hold"] = self._set_hold

    async def open(self) -> None:
        """Put the device on its wire; it sends from now on."""
        await super().open()
        self.send_every(_INTERVAL_S)

    def tick(self) -> None:
        """Send the weight with its headers and lamps."""
        plate = self.plate
        head = "OL" if plate.over else "US" if plate.moving else "ST"
        net = "NT" if plate.tare else "GS"
        lamps = 0x80
        lamps |= 0x40 if head == "ST" else 0
        lamps |= 0x10 if self.holds else 0
        lamps |= 0x02 if plate.tare else 0x04
        lamps |= 0x01 if plate.gross == 0 else 0
        weight = f"{plate.net:08}"
        self.weighings += 1
        self.wire.send(
            f"{head},{net},1".encode("ascii") + bytes((lamps,)) + f",{weight} {plate.unit:>2}\r\n".encode("ascii")
        )

    async def _set_hold(self, arguments: Mapping[str, Any]) -> None:
        self.holds = get(arguments, "on", bool)


class VirtualCas10(VirtualScale):
    """Options: unit, capacity."""

    async def open(self) -> None:
        """Put the device on its wire; it sends from now on."""
        await super().open()
        self.send_every(_INTERVAL_S)

    def tick(self) -> None:
        """Send the weight."""
        if not self.plate.over:
            self.weighings += 1
            self.wire.send(f"{self.plate.net:08}\r\n".encode("ascii"))
