"""What `tillgate devices list` and `show` print: the configuration, and how the gateway says that each device is."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from drivers import catalog
from drivers.transports.usb_identity import UsbDevice
from edge import status_report
from edge.bus.messages.statuses import DeviceStatus
from edge.config import Device, StoreConfig
from edge.startup import complain


def where(device: Device) -> str:
    """Where a device hangs, as people say it."""
    link = dict(device.transport or {})
    kind = link.pop("kind", None)
    if kind is None:
        through = catalog.DEVICES[device.protocol].through
        return f"on {device.options[through]}" if through is not None else "-"
    if kind == "tcp":
        return f"{link.get('host')}:{link.get('port', '')}".rstrip(":")
    if isinstance(link.get("usb"), dict):
        return str(UsbDevice(**link["usb"]))
    return str(link.get("path") or " ".join(f"{key}={value}" for key, value in link.items()))


async def _statuses(config: StoreConfig) -> dict[str, DeviceStatus]:
    return {device.device: device for device in (await status_report.ask(config)).devices}


async def list_all(config: StoreConfig, as_json: bool) -> int:
    """Print a line for every device; returns the exit status."""
    try:
        known, silent = await _statuses(config), ""
    except status_report.NoAnswer as error:
        known, silent = {}, str(error)
    rows = []
    for device in config.devices:
        status = known.get(device.id)
        rows.append(
            {
                "device": device.id,
                "protocol": device.protocol,
                "where": where(device),
                "lanes": list(status.lanes if status else device.lanes),
                "lease": status.lease.lane if status and status.lease else None,
                "state": status.state if status else "unknown",
                "please": status.please if status else "",
            }
        )
    if as_json:
        print(json.dumps({"devices": rows, "gateway": silent or "answers"}, indent=1, ensure_ascii=False))
    else:
        heads = ("device", "protocol", "state", "lanes", "where")
        lines = [tuple(_lanes(row) if h == "lanes" else str(row[h]) for h in heads) for row in rows]
        widths = [max(len(line[i]) for line in [heads, *lines]) for i in range(len(heads))]
        for line, please in zip([heads, *lines], ["please", *(row["please"] for row in rows)], strict=True):
            cells = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            print(f"{cells}  {please}".rstrip())
    if silent:
        return complain(silent)
    return 1 if any(row["please"] for row in rows) else 0


def _lanes(row: dict[str, Any]) -> str:
    """Whose a device is, and which lane has it for itself just now."""
    leased = f" (leased: {row['lease']})" if row["lease"] else ""
    return ",".join(row["lanes"]) + leased


async def show(config: StoreConfig, device: Device, as_json: bool) -> int:
    """Print everything known of `device`; returns the exit status."""
    link = dict(device.transport or {})
    kind = link.pop("kind", None)
    table: dict[str, Any] = {
        "device": device.id,
        "category": catalog.DEVICES[device.protocol].category,
        "protocol": device.protocol,
        "where": where(device),
        "transport": {"kind": kind, **asdict(catalog.read_transport(device.protocol, kind, link))} if kind else None,
        "options": asdict(catalog.read_device(device.protocol, device.options)),
        "lanes": list(device.lanes),
    }
    silent = ""
    try:
        status = (await _statuses(config)).get(device.id)
        table["status"] = status.model_dump(mode="json") if status else None
    except status_report.NoAnswer as error:
        silent, table["status"] = str(error), None
    if as_json:
        print(json.dumps(table, indent=1, ensure_ascii=False))
    else:
        _print_table(table)
    return complain(silent) if silent else 0


def _print_table(table: dict[str, Any], indent: str = "") -> None:
    for key, value in table.items():
        if isinstance(value, dict):
            print(f"{indent}{key}")
            _print_table(value, indent + "  ")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            print(f"{indent}{key:<{18 - len(indent)}}{'-' if shown in (None, '') else shown}")
