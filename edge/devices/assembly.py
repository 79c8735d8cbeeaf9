"""From the rows of the configuration to devices that can be run: built from the catalogue, joined, told apart.

Nothing is opened here. A configuration that cannot work has been refused before (`edge/config.py`); what is raised here
is for those who build devices without one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from drivers import catalog
from drivers.errors import BadOption
from drivers.events import Event
from drivers.transports.place import Place, place_of
from edge.config import Device as DeviceConfig
from edge.devices.attached import Attached


def assembled(
    rows: Sequence[DeviceConfig], heard: Callable[[Attached, Event], None], opened: Callable[[Attached], None]
) -> dict[str, Attached]:
    """Every configured device by its id. `heard` gets what it says, `opened` is called when its link is up.

    Raises BadOption for options that no driver takes, and for a device whose carrier is not there.
    """
    devices = {row.id: _built(row, heard, opened) for row in rows}
    kinds = {row.id: row.protocol for row in rows}
    for row in rows:
        device, through = devices[row.id], catalog.DEVICES[row.protocol].through
        if through is not None:
            carrier = getattr(device.options, through)
            if kinds.get(carrier) not in catalog.carriers(row.protocol):
                raise BadOption(
                    through, f"is {carrier!r}; expected the id of a {through} of this store that can carry it"
                )
            device.through = devices[carrier]
    placed = usb_places(devices.values())
    for device_id, place in placed.items():
        numbers = (other.usb.serial for name, other in placed.items() if name != device_id and other.usb)
        place.others = frozenset(number for number in numbers if number is not None)
    return devices


def _built(row: DeviceConfig, heard: Callable[[Attached, Event], None], opened: Callable[[Attached], None]) -> Attached:
    kind = catalog.DEVICES[row.protocol]
    options = catalog.read_device(row.protocol, row.options)
    device = Attached(row.id, kind.category, row.lanes, options)
    device.failover, device.failover_after_s = row.failover, row.failover_after_s
    if kind.through is None:
        line = dict(row.transport or {})
        transport = catalog.build_transport(catalog.read_transport(row.protocol, line.pop("kind"), line))
        transport.name = f"{row.id} at {transport.name}"  # what people call it, before where it hangs
        device.driver = catalog.build_driver(
            row.protocol, device.options, transport, partial(heard, device), partial(opened, device)
        )
    return device


def usb_place(device: Attached) -> Place | None:
    """The place of a device that is found by its identity; None for any other."""
    place = place_of(device.driver.transport) if device.driver is not None else None
    return place if place is not None and place.usb is not None else None


def usb_places(devices: Iterable[Attached]) -> dict[str, Place]:
    """The places of those that are found by their identity, by device id."""
    return {device.id: place for device in devices if (place := usb_place(device)) is not None}
