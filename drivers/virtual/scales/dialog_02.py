"""A virtual checkout scale of Dialog 02 and 04 (Ohaus Aviator 7000 service manual, V13, 6.1.6; records: DIVA, 6.1.8.3).

It takes a unit price, then gives a record 02 for EOT ENQ, or NAK: unloaded, moving, below zero, overloaded, or
nothing moved since the last weighing. Record 08 asks for the reason of the last NAK. Every dialogue begins with EOT.
"""

from __future__ import annotations

from decimal import Decimal

from drivers.virtual.scales.base import VirtualScale
from drivers.virtual.wire import Wire

_RECORD_LIMIT_BYTES = 64
_STATES = {"kg": "3", "lb": "1"}


class VirtualDialog02(VirtualScale):
    """Options: unit ("kg", "lb"), capacity, minimum (what must lie on it at least), repeats (gives a weight twice)."""

    def __init__(
        self,
        name: str,
        wire: Wire,
        *,
        unit: str = "kg",
        capacity: str = "15",
        minimum: str = "0.001",
        repeats: bool = False,
    ) -> None:
        super().__init__(name, wire, unit=unit, capacity=capacity)
        self.minimum = Decimal(minimum)
        self.repeats = repeats
        self.status = "00"
        self.price: int | None = None
        self._listens = False
        self._record: bytearray | None = None
        self._weighed: Decimal | None = None

    def load(self, value: str, settle_ms: int = 0) -> None:
        """Put `value` on the empty plate: it has moved."""
        super().load(value, settle_ms)
        self._weighed = None

    def received(self, data: bytes) -> None:
        """Take EOT, then ENQ or a record from STX to ETX."""
        for byte in data:
            if byte == 0x04:
                self._listens, self._record = True, None
            elif self._record is not None:
                if byte == 0x03:
                    record, self._record = bytes(self._record), None
                    self._listens = False
                    self.take(record.decode("latin-1").split("\x1b"))
                elif len(self._record) < _RECORD_LIMIT_BYTES:
                    self._record.append(byte)
            elif self._listens and byte == 0x02:
                self._record = bytearray()
            elif self._listens and byte == 0x05:
                self._listens = False
                self.enquired()

    def take(self, fields: list[str]) -> None:
        """Take a record, cut at its ESC."""
        number, *rest = fields
        if number == "08" and not rest:
            self.say(f"09\x1b{self.status}")
        elif number == "01" and len(rest) == 2 and not rest[1]:
            self.priced(rest[0])
        else:
            self.refuse("10")

    def priced(self, price: str) -> None:
        """Take the unit price of a weighing."""
        if price.isascii() and price.isdigit() and len(price) in (5, 6):
            self.price = int(price)
            self.wire.send(b"\x06")
        else:
            self.refuse("11")

    def enquired(self) -> None:
        """Give the weight, or NAK."""
        plate = self.plate
        if plate.moving:
            self.refuse("20")
        elif plate.over:
            self.refuse("32")
        elif plate.net < 0:
            self.refuse("31")
        elif plate.net < self.minimum:
            self.refuse("30")
        elif plate.net == self._weighed and not self.repeats:
            self.refuse("21")
        elif self.price is None:
            self.refuse("22")
        else:
            self.weigh(self.price)

    def weigh(self, price: int) -> None:
        """Send record 02."""
        plate = self.plate
        self.weighings += 1
        self.status = "00"
        self._weighed = plate.net
        digits = int(plate.net / plate.resolution)
        amount = int((plate.net * price).quantize(Decimal(1)))
        self.say(f"02\x1b{_STATES[plate.unit]}\x1b{digits:05d}\x1b{price:06d}\x1b{amount:06d}")

    def refuse(self, status: str) -> None:
        """Say NAK and keep the reason."""
        self.status = status
        self.wire.send(b"\x15")

    def say(self, record: str) -> None:
        """Send a record."""
        self.wire.send(b"\x02" + record.encode("ascii") + b"\x03")
