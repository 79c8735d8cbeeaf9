"""A virtual scale behind a Samsung cash register (CAS PD-II manual, 3.1.6 TYPE-6; AP-1 protocol sheet).

ENQ is acknowledged, DC1 brings the block: S at rest, U while moving; "-" below zero; "F" with a weight of F when
overloaded. While it is `busy` it says NAK, and so it does to a DC1 that no ENQ came before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drivers.virtual.scales.base import VirtualScale
from drivers.virtual.twin import get
from drivers.virtual.wire import Wire


class VirtualSamsungEcr(VirtualScale):
    """Options: unit ("kg", "lb"), capacity. Action: busy (on)."""

    def __init__(self, name: str, wire: Wire, *, unit: str = "kg", capacity: str = "15") -> None:
        super().__init__(name, wire, unit=unit, capacity=capacity)
        self.busy = False
        self._enquired = False
        self.actions["busy"] = self._set_busy

    def received(self, data: bytes) -> None:
        """Take ENQ and DC1."""
        for byte in data:
            if byte == 0x05 and not self.busy:
                self._enquired = True
                self.wire.send(b"\x06")
            elif byte == 0x11 and self._enquired:
                self._enquired = False
                self.weighings += 1
                self.wire.send(self._block())
            else:
                self.wire.send(b"\x15")

    def _block(self) -> bytes:
        plate = self.plate
        state = "U" if plate.moving else "S"
        if plate.over:
            text = f"{state}FFFFFFF{plate.unit}"
        else:
            sign = "-" if plate.net < 0 else " "
            text = f"{state}{sign}{abs(plate.net):06}{plate.unit}"
        check = 0
        for character in text:
            check ^= ord(character)
        return b"\x01\x02" + text.encode("ascii") + bytes((check,)) + b"\x03\x04"

    async def _set_busy(self, arguments: Mapping[str, Any]) -> None:
        self.busy = get(arguments, "on", bool)
