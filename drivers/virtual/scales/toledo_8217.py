"""A virtual Toledo 8217 scale: answers W, Z, T and C as the document says (Magellan 8500 service manual,
6.1.3).

What lies on the plate is a decimal in the scale's unit. Weights are sent only while stable, not negative and
within capacity; otherwise the status byte (bit 6 always set). A tare and a clear are answered after 150 ms. A
line that is read as 8N1 shows the parity bit: `parity="shown"` sends it.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal

from drivers.virtual.scales.base import VirtualScale
from drivers.virtual.wire import Wire

_TARE_S = 0.15
_COMMAND_LIMIT_BYTES = 16


class VirtualToledo8217(VirtualScale):
    """Options: unit ("kg", "lb"), capacity, parity ("stripped", "shown")."""

    def __init__(
        self, name: str, wire: Wire, *, unit: str = "kg", capacity: str = "15", parity: str = "stripped"
    ) -> None:
        super().__init__(name, wire, unit=unit, capacity=capacity)
        self._parity_shown = parity == "shown"
        self._command = bytearray()

    def received(self, data: bytes) -> None:
        """Take commands; T waits for its CR, the others are single letters."""
        for byte in data:
            letter = byte & 0x7F
            if self._command:
                self._command.append(letter)
                if letter == 0x0D:
                    self._take_tare(bytes(self._command[1:-1]))
                    self._command.clear()
                elif len(self._command) > _COMMAND_LIMIT_BYTES:
                    self._command.clear()
            elif letter == ord("W"):
                self._weigh()
            elif letter == ord("Z"):
                self.plate.set_zero()
                self._answer_status()
            elif letter == ord("T"):
                self._command.append(letter)
            elif letter == ord("C"):
                self.plate.clear_tare()
                asyncio.get_running_loop().call_later(_TARE_S, self._answer_status)

    def _weigh(self) -> None:
        plate = self.plate
        if plate.moving or plate.net < 0 or plate.over:
            self._answer_status()
            return
        self.weighings += 1
        width = 6 if plate.unit == "kg" else 5
        mark = "N" if plate.tare else ""
        self._answer(f"{plate.net:0{width}f}{mark}".encode("ascii"))

    def _take_tare(self, digits: bytes) -> None:
        if not digits:
            self.plate.take_tare()
        elif len(digits) == 5 and digits.isdigit():
            self.plate.tare = Decimal(int(digits)) * self.plate.resolution
        asyncio.get_running_loop().call_later(_TARE_S, self._answer_status)

    def _answer_status(self) -> None:
        plate = self.plate
        status = 0x40
        status |= 0x01 if plate.moving else 0
        status |= 0x02 if plate.over else 0
        status |= 0x04 if plate.net < 0 else 0
        status |= 0x08 if not plate.in_capture_range else 0
        status |= 0x10 if plate.net == 0 else 0
        status |= 0x20 if plate.tare else 0
        self._answer(b"?" + bytes((status,)))

    def _answer(self, body: bytes) -> None:
        frame = b"\x02" + body + b"\x0d"
        if self._parity_shown:
            frame = bytes(byte | 0x80 if byte.bit_count() % 2 else byte for byte in frame)
        self.wire.send(frame)
