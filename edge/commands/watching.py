"""Says which device speaks: scans, and every change of a device's status, as they come over the bus."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

import orjson

from edge.bus import topics
from edge.bus.address import Address
from edge.bus.client import Client, Message
from edge.bus.errors import BusError
from edge.commands.desk import CONNECT_WITHIN_S, NoGateway
from edge.config import StoreConfig


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

    client = Client(
        Address(socket=config.broker_socket),
        client_id=f"technician-{secrets.token_hex(6)}",
        clean_start=True,
        session_expiry_s=0,
    )
    client.on_message(topics.LANE_SCANS_ANY, scan)
    client.on_message(topics.DEVICES_STATUS_ANY, status)
    try:
        async with client:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                await client.wait_connected()
            await asyncio.sleep(seconds)
    except TimeoutError:
        raise NoGateway(f"no gateway answers on {config.broker_socket}: is it running?") from None
    except (BusError, OSError) as error:
        raise NoGateway(f"cannot ask {config.broker_socket}: {error}") from None
    return spoken
