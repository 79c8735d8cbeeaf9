"""The mechanics of a virtual scale: what lies on its plate, and what it makes of it. No protocol.

Decimals throughout, in the scale's own unit and resolution: what a scale shows is what it resolved, digit for digit.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal, InvalidOperation

from drivers.virtual.twin import BadRequest

_RESOLUTION = {"kg": Decimal("0.001"), "g": Decimal("1"), "lb": Decimal("0.01"), "oz": Decimal("0.1")}


class Plate:
    """A plate with a load cell: load, zero, tare, motion.

    `unit` is "kg", "g", "lb" or "oz"; `capacity` is in that unit. `resolution` is the smallest step, None: as usual
    for the unit.
    """

    def __init__(self, unit: str = "kg", capacity: str = "15", resolution: str | None = None) -> None:
        if unit not in _RESOLUTION:
            raise ValueError(f"unit: is {unit!r}; expected one of {', '.join(_RESOLUTION)}")
        self.unit = unit
        self.resolution = Decimal(resolution) if resolution else _RESOLUTION[unit]
        self.capacity = Decimal(capacity)
        self.load = Decimal(0)
        self.zero = Decimal(0)
        self.tare = Decimal(0)
        self.forced_motion = False
        self._settling: asyncio.TimerHandle | None = None

    @property
    def gross(self) -> Decimal:
        """What lies on it, from its zero."""
        return (self.load - self.zero).quantize(self.resolution)

    @property
    def net(self) -> Decimal:
        """The same without the tare."""
        return (self.gross - self.tare).quantize(self.resolution)

    @property
    def moving(self) -> bool:
        """Whether it has not come to rest."""
        return self.forced_motion or self._settling is not None

    @property
    def over(self) -> bool:
        """Whether more lies on it than it can weigh."""
        return self.gross > self.capacity

    @property
    def under(self) -> bool:
        """Whether it is below its zero."""
        return self.gross < 0

    @property
    def in_capture_range(self) -> bool:
        """Whether it may be zeroed: within 2 % of the capacity."""
        return abs(self.load) <= self.capacity * Decimal("0.02")

    def put(self, value: str, settle_ms: int = 0) -> None:
        """Put `value` on the empty plate; it moves for `settle_ms`. Raises BadRequest."""
        try:
            self.load = Decimal(value).quantize(self.resolution)
        except InvalidOperation:
            raise BadRequest(f"value is {value!r}; expected a decimal such as 0.482") from None
        self.stop()
        if settle_ms:
            self._settling = asyncio.get_running_loop().call_later(settle_ms / 1000, self._settled)

    def set_zero(self) -> bool:
        """Zero it, if it is at rest, in range and has no tare; returns whether it did."""
        if self.moving or self.tare or not self.in_capture_range:
            return False
        self.zero = self.load
        return True

    def take_tare(self) -> bool:
        """Take what lies on it as tare, if it is at rest and more than nothing; returns whether it did."""
        if self.moving or self.gross <= 0 or self.over:
            return False
        self.tare = self.gross
        return True

    def clear_tare(self) -> bool:
        """Forget the tare, if it is at rest; returns whether it did."""
        if self.moving:
            return False
        self.tare = Decimal(0)
        return True

    def stop(self) -> None:
        """End a settling that is under way."""
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None

    def _settled(self) -> None:
        self._settling = None
