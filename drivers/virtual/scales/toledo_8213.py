"""A virtual Toledo 8213 scale, or one that speaks SASI: answers W and Z as the Magellan 8500 service manual (6.1.4) and
the Salter Brecknell 3700LP manual (page 11) say.

Weights carry a leading zero; they are sent only while stable, not negative and within capacity. The status is the
8213's byte of bits, or with `form="sasi"` one letter: A moving, B over, C under zero, D outside the zero range.
"""

from __future__ import annotations

from drivers.virtual.scales.base import VirtualScale
from drivers.virtual.wire import Wire


class VirtualToledo8213(VirtualScale):
    """Options: unit ("kg", "lb", "oz": two decimals; "g": none), capacity, form ("8213", "sasi"), parity ("shown")."""

    def __init__(
        self,
        name: str,
        wire: Wire,
        *,
        unit: str = "kg",
        capacity: str = "15",
        form: str = "8213",
        parity: str = "stripped",
    ) -> None:
        super().__init__(name, wire, unit=unit, capacity=capacity, resolution="1" if unit == "g" else "0.01")
        self._sasi = form == "sasi"
        self._parity_shown = parity == "shown"

    def received(self, data: bytes) -> None:
        """Take single letters."""
        for byte in data:
            if byte & 0x7F == 0x57:
                self._weigh()
            elif byte & 0x7F == 0x5A and not self._sasi:
                self.plate.set_zero()
                self._say(b"?" + self._bits())

    def _weigh(self) -> None:
        plate = self.plate
        if plate.moving or plate.over or plate.gross < 0:
            self._say(b"?" + (self._letter() if self._sasi else self._bits()))
            return
        self.weighings += 1
        self._say(f"{plate.gross:06}".encode("ascii"))

    def _letter(self) -> bytes:
        if self.plate.moving:
            return b"A"
        return b"B" if self.plate.over else b"C"

    def _bits(self) -> bytes:
        plate = self.plate
        bits = (
            plate.moving,
            plate.over,
            plate.gross < 0,
            not plate.in_capture_range,
            plate.gross == 0,
            False,  # it takes no tare
            True,
        )
        return bytes((sum(bit << place for place, bit in enumerate(bits)),))

    def _say(self, body: bytes) -> None:
        frame = b"\x02" + body + b"\x0d"
        if self._parity_shown:
            frame = bytes(byte | (byte.bit_count() % 2) << 7 for byte in frame)
        self.wire.send(frame)
