"""A virtual NCI / Weigh-Tronix scale: answers W, S, Z and T as the documents say (Magellan 8500 service manual, 6.1.1;
NCI 6702 user manual, page 14; B-TEK T419S service manual, page 66).

The standard form shows what the display shows, whatever it is: bars at the top (^) over capacity, at the bottom (_)
under it. `form="ecr"` sends the status alone while moving, negative or over, writes units in capitals, and knows no T.
`status` is the number of status bytes (2 to 4); net shows only with three or more.
"""

from __future__ import annotations

from drivers.virtual.scales.base import VirtualScale
from drivers.virtual.wire import Wire


class VirtualNciScp01(VirtualScale):
    """Options: unit, capacity, form ("standard", "ecr"), status (2, 3 or 4 bytes), parity ("even", "odd": shown)."""

    def __init__(
        self,
        name: str,
        wire: Wire,
        *,
        unit: str = "kg",
        capacity: str = "15",
        form: str = "standard",
        status: int = 3,
        parity: str = "stripped",
    ) -> None:
        super().__init__(name, wire, unit=unit, capacity=capacity)
        self._ecr = form == "ecr"
        self._status_bytes = status
        self._parity = {"even": 0, "odd": 1}.get(parity)

    def received(self, data: bytes) -> None:
        """Take letters that end with CR."""
        for line in self.lines(bytes(byte & 0x7F for byte in data), b"\r"):
            if line == b"W":
                self._weigh()
            elif line == b"S":
                self._say(b"")
            elif line == b"Z":
                self.plate.set_zero()
                self._say(b"")
            elif line == b"T" and not self._ecr:
                if not self.plate.take_tare() and self.plate.gross == 0:
                    self.plate.clear_tare()
                self._say(b"")
            else:
                self._send(b"\n?\r\x03")

    def _weigh(self) -> None:
        plate = self.plate
        if self._ecr and (plate.moving or plate.over or plate.net < 0):
            self._say(b"")
            return
        self.weighings += 1
        if self._ecr:
            self._say(f"\n{plate.net:06}{plate.unit.upper()}\r".encode("ascii"))
            return
        shown = f"{plate.net:7}"
        if plate.over:
            shown = "^" * 7
        elif plate.under:
            shown = "_" * 7
        self._say(f"\n{shown}{plate.unit}\r".encode("ascii"))

    def _say(self, weight: bytes) -> None:
        plate = self.plate
        more = self._status_bytes > 2
        status = [
            0x30 | plate.moving | (plate.gross == 0) << 1,
            0x30 | plate.under | plate.over << 1 | more << 6,
            0x30 | (plate.tare != 0) << 2 | (self._status_bytes > 3) << 6,
            0x30 | (plate.unit in ("kg", "g")) << 2,
        ]
        mark = b"S" if self._ecr else b""
        self._send(weight + b"\n" + mark + bytes(status[: self._status_bytes]) + b"\r\x03")

    def _send(self, frame: bytes) -> None:
        if self._parity is not None:
            frame = bytes(byte | 0x80 if byte.bit_count() % 2 != self._parity else byte for byte in frame)
        self.wire.send(frame)
