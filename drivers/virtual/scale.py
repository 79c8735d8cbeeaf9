"""A virtual Toledo 8217 scale: answers W, Z, T and C as the document says (Magellan 8500 service manual,
6.1.3).

What lies on the plate is a decimal in the scale's unit. Weights are sent only while stable, not negative and
within capacity; otherwise the status byte (bit 6 always set). A tare and a clear are answered after 150 ms. A
line that is read as 8N1 shows the parity bit: `parity="shown"` sends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from drivers.virtual.twin import BadRequest, Table, Twin, get
from drivers.virtual.wire import Wire

_TARE_S = 0.15
_COMMAND_LIMIT_BYTES = 16


class VirtualScale(Twin):
    """Actions: load (value, optional settle_ms), unload, motion, over, under."""

    kind = "scale"

    def __init__(
        self, name: str, wire: Wire, *, unit: str = "kg", capacity: str = "15", parity: str = "stripped"
    ) -> None:
        super().__init__(name, wire)
        self._decimals = Decimal("0.001") if unit == "kg" else Decimal("0.01")
        self._unit = unit
        self._capacity = Decimal(capacity)
        self._parity_shown = parity == "shown"
        self._plate = Decimal(0)
        self._zero = Decimal(0)
        self._tare = Decimal(0)
        self._motion = False
        self._settling: asyncio.TimerHandle | None = None
        self._command = bytearray()
        self.weighings = 0
        self.actions |= {
            "load": self._load,
            "weigh": self._load,
            "unload": self._unload,
            "motion": self._set_motion,
            "over": self._over,
            "under": self._under,
        }

    def load(self, value: str, settle_ms: int = 0) -> None:
        """Put `value` (in the scale's unit) on the empty plate; it moves for `settle_ms`."""
        try:
            self._plate = Decimal(value).quantize(self._decimals)
        except InvalidOperation:
            raise BadRequest(f"value is {value!r}; expected a decimal such as 0.482") from None
        if settle_ms:
            self._motion = True
            if self._settling is not None:
                self._settling.cancel()
            self._settling = asyncio.get_running_loop().call_later(settle_ms / 1000, self._settled)

    def state(self) -> Table:
        """Adds the plate, the tare and the number of weights given."""
        return {
            **super().state(),
            "unit": self._unit,
            "plate": str(self._plate),
            "tare": str(self._tare),
            "motion": self._motion,
            "weighings": self.weighings,
        }

    async def close(self) -> None:
        """Take the device away."""
        if self._settling is not None:
            self._settling.cancel()
        await super().close()

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
                self._set_zero()
            elif letter == ord("T"):
                self._command.append(letter)
            elif letter == ord("C"):
                if not self._motion:
                    self._tare = Decimal(0)
                asyncio.get_running_loop().call_later(_TARE_S, self._answer_status)

    def _gross(self) -> Decimal:
        return self._plate - self._zero

    def _weigh(self) -> None:
        net = self._gross() - self._tare
        if self._motion or net < 0 or self._gross() > self._capacity:
            self._answer_status()
            return
        self.weighings += 1
        width = 6 if self._unit == "kg" else 5
        mark = "N" if self._tare else ""
        self._answer(f"{net.quantize(self._decimals):0{width}f}{mark}".encode("ascii"))

    def _set_zero(self) -> None:
        if not self._motion and not self._tare and self._in_capture_range():
            self._zero = self._plate
        self._answer_status()

    def _take_tare(self, digits: bytes) -> None:
        if digits:
            if len(digits) == 5 and digits.isdigit():
                self._tare = Decimal(int(digits)) * self._decimals
        elif not self._motion and self._gross() > 0:
            self._tare = self._gross()
        asyncio.get_running_loop().call_later(_TARE_S, self._answer_status)

    def _in_capture_range(self) -> bool:
        return abs(self._plate) <= self._capacity * Decimal("0.02")

    def _answer_status(self) -> None:
        net = self._gross() - self._tare
        status = 0x40
        status |= 0x01 if self._motion else 0
        status |= 0x02 if self._gross() > self._capacity else 0
        status |= 0x04 if net < 0 else 0
        status |= 0x08 if not self._in_capture_range() else 0
        status |= 0x10 if net == 0 else 0
        status |= 0x20 if self._tare else 0
        self._answer(b"?" + bytes((status,)))

    def _answer(self, body: bytes) -> None:
        frame = b"\x02" + body + b"\x0d"
        if self._parity_shown:
            frame = bytes(byte | 0x80 if byte.bit_count() % 2 else byte for byte in frame)
        self.wire.send(frame)

    def _settled(self) -> None:
        self._settling = None
        self._motion = False

    async def _load(self, arguments: Mapping[str, Any]) -> None:
        key = next((key for key in ("kg", "lb", "value") if key in arguments), "value")
        if key in ("kg", "lb") and key != self._unit:
            raise BadRequest(f"this scale weighs in {self._unit}")
        self.load(get(arguments, key, str), get(arguments, "settle_ms", int, 0))

    async def _unload(self, arguments: Mapping[str, Any]) -> None:
        self.load("0", get(arguments, "settle_ms", int, 0))

    async def _set_motion(self, arguments: Mapping[str, Any]) -> None:
        self._motion = get(arguments, "on", bool)

    async def _over(self, arguments: Mapping[str, Any]) -> None:
        self._plate = self._capacity + 1

    async def _under(self, arguments: Mapping[str, Any]) -> None:
        self._plate = self._zero - 1
