"""Keyboard scanners through evdev: the node is grabbed, so that no key of a scan reaches the console.

Raw `input_event` records are read from the descriptor and handed over as bytes; the protocol decodes them,
lost-event markers included. python-evdev opens and grabs; its own reader is not used, because it hides those
markers.

A scanner that types while it is opened has begun before anybody listened: what comes is the tail of a code. So the line
is watched for a moment first, and if a key is held or struck, the parser is told that events were lost.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import struct
from dataclasses import dataclass
from typing import Any

from drivers.errors import DeviceLost, WrongDevice
from drivers.transports.base import Lost, Receive
from drivers.transports.descriptor import DescriptorTransport
from drivers.transports.place import Place, check_place
from drivers.transports.usb_identity import UsbDevice

QUIET_S = 0.1
"""Longer than any scanner pauses between two keys of one code."""

_EVENTS_LOST = struct.pack("llHHi", 0, 0, 0, 3, 0) + struct.pack("llHHi", 0, 0, 0, 0, 0)  # SYN_DROPPED, SYN_REPORT


@dataclass(frozen=True, slots=True)
class EvdevOptions:
    """`path` is a stable link such as /dev/input/by-id/...-event-kbd; or `usb` names the device."""

    path: str = ""
    grab: bool = True
    usb: UsbDevice | None = None

    def __post_init__(self) -> None:
        """One way of naming it, not two."""
        check_place(self.path, self.usb)


class EvdevTransport(DescriptorTransport):
    """One input device, grabbed for this process alone unless `grab` is off."""

    def __init__(self, options: EvdevOptions) -> None:
        self.place = Place(options.path, options.usb, "input")
        super().__init__(str(self.place))
        self.options = options
        self._device: Any = None

    async def open(self, receive: Receive, lost: Lost) -> None:
        """Open and grab; raises DeviceLost (absent, grabbed by another) or WrongDevice (it has no keys)."""
        import evdev  # a C extension and its long tables: only for those who have such a scanner

        path = await self.place.node()
        try:
            device = evdev.InputDevice(path)
        except OSError as error:
            raise _explain(path, error) from error
        if evdev.ecodes.EV_KEY not in device.capabilities():
            device.close()
            raise WrongDevice(f"{path} has no keys; choose the node whose name ends in -event-kbd")
        try:
            if self.options.grab:
                device.grab()
        except OSError as error:
            device.close()
            raise _explain(path, error) from error
        try:
            await asyncio.sleep(QUIET_S)
            begun = device.active_keys() or select.select([device.fileno()], [], [], 0)[0]
        except BaseException as error:
            device.close()
            if isinstance(error, OSError):
                raise _explain(path, error) from error
            raise
        self._device = device
        self._start(device.fileno(), receive, lost)
        if begun:
            receive(_EVENTS_LOST)

    def _close_descriptor(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            device.close()


def _explain(path: str, error: OSError) -> DeviceLost | WrongDevice:
    if not os.path.exists(path):
        return DeviceLost(f"{path} is not there; plug the scanner in or correct its path")
    if error.errno in (errno.EACCES, errno.EPERM):
        return DeviceLost(f"{path} may not be opened; add this user to the group that owns it (input)")
    if error.errno == errno.EBUSY:
        return DeviceLost(f"{path} is grabbed by another process; stop that one")
    if error.errno in (errno.ENODEV, errno.ENXIO, errno.EIO):
        return DeviceLost(f"{path} went away while it was opened; check its cable")
    return WrongDevice(f"{path} is not an input device ({error.strerror}); correct its path")
