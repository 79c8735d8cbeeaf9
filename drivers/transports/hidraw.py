"""HID devices through hidraw: the kernel hands over whole reports, whichever driver else knows the device or none.

Source: Linux documentation, "HIDRAW - Raw Access to USB and Bluetooth Human Interface Devices", and
`include/uapi/linux/hidraw.h` for the numbers of the requests.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from dataclasses import dataclass

from drivers.errors import DeviceLost, WrongDevice
from drivers.hid import DESCRIPTOR_LIMIT_BYTES, BadDescriptor, HidDevice, parse
from drivers.transports.base import Lost, Receive
from drivers.transports.place import Place, check_place
from drivers.transports.reports import ReportTransport
from drivers.transports.usb_identity import UsbDevice

_WRITE, _READ = 1, 2
_SIZE = struct.Struct("=i")
_DESCRIPTOR = struct.Struct(f"=I{DESCRIPTOR_LIMIT_BYTES}s")
_INFO = struct.Struct("=IHH")  # bus, vendor, product


def _request(direction: int, number: int, size: int) -> int:
    """An ioctl request of the group 'H', as <asm-generic/ioctl.h> packs it (ARM, x86, RISC-V)."""
    return direction << 30 | size << 16 | ord("H") << 8 | number


HIDIOCGRDESCSIZE = _request(_READ, 0x01, _SIZE.size)
HIDIOCGRDESC = _request(_READ, 0x02, _DESCRIPTOR.size)
HIDIOCGRAWINFO = _request(_READ, 0x03, _INFO.size)


def set_feature_request(size: int) -> int:
    """HIDIOCSFEATURE for a report of `size` bytes, its id included."""
    return _request(_READ | _WRITE, 0x06, size)


@dataclass(frozen=True, slots=True)
class HidrawOptions:
    """`path` is a link that udev keeps stable, or /dev/hidrawN; or `usb` names the device."""

    path: str = ""
    usb: UsbDevice | None = None

    def __post_init__(self) -> None:
        """One way of naming it, not two."""
        check_place(self.path, self.usb)


class HidrawTransport(ReportTransport):
    """One HID device, whole reports at a time."""

    def __init__(self, options: HidrawOptions) -> None:
        self.place = Place(options.path, options.usb, "hidraw")
        super().__init__(str(self.place))
        self.options = options

    async def open(self, receive: Receive, lost: Lost) -> None:
        """Open and read the report descriptor; raises DeviceLost (absent, not allowed) or WrongDevice (no HID)."""
        path = await self.place.node()
        try:
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise _explain(path, error) from error
        try:
            device = _asked(fd)
        except OSError as error:
            os.close(fd)
            raise _explain(path, error) from error
        except BadDescriptor as error:
            os.close(fd)
            raise WrongDevice(f"{self.name} has a report descriptor that makes no sense: {error}") from error
        self._begin(fd, device, receive, lost)

    def _send_output(self, fd: int, report: bytes) -> None:
        os.write(fd, report)

    def _send_feature(self, fd: int, report: bytes) -> None:
        fcntl.ioctl(fd, set_feature_request(len(report)), bytearray(report), True)


def _asked(fd: int) -> HidDevice:
    """What the kernel knows of the device; raises OSError, BadDescriptor."""
    size = bytearray(_SIZE.size)
    fcntl.ioctl(fd, HIDIOCGRDESCSIZE, size, True)
    (length,) = _SIZE.unpack(size)
    descriptor = bytearray(_DESCRIPTOR.pack(length, b""))
    fcntl.ioctl(fd, HIDIOCGRDESC, descriptor, True)
    info = bytearray(_INFO.size)
    fcntl.ioctl(fd, HIDIOCGRAWINFO, info, True)
    _, vendor, product = _INFO.unpack(info)
    return HidDevice(vendor, product, parse(bytes(descriptor[4 : 4 + length])))


def _explain(path: str, error: OSError) -> DeviceLost | WrongDevice:
    if not os.path.exists(path):
        return DeviceLost(f"{path} is not there; plug the device in or correct its path")
    if error.errno in (errno.EACCES, errno.EPERM):
        return DeviceLost(f"{path} may not be opened; let a udev rule give this user's group the device")
    if error.errno in (errno.ENODEV, errno.ENXIO, errno.EIO, errno.EPIPE):
        return DeviceLost(f"{path} went away while it was opened; check its cable")
    return WrongDevice(f"{path} is no hidraw device ({error.strerror}); choose a /dev/hidraw node or a link to one")
