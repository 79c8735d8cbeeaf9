"""A virtual scale behind an ICL cash register (Mettler Toledo DIVA service manual, 6.1.5 and 6.1.11; who says what is
drawn in the Citizen CBM-730 manual, page 17).

ENQ: ACK with a valid weight, NUL without one (moving), NAK while `busy`. DC1: the block, or CAN when the weight
has changed since ENQ. The host's copy of the block: ACK if it is the same, NAK if not. CR ends it. Over and under range
are zeros with bit 4 of the information byte. Ways to say the end: confirm="ack" as drawn, "cr" as the DIVA manual
words it.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from drivers.virtual.scales.base import VirtualScale
from drivers.virtual.twin import get
from drivers.virtual.wire import Wire

_BLOCK_BYTES = 9


class VirtualIcl(VirtualScale):
    """Options: unit ("kg", "lb"), capacity, confirm ("ack", "cr"). Actions: busy (on), mishear (on)."""

    def __init__(self, name: str, wire: Wire, *, unit: str = "kg", capacity: str = "15", confirm: str = "ack") -> None:
        super().__init__(name, wire, unit=unit, capacity=capacity)
        self.busy = False
        self.mishears = False
        self.finished = 0
        self._confirm = b"\x0d" if confirm == "cr" else b"\x06"
        self._ready: Decimal | None = None
        self._sent = b""
        self._copy = bytearray()
        self.actions |= {"busy": self._set_busy, "mishear": self._set_mishear}

    def received(self, data: bytes) -> None:
        """Take ENQ, DC1, CR and, after a block was sent, its copy."""
        for byte in data:
            if self._sent and (self._copy or byte == 0x02):
                self._copy.append(byte)
                if len(self._copy) == _BLOCK_BYTES:
                    self._compare(bytes(self._copy))
            elif byte == 0x05:
                self._enquired()
            elif byte == 0x11:
                self._requested()
            elif byte == 0x0D:
                self.finished += 1

    def _enquired(self) -> None:
        self._sent, self._ready = b"", None
        if self.busy:
            self.wire.send(b"\x15")
        elif self.plate.moving:
            self.wire.send(b"\x00")
        else:
            self._ready = self.plate.net
            self.wire.send(b"\x06")

    def _requested(self) -> None:
        if self._ready is None:
            self.wire.send(b"\x15")
        elif self._ready != self.plate.net:
            self._ready = None
            self.wire.send(b"\x18")
        else:
            self.weighings += 1
            self._sent = self._block()
            self._copy.clear()
            self.wire.send(self._sent)

    def _block(self) -> bytes:
        plate = self.plate
        info = 0b0110_1000 | (0b010 if plate.unit == "lb" else 0b001)
        if plate.over or plate.net < 0:
            data = bytes((info | 0b0001_0000,)) + b"00000"
        else:
            steps = int(plate.net / plate.resolution)
            digits = f"{steps:05d}" if plate.unit == "kg" else f"\0{steps:04d}"
            data = bytes((info,)) + digits.encode("ascii")
        check = 0
        for byte in data:
            check ^= byte
        return b"\x02" + data + bytes((check,)) + b"\x03"

    def _compare(self, copy: bytes) -> None:
        same = copy == self._sent and not self.mishears
        self._sent = b""
        self._copy.clear()
        self.wire.send(self._confirm if same else b"\x15")

    async def _set_busy(self, arguments: Mapping[str, Any]) -> None:
        self.busy = get(arguments, "on", bool)

    async def _set_mishear(self, arguments: Mapping[str, Any]) -> None:
        self.mishears = get(arguments, "on", bool)
