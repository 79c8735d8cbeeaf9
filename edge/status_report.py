"""What `tillgate status` prints: the gateway's and the devices' own words, and what is promised per class.

Strategy: it asks the store's broker like anybody else; retained messages answer at once. Nothing is read behind the
gateway's back, so what it shows is what the tills see.
"""

from __future__ import annotations

import asyncio
import secrets
import textwrap
from dataclasses import dataclass
from typing import Any

from edge.bus import topics
from edge.bus.address import Address
from edge.bus.client import Client, Message
from edge.bus.errors import BusError
from edge.bus.messages.facts import FactClass
from edge.bus.messages.statuses import DeviceStatus, GatewayStatus
from edge.bus.wording import lasted, outage_lines
from edge.config import StoreConfig

WIDTH = 80
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
            and not self.gateway.warnings
            and not any(device.please for device in self.devices)
        )

    def as_json(self) -> dict[str, Any]:
        """One JSON object."""
        return {
            "gateway": self.gateway.model_dump(mode="json"),
            "devices": [device.model_dump(mode="json") for device in self.devices],
            "promises": {fact_class.value: promise(fact_class, self.gateway.confirm) for fact_class in FactClass},
        }

    def as_text(self, width: int = WIDTH) -> str:
        """For a terminal, 80 columns."""
        gateway = self.gateway
        out = [
            f"gateway    {gateway.state}, version {gateway.version or '?'}, clock {gateway.clock},"
            f" epoch {gateway.epoch[:13] or '?'}",
            f"link       {gateway.link} since {gateway.since}",
            *_wrapped("", gateway.link_detail, width),
            *_wrapped("to HQ", _to_hq(gateway), width),
            *_wrapped("proof", _certificates(gateway), width),
            f"prices     {gateway.price_version or 'none yet'}",
            *_wrapped("set by HQ", f"version {gateway.configuration}" if gateway.configuration else "", width),
            *_wrapped("missing", f"{gateway.lane_gaps} facts in lanes' sequences; {gateway.conflicts} in conflict;"
                      f" {gateway.quarantined} messages in quarantine", width),
            *_wrapped("disk", _disk(gateway), width),
            *_wrapped("switch off", _switch_off(gateway), width),
            *_wrapped("please", gateway.please, width),
            *(line for warning in gateway.warnings for line in _wrapped("warning", warning.text, width)),
            "",
            *_classes(gateway),
            "",
            "promised once accepted",
        ]  # fmt: skip
        for words, names in _promises(gateway.confirm).items():
            out += textwrap.wrap(f"{', '.join(names)}: {words}", width, initial_indent="  ", subsequent_indent="    ")
        if gateway.outages:
            out += ["", "outages, the newest first", *outage_lines(gateway.outages, width)]
        out += ["", "device           state      please"]
        for device in self.devices:
            line = f"{device.device:<16} {device.state:<10} {device.please or '-'}"
            out += textwrap.wrap(line, width, subsequent_indent=" " * 28, drop_whitespace=True)
        return "\n".join(out)


def _wrapped(title: str, text: str, width: int) -> list[str]:
    """`text` behind its title, in as many lines as it needs; none when there is nothing to say."""
    return textwrap.wrap(text, width, initial_indent=f"{title:<10} ", subsequent_indent=" " * 11)


def _to_hq(gateway: GatewayStatus) -> str:
    by = "confirmed by HQ's database" if gateway.confirm == "hq" else "taken for confirmed when the cloud broker has it"
    waiting = sum(entry.facts for entry in gateway.backlog.values())
    parts = [f"{waiting} facts wait" if waiting else "nothing waits"]
    if waiting and gateway.eta_s is not None:
        parts.append(f"there in about {lasted(gateway.eta_s)}")
    if gateway.budget_wait_s:
        parts.append(f"all but critical facts wait {lasted(gateway.budget_wait_s)} for the line's budget")
    if gateway.parked:
        parts.append(f"{gateway.parked} facts are parked and stay here; why: tillgate parked")
    return f"{', '.join(parts)}; {by}"


def _certificates(gateway: GatewayStatus) -> str:
    """Until when store and broker can prove themselves to each other; empty where there are no certificates."""
    shown = {"own": gateway.certificates.own_until, "broker's": gateway.certificates.broker_until}
    return ", ".join(f"{whose} certificate until {until[:10]}" for whose, until in shown.items() if until)


def _disk(gateway: GatewayStatus) -> str:
    free = "?" if gateway.disk_free_mb is None else f"{gateway.disk_free_mb} MB free"
    gone = {
        "evicted": sum(entry.evicted for entry in gateway.backlog.values()),
        "expired": sum(entry.expired for entry in gateway.backlog.values()),
    }
    lost = [f"{count} facts {why} before HQ had them" for why, count in gone.items() if count]
    return "; ".join([free, *lost])


def _switch_off(gateway: GatewayStatus) -> str:
    if gateway.safe_to_switch_off:
        who = "HQ" if gateway.confirm == "hq" else "the cloud broker"
        return f"yes: {who} has everything, and nothing is in hand"
    waiting = sum(entry.facts for entry in gateway.backlog.values())
    return f"no: {waiting} facts are nowhere but here" if waiting else "no: work is in hand"


def _classes(gateway: GatewayStatus) -> list[str]:
    head = ("class", "journal", "confirmed", "waiting", "oldest", "there in")
    rows = [head]
    for fact_class, entry in gateway.backlog.items():
        eta = lasted(entry.eta_s) if entry.eta_s is not None else "?" if entry.facts else "-"
        numbers = (str(entry.head), str(entry.confirmed), str(entry.facts), lasted(entry.oldest_s), eta)
        rows.append((fact_class.value, *numbers))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return [
        "  ".join(cell.rjust(size) if column else cell.ljust(size) for column, (cell, size) in enumerate(both))
        for both in (zip(row, widths, strict=True) for row in rows)
    ]


def _promises(confirm: str) -> dict[str, list[str]]:
    """What is promised -> the classes it is promised for."""
    out: dict[str, list[str]] = {}
    for fact_class in FactClass:
        out.setdefault(promise(fact_class, confirm), []).append(fact_class.value)
    return out


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
