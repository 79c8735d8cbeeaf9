"""Which of the USB devices that are plugged in is the configured one: a list and a wish in, a node or a reason out.

Strategy: pure. What a device says of itself goes before where it is plugged in.

    serial number   the one that calls itself so, in whatever port; the port only tells two of one number apart
    no such number  the one of the same kind (vendor:product) in the same port takes its place: a broken device was
                    swapped. Not one whose number another device of the configuration has
    no number       the only one of its kind, or the one in the configured port

Two that fit equally are never chosen between: WrongDevice says what would tell them apart. A port is the kernel's name
of the place ("1-1.2": bus 1, hub port 1, port 2) or, where buses are numbered anew at each start, udev's ID_PATH of it
("pci-0000:00:14.0-usb-0:1.2").

Source: Documentation/ABI/stable/sysfs-bus-usb of the kernel (names, idVendor, idProduct, serial, bInterfaceNumber);
udev(7) and udev's builtins usb_id, path_id and input_id (ID_PATH, ID_INPUT_KEYBOARD).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from drivers.errors import DeviceLost, WrongDevice

_FOUR_HEX = re.compile(r"[0-9a-f]{4}\Z")


@dataclass(frozen=True, slots=True)
class UsbDevice:
    """How a configuration names a USB device: ``usb = { vendor = "0c2e", product = "0b61", serial = "18103B0AD5" }``.

    `vendor` and `product` as ``lsusb`` prints them. `serial` where the device has one, else `port`; with both, the port
    is where a replacement is looked for. `interface` (from 0) where one device shows several nodes of a kind.
    """

    vendor: str
    product: str
    serial: str | None = None
    port: str | None = None
    interface: int | None = None

    def __post_init__(self) -> None:
        """Refuse ids that no device can have."""
        for key in ("vendor", "product"):
            if not _FOUR_HEX.match(getattr(self, key)):
                raise ValueError(f"{key}: is {getattr(self, key)!r}; expected four hex digits as lsusb prints them")

    def __str__(self) -> str:
        """For people: ``USB 0c2e:0b61 serial 18103B0AD5``."""
        which = f" serial {self.serial}" if self.serial else f" port {self.port}" if self.port else ""
        return f"USB {self.vendor}:{self.product}{which}"

    def is_like(self, other: UsbDevice) -> bool:
        """Whether one plugged-in device could be taken for both, so that a configuration with both cannot work."""
        if (self.vendor, self.product) != (other.vendor, other.product):
            return False
        if None not in (self.interface, other.interface) and self.interface != other.interface:
            return False
        if self.serial is not None and other.serial is not None:
            return self.serial == other.serial and self.port == other.port
        if self.serial is None and other.serial is None:
            return self.port is None or other.port is None or self.port == other.port
        return (self.port if self.serial is None else other.port) is None


@dataclass(frozen=True, slots=True)
class UsbNode:
    """One device node: `path` in /dev, the `interface` it belongs to, whether udev takes it for a keyboard."""

    path: str
    interface: int | None = None
    keyboard: bool = False


@dataclass(frozen=True, slots=True)
class UsbPresent:
    """One USB device that is plugged in, with its nodes of the kind that is looked for."""

    vendor: str
    product: str
    serial: str | None
    port: str
    id_path: str | None = None
    nodes: tuple[UsbNode, ...] = ()
    name: str = ""
    """Maker and product in the device's own words."""
    prints: bool = False
    """Whether one of its interfaces is a printer's."""

    @classmethod
    def described(
        cls,
        name: str,
        attributes: Mapping[str, str],
        properties: Mapping[str, str],
        nodes: Iterable[tuple[str, Mapping[str, str], Mapping[str, str]]],
    ) -> UsbPresent:
        """From what sysfs and udev say of a `usb_device` and of each of its nodes: path, properties, interface."""
        return cls(
            vendor=attributes["idVendor"].strip().lower(),
            product=attributes["idProduct"].strip().lower(),
            serial=attributes.get("serial", "").strip() or None,
            port=name,
            id_path=properties.get("ID_PATH"),
            name=" ".join(attributes[key] for key in ("manufacturer", "product") if attributes.get(key)),
            prints=":0701" in properties.get("ID_USB_INTERFACES", ""),
            nodes=tuple(
                UsbNode(
                    path,
                    int(interface["bInterfaceNumber"], 16) if "bInterfaceNumber" in interface else None,
                    told.get("ID_INPUT_KEYBOARD") == "1",
                )
                for path, told, interface in sorted(nodes, key=lambda row: row[0])
            ),
        )

    def is_in(self, port: str) -> bool:
        """Whether it is plugged in there."""
        return port in (self.port, self.id_path)

    def __str__(self) -> str:
        """For people: ``serial 18103B0AD5 in port 1-1.2``."""
        return f"{f'serial {self.serial}' if self.serial else 'one without a serial number'} in port {self.port}"


