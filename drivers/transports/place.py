"""Where a device is: behind a path that stays, or the USB device of some identity, wherever it is plugged in now.

Strategy: thin. What is decided is decided in `usb_identity`; here sysfs and udev are only read, each time a device is
opened, on a thread: reading sysfs may wait for a device that is just going away. Nothing is opened or sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from drivers.transports.usb_identity import UsbDevice, UsbFound, UsbPresent, find

Described = tuple[str, dict[str, str], dict[str, str]]
"""A node's path, udev's properties of it, and the attributes of its USB interface."""


def check_place(path: str, usb: UsbDevice | None) -> None:
    """For options that have both: exactly one of them must be given, else ValueError."""
    if bool(path) == (usb is not None):
        raise ValueError('path: expected either path = "/dev/..." or usb = { vendor, product, serial or port }')


class Place:
    """Where a transport's device is: a path that stays, or a USB device wherever it is plugged in.

    A transport that has one calls it `place` and asks for the `node` at each opening. `subsystem` is the kernel's name
    for the kind of node: tty, input, hidraw, usbmisc (printers) or usb (the whole device). `path` may be a pattern
    where the transport chooses; neither path nor `usb`: the transport finds it by itself. The owner may fill in
    `others` and `last_port` (see `usb_identity.find`); `found` is what was found last, None where there is a path.
    `read` tells what is plugged in.
    """

    read: Callable[[UsbDevice, str], list[UsbPresent]]

    def __init__(self, path: str, usb: UsbDevice | None = None, subsystem: str = "") -> None:
        self.path = path
        self.usb = usb
        self.subsystem = subsystem
        self.others: frozenset[str] = frozenset()
        self.last_port: str | None = None
        self.found: UsbFound | None = None
        self.read = plugged_in

    def __str__(self) -> str:
        """As people read it in logs."""
        return self.path or str(self.usb)

    async def node(self) -> str:
        """The path to open now; raises DeviceLost (not plugged in) or WrongDevice (several would fit)."""
        if self.usb is None:
            return self.path
        present = await asyncio.to_thread(self.read, self.usb, self.subsystem)
        self.found = find(self.usb, present, last_port=self.last_port, others=self.others)
        return self.found.path


def place_of(transport: object) -> Place | None:
    """The place of a transport that has one; None for those reached over a network."""
    place = getattr(transport, "place", None)
    return place if isinstance(place, Place) else None


def plugged_in(wish: UsbDevice | None, subsystem: str) -> list[UsbPresent]:
    """Every USB device of the wished kind (None: any), with its nodes in `subsystem`. Blocks for some milliseconds."""
    import pyudev  # loads libudev: only for those who name a device by its identity

    context = pyudev.Context()
    present: list[UsbPresent] = []
    for device in context.list_devices(subsystem="usb", DEVTYPE="usb_device"):
        attributes = _texts(device, "idVendor", "idProduct", "serial", "manufacturer", "product")
        ids = attributes.get("idVendor"), attributes.get("idProduct")
        if None in ids or (wish is not None and ids != (wish.vendor, wish.product)):
            continue
        if subsystem == "usb":
            nodes: list[Described] = [(device.device_node, {}, {})] if device.device_node else []
        else:
            nodes = [
                (node.device_node, dict(node.properties), _interface(node))
                for node in context.list_devices(subsystem=subsystem, parent=device)
                if node.device_node and (subsystem != "input" or node.sys_name.startswith("event"))
            ]
        present.append(UsbPresent.described(device.sys_name, attributes, dict(device.properties), nodes))
    return present


def _interface(node: Any) -> dict[str, str]:
    parent = node.find_parent("usb", "usb_interface")
    return {} if parent is None else _texts(parent, "bInterfaceNumber")


def _texts(device: Any, *names: str) -> dict[str, str]:
    """Attributes as text; those that are not there, or went away with the device, are left out."""
    raw = {name: device.attributes.get(name) for name in names}
    return {name: value.decode("utf-8", "replace").strip() for name, value in raw.items() if value is not None}
