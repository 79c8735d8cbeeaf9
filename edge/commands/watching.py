"""Says which device speaks: scans and every change of a device's status, as they come over the bus; weights, asked for.

Most scales say nothing until they are asked. So each is weighed again and again, as a till would, and a change is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson

from drivers import catalog
from drivers.capture import new_protocol
from edge.bus import topics
from edge.bus.client import Message
from edge.commands.desk import Desk, Refused, desk
from edge.config import StoreConfig

WEIGH_EVERY_S = 0.5
WEIGH_WITHIN_S = 1.0


def scales(config: StoreConfig) -> list[str]:
    """The scales of a store that may be weighed only to see what they show: not those that give each weight once."""
    found = []
    for device in config.devices:
        kind = catalog.DEVICES[device.protocol]
        if kind.category == "scale":
            protocol = new_protocol(device.protocol, device.options) if kind.build is not None else None
            if getattr(protocol, "probed", True):
                found.append(device.id)
    return found


async def _weight(there: Desk, scale: str) -> str | None:
    """What a scale shows now, or why it has no weight; None when that cannot be told (its status says more)."""
    try:
        result = await there.ask("device.test", {"device": scale}, WEIGH_WITHIN_S)
    except Refused as refused:
        return str(refused).partition(":")[0] if refused.code == "not_ready" else None
    except TimeoutError:
        return None
    return f"{result['value']} {result['unit']}"


async def watch(config: StoreConfig, seconds: float, tell: Callable[[str], object]) -> int:
    """Tell of every device that speaks within `seconds`; returns how many times one did. Raises NoGateway."""
    spoken = 0
    before: dict[str, Any] = {}

    def scan(message: Message) -> None:
        nonlocal spoken
        message.ack()
        found = orjson.loads(message.payload)
        spoken += 1
        tell(f"{found['device']}: scanned {found.get('text', found)}")

    def status(message: Message) -> None:
        nonlocal spoken
        message.ack()
        found = orjson.loads(message.payload)
        said = {key: found[key] for key in ("state", "detail", "garbled")}
        known = before.get(found["device"])
        before[found["device"]] = said
        if known is not None and known != said:
            spoken += 1
            detail = ", ".join(f"{key} {value}" for key, value in found["detail"].items() if value is not None)
            tell(f"{found['device']}: {found['state']}{', ' if detail else ''}{detail}")

    async def press(there: Desk, scale: str) -> None:
        nonlocal spoken
        shown: str | None = None
        while True:
            now = await _weight(there, scale)
            if now is not None:
                if shown not in (None, now):
                    spoken += 1
                    tell(f"{scale}: shows {now}")
                shown = now
            await asyncio.sleep(WEIGH_EVERY_S)

    async with desk(config, {topics.LANE_SCANS_ANY: scan, topics.DEVICES_STATUS_ANY: status}) as there:
        pressing = [asyncio.create_task(press(there, scale), name=f"watch {scale}") for scale in scales(config)]
        try:
            await asyncio.sleep(seconds)
        finally:
            for task in pressing:
                task.cancel()
            await asyncio.gather(*pressing, return_exceptions=True)
    return spoken
