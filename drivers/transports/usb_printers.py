"""Finding a receipt printer on the USB bus, and claiming it: through libusb (pyusb), on a thread.

Documents: Universal Serial Bus Device Class Definition for Printing Devices 1.1 (5.3: interface class 7, subclass 1;
protocol 1 one way, 2 both ways); Linux, drivers/usb/class/usblp.c (usblp_select_alts; Epson's M129C, 04b8:0202, calls
its interface vendor specific).

The device is never reset and its configuration never set again: either makes some printers drop what they hold. The
kernel's own driver (usblp) is detached and gets the interface back when the printer is plugged in anew.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from drivers.errors import DeviceLost, WrongDevice

_PRINTER_CLASS = 7
_VENDOR_CLASS = 255
_BOTH_WAYS = 2


@dataclass(frozen=True, slots=True)
class Claimed:
    """A printer that is ours: pyusb's device and its two endpoints; `receiving` is None where it cannot talk."""

    device: Any
    interface: int
    sending: Any
    receiving: Any

    def let_go(self) -> None:
        """Release the interface and close the device; no transfer may be on its way."""
        import usb.core
        import usb.util

        with contextlib.suppress(usb.core.USBError):
            usb.util.dispose_resources(self.device)


def claim(name: str, node: str, backend: Any) -> Claimed:
    """Claim the printer behind `node` (/dev/bus/usb/BBB/DDD; empty: the only one there is). Blocks for milliseconds.

    `backend` is pyusb's; None takes libusb-1.0. DeviceLost: none, in use, not allowed. WrongDevice: no printer.
    """
    import usb.core

    try:
        return _take(_at(name, node, backend) if node else _only(name, backend))
    except usb.core.NoBackendError:
        raise DeviceLost(f"{name}: libusb-1.0 is not installed; install the package libusb-1.0-0") from None
    except usb.core.USBError as error:
        raise explain(name, error) from error


def _at(name: str, node: str, backend: Any) -> Any:
    """The device behind /dev/bus/usb/BBB/DDD."""
    import usb.core

    bus, address = (int(number) for number in node.split("/")[-2:])
    device = usb.core.find(bus=bus, address=address, backend=backend)
    if device is None:
        raise DeviceLost(f"{name} has just gone; plug it in again")
    if next(_interfaces(device, vendor_class=True), None) is None:
        raise WrongDevice(f"{name} has no interface that takes print data; correct vendor and product")
    return device


def _only(name: str, backend: Any) -> Any:
    """The one printer that is plugged in. Nothing is opened to find it."""
    import usb.core

    found = [
        device
        for device in usb.core.find(find_all=True, backend=backend)
        if next(_interfaces(device, vendor_class=False), None) is not None
    ]
    if not found:
        raise DeviceLost(f"{name} is not there; plug it in, or switch it on")
    if len(found) > 1:
        listed = ", ".join(f"{one.idVendor:04x}:{one.idProduct:04x} in port {_port(one)}" for one in found)
        raise DeviceLost(
            f"there are several printers on USB ({listed}); write usb = {{ vendor, product, serial or port }}"
        )
    return found[0]


def _take(device: Any) -> Claimed:
    import usb.core
    import usb.util

    interface = next(_interfaces(device, vendor_class=True))
    number = interface.bInterfaceNumber
    try:
        with contextlib.suppress(NotImplementedError):  # a system without kernel drivers to detach
            if device.is_kernel_driver_active(number):
                device.detach_kernel_driver(number)
        try:
            device.get_active_configuration()
        except usb.core.USBError as error:
            if error.errno is not None:
                raise
            device.set_configuration()  # fresh from the bus, and nobody has configured it
        usb.util.claim_interface(device, number)
        if interface.bAlternateSetting:
            interface.set_altsetting()
    except BaseException:
        usb.util.dispose_resources(device)
        raise
    return Claimed(device, number, _endpoint(interface, out=True), _endpoint(interface, out=False))


def _interfaces(device: Any, *, vendor_class: bool) -> Iterator[Any]:
    """Interfaces that take print data, the best first; some older Epson printers call theirs vendor specific."""
    found = [one for one in device[0] if _endpoint(one, out=True) is not None]
    printers = [one for one in found if one.bInterfaceClass == _PRINTER_CLASS]
    if vendor_class and not printers:
        printers = [one for one in found if one.bInterfaceClass == _VENDOR_CLASS]
    # Protocols above 2 wrap the data (IEEE 1284.4, IPP over USB).
    plain = [one for one in printers if one.bInterfaceProtocol <= _BOTH_WAYS or one.bInterfaceClass == _VENDOR_CLASS]
    yield from sorted(plain, key=lambda one: _endpoint(one, out=False) is None)


def _endpoint(interface: Any, *, out: bool) -> Any:
    for endpoint in interface:
        bulk = endpoint.bmAttributes & 0x03 == 0x02
        if bulk and bool(endpoint.bEndpointAddress & 0x80) is not out:
            return endpoint
    return None


def _port(device: Any) -> str:
    return f"{device.bus}-{'.'.join(str(number) for number in device.port_numbers or ())}"


def explain(name: str, error: OSError) -> DeviceLost:
    """What an error of a transfer means, for a person."""
    if error.errno == errno.EACCES:
        return DeviceLost(f"{name} may not be opened; install the udev rules or add this user to the group lp")
    if error.errno == errno.EBUSY:
        return DeviceLost(f"{name} is in use by another program; stop that one (CUPS?)")
    return DeviceLost(f"{name} was unplugged or switched off ({error.strerror}); check cable and power")
