"""`tillgate devices list --plugged`: what hangs on the USB ports of this machine, as lines for store.toml."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from drivers.errors import DriverError
from drivers.transports.place import plugged_in
from drivers.transports.usb_identity import UsbDevice, UsbNode, UsbPresent, find, wishes
from edge.config import BadConfig, StoreConfig, load

Read = Callable[[UsbDevice | None, str], list[UsbPresent]]

_WAYS = (
    ("usb", "usb", "printer"),
    ("tty", "serial", "serial line"),
    ("input", "evdev", "keyboard, or a scanner that types"),
    ("hidraw", "hidraw", "HID POS scanner or HID scale"),
)
"""The kernel's name for a kind of node, the transport that opens it, and what may be behind it."""


def list_plugged(file: Path) -> int:
    """Print a ready-made ``transport`` for every USB device that could be one of a store; returns the exit status.

    The configuration in `file` need not be right, or be there: whoever writes it asks.
    """
    try:
        config = load(file)
    except BadConfig:
        config = None
    found = lines(config, plugged_in)
    print("\n".join(found) if found else "no scanner, scale, printer or serial adapter is plugged into a USB port here")
    return 0


def lines(config: StoreConfig | None, read: Read) -> list[str]:
    """Two lines for each: what it calls itself and where, and what to write, with the id of the device that it is."""
    out: list[str] = []
    typing: set[str] = set()
    for subsystem, kind, what in _WAYS:
        present = read(None, subsystem)
        for one in present:
            if (kind == "usb" and not one.prints) or (kind == "hidraw" and one.port in typing):
                continue
            for wish, node in wishes(one, present):
                if kind == "evdev" and not node.keyboard:
                    continue
                typing |= {one.port} if kind == "evdev" else set()
                taken = _taken(config, kind, present, one, node)
                out.append(
                    f"{what}: {one.name or f'{one.vendor}:{one.product}'}, {one}{f'  ({taken})' if taken else ''}"
                )
                out.append(f"    transport = {{ kind = {json.dumps(kind)}, usb = {_table(wish)} }}")
    return out


def _table(wish: UsbDevice) -> str:
    told = {key: value for key, value in asdict(wish).items() if value is not None}
    return "{ " + ", ".join(f"{key} = {json.dumps(value)}" for key, value in told.items()) + " }"


def _taken(config: StoreConfig | None, kind: str, present: Sequence[UsbPresent], one: UsbPresent, node: UsbNode) -> str:
    """The id of the configured device that this node is; empty when it is none."""
    for device in config.devices if config else ():
        link = device.transport or {}
        if link.get("kind") != kind:
            continue
        if "usb" not in link and (kind == "usb" or os.path.realpath(link.get("path", "")) == node.path):
            return device.id  # by its path, or as the only printer on USB
        if "usb" in link:
            try:
                found = find(UsbDevice(**link["usb"]), present)
            except DriverError:
                continue
            if (found.port, found.path) == (one.port, node.path):
                return device.id
    return ""
