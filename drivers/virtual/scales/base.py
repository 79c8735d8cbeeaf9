"""What every virtual scale has: a plate, and the hands that put something on it.

A scale of its own says how it is asked and how it answers (`received`), from its document; one that sends by itself
starts a `_ticking` task in `open`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from drivers.virtual.plate import Plate
from drivers.virtual.twin import BadRequest, Table, Twin, get
from drivers.virtual.wire import Wire

_LINE_LIMIT_BYTES = 64


class VirtualScale(Twin):
    """Actions: load or weigh (kg, g, lb, oz or value; optional settle_ms), unload, motion, over, under."""

    kind = "scale"

    def __init__(
        self, name: str, wire: Wire, *, unit: str = "kg", capacity: str = "15", resolution: str | None = None
    ) -> None:
        super().__init__(name, wire)
        self.plate = Plate(unit, capacity, resolution)
        self.weighings = 0
        self._line = b""
        self._sending: asyncio.Task[None] | None = None
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
        self.plate.put(value, settle_ms)

    def state(self) -> Table:
        """Adds the plate, the tare and the number of weights given."""
        return {
            **super().state(),
            "unit": self.plate.unit,
            "plate": str(self.plate.load),
            "tare": str(self.plate.tare),
            "motion": self.plate.moving,
            "weighings": self.weighings,
        }

    def lines(self, data: bytes, end: bytes) -> list[bytes]:
        """The commands that `data` completed, without their `end`: for scales that take lines."""
        *lines, rest = (self._line + data).split(end)
        self._line = rest[-_LINE_LIMIT_BYTES:]
        return lines

    def send_every(self, interval_s: float) -> None:
        """Call `tick` for ever, this often: for scales that send by themselves. To be called once, after `open`."""
        self._sending = asyncio.get_running_loop().create_task(self._ticking(interval_s), name=f"{self.name} sends")

    def tick(self) -> None:
        """Send what the scale sends by itself; for those that do."""

    async def _ticking(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            self.tick()

    async def close(self) -> None:
        """Take the device away."""
        self.plate.stop()
        if self._sending is not None:
            self._sending.cancel()
        await super().close()

    async def _load(self, arguments: Mapping[str, Any]) -> None:
        key = next((key for key in ("kg", "g", "lb", "oz", "value") if key in arguments), "value")
        if key not in (self.plate.unit, "value"):
            raise BadRequest(f"this scale weighs in {self.plate.unit}")
        self.load(get(arguments, key, str), get(arguments, "settle_ms", int, 0))

    async def _unload(self, arguments: Mapping[str, Any]) -> None:
        self.load("0", get(arguments, "settle_ms", int, 0))

    async def _set_motion(self, arguments: Mapping[str, Any]) -> None:
        self.plate.forced_motion = get(arguments, "on", bool)

    async def _over(self, arguments: Mapping[str, Any]) -> None:
        self.plate.load = self.plate.capacity + 1

    async def _under(self, arguments: Mapping[str, Any]) -> None:
        self.plate.load = self.plate.zero - 1