@dataclass(frozen=True, slots=True)
class UsbFound:
    """The node to open, and what stands behind it. `in_place_of`: the serial number of the device that it replaces."""

    path: str
    port: str
    serial: str | None
    in_place_of: str | None = None


def wishes(one: UsbPresent, present: Sequence[UsbPresent]) -> list[tuple[UsbDevice, UsbNode]]:
    """How a configuration names each node of `one`, among all that is `present`: always so that `find` finds it."""
    alike = [
        other
        for other in present
        if (other.vendor, other.product, other.serial) == (one.vendor, one.product, one.serial)
    ]
    serial = one.serial if len(alike) == 1 else None
    nodes = [node for node in one.nodes if node.keyboard] or list(one.nodes)
    port = None if serial is not None else one.port
    return [
        (UsbDevice(one.vendor, one.product, serial, port, node.interface if len(nodes) > 1 else None), node)
        for node in nodes
    ]


def find(
    wish: UsbDevice, present: Sequence[UsbPresent], *, last_port: str | None = None, others: Iterable[str] = ()
) -> UsbFound:
    """The one of `present` that `wish` means.

    `last_port` is where it was last; `others` are the serial numbers of the other devices
    of the configuration. DeviceLost: it is not there. WrongDevice: several would fit.
    """
    alike = [one for one in present if (one.vendor, one.product) == (wish.vendor, wish.product)]
    free = [one for one in alike if one.serial is None or one.serial not in set(others)]
    if wish.serial is None:
        return _node(wish, _unnamed(wish, alike, free))
    named = [one for one in alike if one.serial == wish.serial]
    if len(named) > 1:
        named = [one for one in named if wish.port is not None and one.is_in(wish.port)] or named
    if len(named) > 1:
        raise WrongDevice(f'{wish}: several have this number ({_listed(named)}); write port = "..." beside it')
    if named:
        return _node(wish, named[0])
    port = last_port or wish.port
    for place in (last_port, wish.port):
        swapped = [one for one in free if place is not None and one.is_in(place)]
        if swapped:
            return _node(wish, swapped[0], in_place_of=wish.serial)
    if free:
        where = f"plug it into port {port}, or correct the serial number" if port else "correct the serial number"
        raise DeviceLost(f"{wish} is not there, but {_listed(free)}; {where}")
    raise DeviceLost(f"{wish} is not there; plug it in")


def _unnamed(wish: UsbDevice, alike: list[UsbPresent], free: list[UsbPresent]) -> UsbPresent:
    if wish.port is not None:
        free, alike = [one for one in alike if one.is_in(wish.port)], free
    if len(free) == 1:
        return free[0]
    if free:
        raise WrongDevice(f"{wish}: there are several ({_listed(free)}); write which: serial or port")
    if wish.port is not None and alike:
        raise DeviceLost(f"{wish} is not there, but {_listed(alike)}; plug it into its port, or correct the port")
    raise DeviceLost(f"{wish} is not there; plug it in")


def _node(wish: UsbDevice, chosen: UsbPresent, in_place_of: str | None = None) -> UsbFound:
    nodes = [node for node in chosen.nodes if wish.interface in (None, node.interface)]
    nodes = [node for node in nodes if node.keyboard] or nodes
    if not nodes:
        which = "" if wish.interface is None else f" with interface {wish.interface}"
        raise DeviceLost(f"{wish} is plugged in, but not as this kind of device{which}; set it to the right mode")
    if len(nodes) > 1:
        shown = ", ".join(f"{node.path} is interface {node.interface}" for node in nodes)
        raise WrongDevice(f"{wish} has several nodes ({shown}); write interface = N, or a path instead of usb")
    return UsbFound(nodes[0].path, chosen.port, chosen.serial, in_place_of)


def _listed(devices: Iterable[UsbPresent]) -> str:
    return "; ".join(str(one) for one in devices)
