"""A USB cable into this machine's own kernel: a virtual HID device that appears as /dev/hidrawN, through /dev/uhid.

Source: Linux documentation, "UHID - User-space I/O driver support for HID subsystem", and `include/uapi/linux/uhid.h`.
"""

from __future__ import annotations

import asyncio
import os
import struct
from pathlib import Path

from drivers.virtual.report_wire import ReportWire
from tests.drivers.rig import until

UHID = Path("/dev/uhid")

_DESTROY, _OUTPUT, _CREATE, _INPUT, _SET_REPORT, _SET_REPORT_REPLY = 1, 6, 11, 12, 13, 14
_BUS_USB = 3
_FEATURE = 0
_DATA_BYTES = 4096


class UhidWire(ReportWire):
    """The other end of `address`, which is a /dev/hidrawN while it is plugged in."""

    def __init__(self) -> None:
        super().__init__(Path("/dev/hidraw"))
        self._fd = -1

    async def _make(self) -> None:
        before = set(Path("/dev").glob("hidraw*"))
        vendor, product = struct.unpack_from("<HH", self.introduction, 1)
        descriptor = self.introduction[5:]
        self._fd = os.open(UHID, os.O_RDWR | os.O_NONBLOCK)
        head = struct.pack("<I128s64s64s", _CREATE, b"virtual", b"", b"")
        ids = struct.pack("<HHIIII", len(descriptor), _BUS_USB, vendor, product, 0, 0)
        os.write(self._fd, head + ids + descriptor.ljust(_DATA_BYTES, b"\0"))
        asyncio.get_running_loop().add_reader(self._fd, self._told)
        await until(lambda: set(Path("/dev").glob("hidraw*")) > before)
        (node,) = set(Path("/dev").glob("hidraw*")) - before
        self.address = str(node)
        self._connected()

    async def _break(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.write(self._fd, struct.pack("<I", _DESTROY))
        os.close(self._fd)
        self._fd = -1

    def _told(self) -> None:
        event = os.read(self._fd, 8192)
        (kind,) = struct.unpack_from("<I", event)
        if kind == _OUTPUT:
            (size,) = struct.unpack_from("<H", event, 4 + _DATA_BYTES)
            self._received(b"O" + event[4 : 4 + size])
        elif kind == _SET_REPORT:
            request, _, report_type, size = struct.unpack_from("<IBBH", event, 4)
            if report_type == _FEATURE:
                self._received(b"F" + event[12 : 12 + size])
            os.write(self._fd, struct.pack("<IIH", _SET_REPORT_REPLY, request, 0))

    def _write(self, data: bytes) -> None:
        if self._fd >= 0:
            os.write(self._fd, struct.pack("<IH", _INPUT, len(data)) + data.ljust(_DATA_BYTES, b"\0"))
