"""Weights on request: one stable weight, or the reason why there is none.

Strategy: the driver asks the scale until the weight is stable; here each scale serves one request at a time and the
other lanes that share it wait within their own deadlines. An answer is always one that was measured after the
request came: nothing is remembered from before.

Source: design page "Devices" (scales).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from drivers.errors import BadOption, DeviceLost, Garbled, NotReady
from drivers.scales.scale_driver import Scale
from edge.bus.envelope import now_utc
from edge.bus.messages.replies import Code, ProblemError
from edge.bus.messages.requests import ScaleTare, ScaleWeigh, ScaleZero
from edge.devices.attached import Attached
from edge.devices.registry import Registry
from edge.services.requests import Asked, Handler


class Weighing:
    """Serves `scale.weigh`, `scale.zero` and `scale.tare`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._turns: dict[str, asyncio.Lock] = {}

    def operations(self) -> Mapping[str, Handler]:
        """What tills may ask of scales."""
        return {"scale.weigh": self._weigh, "scale.zero": self._zero, "scale.tare": self._tare}

    async def _weigh(self, asked: Asked, parameters: ScaleWeigh) -> dict[str, Any]:
        """A stable weight in the form of `WeightMessage`."""
        device = self._registry.device_for(asked.lane, "scale", parameters.device, parameters.lease)
        async with self._asking(device, asked) as (scale, left_s):
            weight = await scale.weigh(left_s)
        return {
            "value": weight.value,
            "unit": weight.unit,
            "stable": weight.stable,
            "net": weight.net,
            "tare": weight.tare,
            "raw": weight.raw.hex(),
            "weighed_at": now_utc(),
            "device": device.id,
        }

    async def _zero(self, asked: Asked, parameters: ScaleZero) -> dict[str, Any]:
        """``{"zeroed": true}``, or not_ready with what stands in the way."""
        device = self._registry.device_for(asked.lane, "scale", parameters.device, parameters.lease)
        async with self._asking(device, asked) as (scale, left_s):
            status = await scale.zero(left_s)
        if not status.centre_of_zero:
            reason = status.reason or "not_at_zero"
            raise ProblemError(Code.NOT_READY, f"{reason}: clear the plate, take any tare off, and zero again")
        return {"zeroed": True, "device": device.id}

    async def _tare(self, asked: Asked, parameters: ScaleTare) -> dict[str, Any]:
        """``{"tared": true}``, or ``false`` when it is cleared, or not_ready with what stands in the way."""
        device = self._registry.device_for(asked.lane, "scale", parameters.device, parameters.lease)
        async with self._asking(device, asked) as (scale, left_s):
            if parameters.clear:
                status = await scale.clear_tare(left_s)
            elif parameters.value is not None and parameters.unit is not None:
                status = await scale.tare_value(parameters.value, parameters.unit, left_s)
            else:
                status = await scale.tare(left_s)
        if parameters.clear:
            if status.net or status.reason is not None:
                reason = status.reason or "still_tared"
                raise ProblemError(Code.NOT_READY, f"{reason}: let it come to rest and clear the tare again")
            return {"tared": False, "device": device.id}
        if not status.net:
            reason = status.reason or "not_tared"
            raise ProblemError(Code.NOT_READY, f"{reason}: let the container come to rest and tare again")
        return {"tared": True, "device": device.id}

    def turn(self, device: Attached) -> asyncio.Lock:
        """Whoever asks this scale holds it meanwhile."""
        return self._turns.setdefault(device.id, asyncio.Lock())

    @asynccontextmanager
    async def _asking(self, device: Attached, asked: Asked) -> AsyncIterator[tuple[Scale, float]]:
        """The scale for this request alone, with the seconds it has; driver errors become problems."""
        loop = asyncio.get_running_loop()
        until_s = asked.answer_by_s
        turn = self.turn(device)
        try:
            async with asyncio.timeout_at(until_s):
                await turn.acquire()
        except TimeoutError:
            raise ProblemError(
                Code.NOT_READY, f"busy: {device.id} weighs for another request; ask again", retry_after_ms=500
            ) from None
        try:
            scale = device.scale
            if scale is None:
                raise TypeError(f"{device.id} is driven by {type(device.driver).__name__}, which has no scale")
            left_s = until_s - loop.time()
            if left_s <= 0:
                raise ProblemError(Code.TIMED_OUT, "the deadline leaves no time to weigh; give it a second or more")
            yield scale, left_s
            self._registry.answers(device)
        except (NotReady, Garbled) as error:
            self._registry.refuses(device, error)
            raise ProblemError(Code.NOT_READY, f"{error.reason}: {error}") from error
        except BadOption as error:
            raise ProblemError(Code.BAD_MESSAGE, str(error)) from error
        except DeviceLost as error:
            raise ProblemError(Code.DEVICE_LOST, str(error)) from error
        finally:
            turn.release()
