"""What `tillgate status` prints: the gateway's and the devices' own words, and what is promised per class.

Strategy: it asks the store's broker like anybody else; retained messages answer at once. Nothing is read behind the
gateway's back, so what it shows is what the tills see.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import Any

from edge.bus import topics
from edge.bus.address import Address
from edge.bus.client import Client, Message
from edge.bus.errors import BusError
from edge.bus.messages.facts import FactClass
from edge.bus.messages.statuses import DeviceStatus, GatewayStatus
from edge.config import StoreConfig

ANSWER_WITHIN_S = 5.0
DEVICES_SETTLE_S = 0.3
"""Retained device statuses follow the gateway's within this time on a local broker."""


class NoAnswer(Exception):
    """The gateway does not answer; the text says what to look at."""


@dataclass(frozen=True, slots=True)
class Report:
    """One look at a gateway."""

    gateway: GatewayStatus
    devices: tuple[DeviceStatus, ...]

    @property
    def good(self) -> bool:
        """Serving, online, and nothing waits for a person."""
        return (
            self.gateway.state == "serving"
            and self.gateway.link == "online"
            and not self.gateway.please
            and not any(device.please for device in self.devices)
        )

    def as_json(self) -> dict[str, Any]:
        """One JSON object."""
        return {
            "gateway": self.gateway.model_dump(mode="json"),
            "devices": [device.model_dump(mode="json") for device in self.devices],
            "promises": {fact_class.value: promise(fact_class, self.gateway.confirm) for fact_class in FactClass},
        }

    def as_text(self) -> str:
        """For a terminal, 80 columns."""
        gateway = self.gateway
        switch_off = "yes" if gateway.safe_to_switch_off else "no: facts wait for HQ or work is in hand"
        lines = [
            f"gateway    {gateway.state}, version {gateway.version}, clock {gateway.clock}",
            f"link       {gateway.link} since {gateway.since}",
            f"prices     {gateway.price_version or 'none yet'}",
            f"missing    {gateway.lane_gaps} facts in lanes' sequences; {gateway.quarantined} messages in quarantine",
            f"switch off {switch_off}",
            *([f"please     {gateway.please}"] if gateway.please else []),
            "",
            "class        waiting  oldest  promise",
        ]
        for fact_class, backlog in gateway.backlog.items():
            oldest = "-" if backlog.oldest_s is None else f"{backlog.oldest_s} s"
            lines.append(
                f"{fact_class.value:<12} {backlog.facts:>7} {oldest:>7}  {promise(fact_class, gateway.confirm)}"
            )
        lines += ["", "device           state      please"]
        lines += [f"{device.device:<16} {device.state:<10} {device.please or '-'}" for device in self.devices]
        return "\n".join(lines)


def promise(fact_class: FactClass, confirm: str) -> str:
    """What `accepted` means for a class, in a line."""
    durable = "on disk before accepted" if fact_class.durable else "on disk within 1 s"
    if fact_class.evictable:
        kept = "may be evicted when the disk fills, leaving a tombstone"
    elif fact_class in (FactClass.CRITICAL, FactClass.TRANSACTION):
        kept = "never evicted"
    else:
        kept = "never evicted before confirmed"
    by = "" if confirm == "hq" else "; confirmed by the broker only, not by HQ's database"
    return f"{durable}; {kept}{by}"


async def ask(config: StoreConfig) -> Report:
    """Ask the store's broker; NoAnswer when broker or gateway are not there."""
    gateway: asyncio.Future[GatewayStatus] = asyncio.get_running_loop().create_future()
    devices: dict[str, DeviceStatus] = {}

    def on_gateway(message: Message) -> None:
        message.ack()
        if not gateway.done():
            gateway.set_result(GatewayStatus.model_validate_json(message.payload))

    def on_device(message: Message) -> None:
        message.ack()
        device = DeviceStatus.model_validate_json(message.payload)
        devices[device.device] = device

    client = Client(
        Address(socket=config.broker_socket),
        client_id=f"status-{secrets.token_hex(6)}",
        clean_start=True,
        session_expiry_s=0,
    )
    client.on_message(topics.GATEWAY_STATUS, on_gateway)
    client.on_message(topics.DEVICES_STATUS_ANY, on_device)
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S), client:
            status = await gateway
            await asyncio.sleep(DEVICES_SETTLE_S)
    except TimeoutError:
        raise NoAnswer(
            f"no gateway answers on {config.broker_socket}: is it running?"
            " (tillgate run, or systemctl status tillgate.target)"
        ) from None
    except (BusError, PermissionError) as error:
        raise NoAnswer(f"cannot ask {config.broker_socket}: {error}") from None
    return Report(status, tuple(devices[name] for name in sorted(devices)))
