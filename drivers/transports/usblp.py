"""Receipt printers on USB through the kernel's own driver: /dev/usb/lpN.

Source: Linux, drivers/usb/class/usblp.c and include/uapi/linux/lp.h. What it means for a program that must not block:

- Nothing to read is EAGAIN; a read of 0 bytes is a printer that answered with an empty packet, not an end.
- A write takes at most 8192 bytes and returns before they have left; the descriptor becomes writable when they have.
  Only then has a drain ended: closing earlier kills the transfer. An error of a transfer that was accepted is told to
  nobody, so only the printer's own proof is proof.
- Unplugged: ENODEV. A second opening: EBUSY.
- A printer that talks in one direction only cannot be read (EINVAL) and is never readable.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import glob
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from drivers.errors import DeviceLost
from drivers.transports.base import Lost, Receive
from drivers.transports.descriptor import DescriptorTransport
from drivers.transports.place import Place, check_place
from drivers.transports.usb_identity import UsbDevice

T = TypeVar("T")

EMPTY_PAUSE_S = 0.05
"""Some printers answer every read at once with nothing; asking them without a pause would take a whole core."""

FIRST = "/dev/usb/lp0"
LPGETSTATUS = 0x060B
_DEVICE_ID_BYTES = 1024
GET_DEVICE_ID = 2 << 30 | _DEVICE_ID_BYTES << 16 | ord("P") << 8 | 1
"""_IOC(_IOC_READ, 'P', IOCNR_GET_DEVICE_ID, 1024): two bytes of length, big endian, then the IEEE 1284 text."""


@dataclass(frozen=True, slots=True)
class UsblpOptions:
    """`path` is /dev/usb/lpN, a link to it, or a pattern; the numbers follow the order of plugging in.

    Where there are several printers, write ``path = "/dev/usb/lp*"`` and as `device_id` a part of what the printer says
    it is ("MDL:TM-T88V", "SN:J4XF012345"): the one that says so is taken, and no other. Or `usb` names the device.
    """

    path: str = ""
    device_id: str | None = None
    usb: UsbDevice | None = None

    def __post_init__(self) -> None:
        """One way of naming it, not two."""
        if self.path and self.usb is not None:
            check_place(self.path, self.usb)


class UsblpTransport(DescriptorTransport):
    """One /dev/usb/lpN."""

    def __init__(self, options: UsblpOptions) -> None:
        self.place = Place(options.path or ("" if options.usb else FIRST), options.usb, "usbmisc")
        super().__init__(str(self.place))
        self.options = options
        self._pause: asyncio.TimerHandle | None = None
        self._in_flight = False

    async def open(self, receive: Receive, lost: Lost) -> None:
        """Open the first that fits; raises DeviceLost (absent, in use, not allowed, another printer)."""
        why = DeviceLost(f"{self.name} is not there; plug the printer in, switch it on, or correct its path")
        for path in sorted(glob.glob(await self.place.node())):
            try:
                fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            except OSError as error:
                why = _explain(path, error)
                continue
            wanted = self.options.device_id
            try:
                said = "" if wanted is None else await _asked(read_device_id, fd)
            except BaseException:
                os.close(fd)
                raise
            if wanted is None or wanted in said:
                break
            os.close(fd)
            why = DeviceLost(f"{path} is {said or 'a printer without a device id'}, not {wanted}; correct device_id")
        else:
            raise why
        self._start(fd, receive, lost)

    async def port_status(self) -> int | None:
        """LPGETSTATUS: b5 paper empty, b4 selected, b3 no error; None where it is not answered."""
        return None if self._fd < 0 else await _asked(_status, self._fd)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 1024)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            if error.errno == errno.EINVAL:
                asyncio.get_running_loop().remove_reader(self._fd)  # one way: nothing will ever come
                return
            self._end(f"{self.name} was unplugged or switched off ({error.strerror}); check cable and power")
            return
        if data:
            if self._receive is not None:
                self._receive(data)
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._fd)
        self._pause = loop.call_later(EMPTY_PAUSE_S, loop.add_reader, self._fd, self._readable)

    def _send(self) -> None:
        """Send on; when the queue is empty, the next time the descriptor is writable ends the drain."""
        if self._outgoing:
            try:
                sent = os.write(self._fd, self._outgoing)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._end(f"{self.name} does not take bytes ({error.strerror}); check cable and power")
                return
            del self._outgoing[:sent]
            self._in_flight = True
            return
        self._in_flight = False
        asyncio.get_running_loop().remove_writer(self._fd)
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def write(self, data: bytes) -> None:
        """Queue bytes and send at once what the printer takes."""
        if self._fd < 0 or not data:
            return
        idle = not self._outgoing and not self._in_flight
        self._outgoing += data
        if idle:
            self._send()
            if self._fd >= 0:
                asyncio.get_running_loop().add_writer(self._fd, self._send)

    async def drain(self) -> None:
        """Return when the last transfer has ended; raises DeviceLost when the link is or becomes closed."""
        if self._fd < 0:
            raise DeviceLost(f"{self.name} is closed; it is opened again by itself")
        if not self._outgoing and not self._in_flight:
            return
        if self._drained is None or self._drained.done():
            self._drained = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._drained)

    def _close_descriptor(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._in_flight = False
        super()._close_descriptor()


def _explain(path: str, error: OSError) -> DeviceLost:
    if error.errno == errno.EACCES:
        return DeviceLost(f"{path} may not be opened; add this user to the group that owns it (lp)")
    if error.errno == errno.EBUSY:
        return DeviceLost(f"{path} is in use by another program; stop that one (CUPS?)")
    return DeviceLost(f"{path} went away while it was opened ({error.strerror}); check cable and power")


async def _asked(question: Callable[[int], T], fd: int) -> T:
    """Ask on a thread, for the kernel may take seconds, and through a descriptor that the thread itself closes.

    Whoever asked may be gone by then, and the link closed, and its number another file's.
    """
    own = os.dup(fd)

    def ask() -> T:
        try:
            return question(own)
        finally:
            os.close(own)

    return await asyncio.get_running_loop().run_in_executor(None, ask)


def _status(fd: int) -> int | None:
    try:
        answer = fcntl.ioctl(fd, LPGETSTATUS, bytes(4))
    except OSError:
        return None
    return int(struct.unpack("i", answer)[0]) & 0xFF


def read_device_id(fd: int) -> str:
    """The IEEE 1284 device id of an open printer ("MFG:EPSON;MDL:TM-T88V;..."); empty where it has none."""
    with contextlib.suppress(OSError):
        return parse_device_id(fcntl.ioctl(fd, GET_DEVICE_ID, bytes(_DEVICE_ID_BYTES)))
    return ""


def parse_device_id(raw: bytes) -> str:
    """The text of a device id: its first two bytes are its length, themselves included, big endian."""
    length = int.from_bytes(raw[:2], "big")
    return raw[2 : max(2, length)].split(b"\0", 1)[0].decode("latin-1").strip()
