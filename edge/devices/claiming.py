"""Claiming a shared device for a while, and giving it back: `device.claim` and `device.release`.

Strategy: `leases.py` keeps them; here requests are read. The holder claims again to go on, well before the time is
over; a supervisor may take a device over that a till keeps and does not use.

Source: design page "The local bus" (operations).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge.bus.messages.replies import Code, ProblemError
from edge.bus.messages.requests import DeviceClaim, DeviceRelease
from edge.devices.attached import Attached
from edge.devices.leases import Lease, Leases
from edge.devices.registry import Registry
from edge.services.requests import Asked, Handler
from edge.supervisor import Background


class Claiming:
    """Serves `device.claim` and `device.release`."""

    def __init__(self, registry: Registry, leases: Leases) -> None:
        self._registry = registry
        self._leases = leases
        self._background = Background(ProblemError)

    def operations(self) -> Mapping[str, Handler]:
        """What tills may ask of leases."""
        return {"device.claim": self._claim, "device.release": self._release}

    async def _claim(self, asked: Asked, parameters: DeviceClaim) -> dict[str, Any]:
        """``{"device", "lease": the token, "expires_in_ms"}``."""
        device = self._registry.one_of(asked.lane, parameters.device)
        # A deadline that ends in mid-commit must not leave a lease on disk of which nobody here knows.
        lease = await self._background.finish(self._granted(device, asked, parameters), f"claim {device.id}")
        return {"device": device.id, "lease": lease.token, "expires_in_ms": self._leases.left_ms(lease)}

    async def _granted(self, device: Attached, asked: Asked, parameters: DeviceClaim) -> Lease:
        lane = asked.lane
        if not parameters.takeover:
            return await self._leases.claim(device, lane, parameters.for_ms, parameters.lease)
        operator_id, reason = asked.operator or parameters.operator_id, (parameters.reason or "").strip()
        if operator_id is None or not reason:
            raise ProblemError(Code.BAD_MESSAGE, "parameters: a takeover needs operator_id and reason")
        return await self._leases.take_over(
            device, lane, parameters.for_ms, operator_id, reason, asked.operator is not None
        )

    async def _release(self, asked: Asked, parameters: DeviceRelease) -> dict[str, Any]:
        """``{"device", "released"}``; `released` false: nobody had it."""
        device = self._registry.one_of(asked.lane, parameters.device)
        return {
            "device": device.id,
            "released": await self._leases.release(device.id, asked.lane, parameters.lease),
        }
