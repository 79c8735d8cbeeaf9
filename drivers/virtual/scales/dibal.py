"""A virtual Dibal scale: answers 98 with 99, as SBZ Systems prints the frames and the DPOS400 manual (4.42) names
the fields.

While moving, below zero or overloaded the weight status is 1 and the weight zeros (the documents say only "error"). A
wrong checksum or price gets NAK.
"""

from __future__ import annotations

from drivers.virtual.scales.base import VirtualScale
from drivers.virtual.wire import Wire

_COMMAND_LIMIT_BYTES = 16


class VirtualDibal(VirtualScale):
    """Options: capacity (kg)."""

    def __init__(self, name: str, wire: Wire, *, capacity: str = "15") -> None:
        super().__init__(name, wire, capacity=capacity)
        self._command = bytearray()

    def received(self, data: bytes) -> None:
        """Take price frames up to LF."""
        for byte in data:
            self._command.append(byte)
            if byte == 0x0A or len(self._command) > _COMMAND_LIMIT_BYTES:
                self._obey(bytes(self._command))
                self._command.clear()

    def _obey(self, frame: bytes) -> None:
        price = frame[2:7]
        if (
            len(frame) != 10
            or frame[:2] != b"98"
            or frame[8:] != b"\r\n"
            or not price.isdigit()
            or frame[7] != _xor(frame[:7])
        ):
            self.wire.send(b"\x15")
        else:
            self.weighings += 1
            self.wire.send(self._answer(int(price)))

    def _answer(self, price: int) -> bytes:
        plate = self.plate
        valid = not (plate.moving or plate.over or plate.net < 0)
        grams = int(plate.net * 1000) if valid else 0
        amount = (price * grams + 500) // 1000
        text = f"99{0 if valid else 1}{grams:05d}{0 if valid else 1}{amount:06d}"
        return text.encode("ascii") + bytes((_xor(text.encode("ascii")),)) + b"\r\n"


def _xor(data: bytes) -> int:
    check = 0
    for byte in data:
        check ^= byte
    return check
