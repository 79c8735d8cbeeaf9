"""What is wrong with the devices of a configuration although every key by itself is right: asked of the catalogue of
drivers, and of the devices together. Each complaint is the place in the file and what would be right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drivers.catalog import DeviceKind
    from edge.config import Device

Place = tuple[str | int, ...]


def wrong_devices(devices: Sequence[Device], lanes: Sequence[str]) -> list[tuple[Place, str]]:
    """Everything that is wrong with `devices` in a store with these `lanes`."""
    wrong: list[tuple[Place, str]] = []
    for index, device in enumerate(devices):
        if device.id in [other.id for other in devices[:index]]:
            wrong.append((("devices", index, "id"), f"there is a device {device.id!r} already; give it its own id"))
        for lane_id in device.lanes:
            if lane_id not in lanes:
                wrong.append((("devices", index, "lanes"), f"there is no lane {lane_id!r}; lanes: {', '.join(lanes)}"))
        wrong += [(("devices", index, *place), what) for place, what in _driver(device)] + _behind(devices, index)
        wrong += [(("devices", index, "failover"), what) for what in _failover(devices, device)]
    return wrong + _same_usb(devices)


def _driver(device: Device) -> list[tuple[Place, str]]:
    """What the catalogue of drivers says of this device's protocol, options and transport."""
    from drivers import catalog
    from drivers.errors import BadOption

    kind = catalog.DEVICES.get(device.protocol)
    if kind is None:
        return [(("protocol",), f"there is no protocol {device.protocol!r}; known: {', '.join(catalog.DEVICES)}")]
    wrong: list[tuple[Place, str]] = []
    try:
        catalog.read_device(device.protocol, device.options)
    except BadOption as error:
        wrong.append((("options", error.key), error.expected))
    choices = ", ".join(kind.transports)
    if not kind.transports:
        if device.transport is not None:
            wrong.append((("transport",), f"a {device.protocol} has no link of its own; leave transport out"))
    elif device.transport is None:
        wrong.append((("transport",), f"is missing; write transport = {{ kind = ... }} with one of {choices}"))
    else:
        settings = dict(device.transport)
        name = settings.pop("kind", None)
        if name not in kind.transports:
            wrong.append((("transport", "kind"), f"is {name!r}; a {device.protocol} takes one of {choices}"))
        else:
            try:
                catalog.read_transport(device.protocol, name, settings)
            except BadOption as error:
                wrong.append((("transport", error.key), error.expected))
    return wrong


def _behind(devices: Sequence[Device], index: int) -> list[tuple[Place, str]]:
    """A device without a link of its own is reached through another: that one must be there, and of a kind that can."""
    from drivers import catalog

    device = devices[index]
    kind = catalog.DEVICES.get(device.protocol)
    carrier = device.options.get(kind.through) if kind is not None and kind.through is not None else None
    if kind is None or kind.through is None or carrier is None:
        return []  # it has its own link, or `_driver` has complained already
    able = [other.id for other in devices if other.protocol in catalog.carriers(device.protocol)]
    if carrier in able:
        return _clashing(devices, index, kind, carrier)
    what = f"there is no {kind.through} {carrier!r} that could carry it; devices that can: {', '.join(able) or 'none'}"
    return [(("devices", index, "options", kind.through), what)]


def _clashing(devices: Sequence[Device], index: int, kind: DeviceKind, carrier: str) -> list[tuple[Place, str]]:
    """Two of one kind that cannot share what carries them: two drawers on one pin."""
    from drivers import catalog
    from drivers.errors import BadOption

    device = devices[index]
    wrong: list[tuple[Place, str]] = []
    for other in devices[:index]:
        if other.protocol != device.protocol or kind.clash is None or other.options.get(str(kind.through)) != carrier:
            continue
        try:
            one, another = (catalog.read_device(row.protocol, row.options) for row in (device, other))
        except BadOption:
            continue  # `_driver` has complained already
        if (found := kind.clash(one, another)) is not None:
            wrong.append((("devices", index, "options", found[0]), f"{found[1]} ({other.id})"))
    return wrong


def _failover(devices: Sequence[Device], device: Device) -> list[str]:
    """What keeps one printer from standing in for another: a job is made for one model, and belongs to a lane."""
    from drivers import catalog

    if device.failover is None:
        return []
    kind = catalog.DEVICES.get(device.protocol)
    if kind is None or kind.category != "printer" or kind.build is None:
        return ["only a printer can have another one that stands in for it; leave it out"]
    other = next((one for one in devices if one.id == device.failover and one.id != device.id), None)
    if other is None or other.protocol != device.protocol:
        return [f"there is no other {device.protocol} {device.failover!r} in this store"]
    wrong = []
    if other.options != device.options:
        wrong.append(f"{other.id} has other options; receipts are made for one model, so both must be alike")
    missing = [lane for lane in device.lanes if lane not in other.lanes]
    if missing:
        wrong.append(f"{other.id} does not serve lanes {', '.join(missing)}; add them to its lanes")
    return wrong


def _same_usb(devices: Sequence[Device]) -> list[tuple[Place, str]]:
    """Two devices that one and the same USB device could be taken for."""
    from drivers.errors import BadOption
    from drivers.options import read_options
    from drivers.transports.usb_identity import UsbDevice

    wrong: list[tuple[Place, str]] = []
    on_usb = [index for index, device in enumerate(devices) if (device.transport or {}).get("kind") == "usb"]
    for index in on_usb if len(on_usb) > 1 else ():
        if "usb" not in (devices[index].transport or {}):
            what = "there are several printers on USB: name each with usb = { vendor, product, serial or port }"
            wrong.append((("devices", index, "transport"), what))
    wishes: list[tuple[str, UsbDevice]] = []
    for index, device in enumerate(devices):
        try:
            wish = read_options(UsbDevice, (device.transport or {}).get("usb") or {})
        except BadOption:
            continue  # none, or `_driver` has complained already
        for other, taken in wishes:
            if wish.is_like(taken):
                what = f"one device could be taken for this and for {other!r}; tell them apart by serial or port"
                wrong.append((("devices", index, "transport", "usb"), what))
        wishes.append((device.id, wish))
    return wrong
