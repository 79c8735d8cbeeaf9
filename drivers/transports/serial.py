"""Serial lines (RS-232, USB-serial adapters, ptys): pyserial sets the line, pyserial-asyncio reads and writes it.

Two things are worked around. Closing waits, in the event loop, until the device has taken what the kernel holds for
it, and a printer that has stopped reading never does: so what is queued is dropped before closing; half a print job
must not follow the next opening anyway. And pyserial takes bytes of a wrong parity as if nothing were wrong: a digit
with one bit fallen over would be another weight. So the kernel is told to hand such bytes over as NUL, which no frame
takes for a digit.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import termios
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from drivers.errors import DeviceLost, WrongDevice
from drivers.transports.base import Lost, Receive
from drivers.transports.place import Place, check_place
from drivers.transports.usb_identity import UsbDevice

if TYPE_CHECKING:
    import serial


@dataclass(frozen=True, slots=True)
class SerialOptions:
    """A serial line. `path` is a stable link (/dev/serial/by-id/...), or `usb` names the adapter; `baud` in bits/s."""

    path: str = ""
    baud: int = 9600
    data_bits: Literal[7, 8] = 8
    parity: Literal["none", "even", "odd"] = "none"
    stop_bits: Literal[1, 2] = 1
    flow: Literal["none", "rtscts", "xonxoff"] = "none"
    exclusive: bool = True
    usb: UsbDevice | None = None

    def __post_init__(self) -> None:
        """One way of naming it, not two."""
        check_place(self.path, self.usb)


class SerialTransport:
    """One serial port, locked against other processes unless `exclusive` is off."""

    def __init__(self, options: SerialOptions) -> None:
        self.place = Place(options.path, options.usb, "tty")
        self.name = str(self.place)
        self.options = options
        self._line: _Line | None = None

    async def open(self, receive: Receive, lost: Lost) -> None:
        """Open the port; raises DeviceLost (absent, busy) or WrongDevice (a file that is no serial line)."""
        import serial_asyncio  # only a process with serial devices pays for it

        path = await self.place.node()
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(None, self._port, path)
        try:
            port = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_late)
            raise
        line = _Line(self.name, port, receive, lost)
        line.transport = serial_asyncio.SerialTransport(loop, line, port)
        line.transport.set_write_buffer_limits(high=0)  # pause_writing as soon as one byte waits: that is `drain`
        if self.options.parity != "none":
            with contextlib.suppress(OSError, termios.error):  # it has gone already: the reader tells
                _check_parity(port.fileno())  # last, since pyserial undoes it each time it is told anything
        self._line = line

    def write(self, data: bytes) -> None:
        """Queue bytes; the event loop sends them as the device takes them."""
        if self._line is not None:
            self._line.transport.write(data)

    async def drain(self) -> None:
        """Return when the queue is empty; raises DeviceLost when the link is or becomes closed."""
        if self._line is None or self._line.closed.done():
            raise DeviceLost(f"{self.name} is closed; it is opened again by itself")
        await self._line.drained()

    async def close(self) -> None:
        """Close without waiting for the device."""
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    def _port(self, path: str) -> serial.Serial:
        """Open and set the port, on a thread: the kernel waits for a USB adapter that hangs, five seconds a request."""
        import serial

        options = self.options
        # A pty carries whole bytes without parity; asking it for anything else fails from the second time on.
        pty = os.path.realpath(path).startswith("/dev/pts/")
        try:
            port = serial.Serial(
                path,
                options.baud,
                bytesize=8 if pty else options.data_bits,
                parity="N" if pty else {"none": "N", "even": "E", "odd": "O"}[options.parity],
                stopbits=options.stop_bits,
                xonxoff=options.flow == "xonxoff",
                rtscts=options.flow == "rtscts",
                exclusive=options.exclusive or None,
            )
        except (serial.SerialException, OSError, ValueError, termios.error) as error:
            raise self._explain(path, error) from error
        with contextlib.suppress(OSError, ValueError, NotImplementedError):
            port.set_low_latency_mode(True)  # USB adapters otherwise hold bytes back for up to 16 ms
        return port

    def _explain(self, path: str, error: Exception) -> DeviceLost | WrongDevice:
        if not os.path.exists(path):
            return DeviceLost(f"{path} is not there; plug the device in or correct its path")
        number = error.args[0] if isinstance(error, termios.error) else getattr(error, "errno", None)
        if number in (errno.EACCES, errno.EPERM):
            return DeviceLost(f"{path} may not be opened; add this user to the group that owns it (dialout)")
        if number in (errno.EAGAIN, errno.EBUSY):
            return DeviceLost(f"{path} is in use by another process; stop that one")
        if number in (errno.EIO, errno.ENXIO, errno.ENODEV, errno.ENOENT):
            return DeviceLost(f"{path} went away while it was opened; check cable and power")
        if isinstance(error, ValueError | termios.error):
            return WrongDevice(f"{path} cannot be set to {self.options.baud} baud; correct the line settings")
        return WrongDevice(f"{path} is not a serial line ({error}); correct its path")


def _close_late(opening: asyncio.Future[serial.Serial]) -> None:
    """Nobody waits for this port any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _check_parity(fd: int) -> None:
    """Have bytes of a wrong parity come as NUL (termios(3): INPCK without IGNPAR and PARMRK)."""
    attributes = termios.tcgetattr(fd)
    attributes[0] = attributes[0] & ~(termios.IGNPAR | termios.PARMRK) | termios.INPCK
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


class _Line(asyncio.Protocol):
    """One opening of the port, as pyserial-asyncio reports it."""

    transport: asyncio.Transport

    def __init__(self, name: str, port: serial.Serial, receive: Receive, lost: Lost) -> None:
        self._name = name
        self._port = port
        self._lost: Lost | None = lost
        self._empty = asyncio.Event()
        self._empty.set()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.data_received = receive  # type: ignore[assignment, method-assign]  # no hand in between: the shortest path

    def pause_writing(self) -> None:
        self._empty.clear()

    def resume_writing(self) -> None:
        self._empty.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        self._empty.set()
        lost, self._lost = self._lost, None
        if lost is not None:
            lost(DeviceLost(f"{self._name} was unplugged or stopped answering ({exc}); check cable and power"))

    async def drained(self) -> None:
        """Return when everything has left; raises DeviceLost when the line ended first."""
        await self._empty.wait()
        if self.closed.done():
            raise DeviceLost(f"{self._name} was closed before everything had left; check cable and power")

    async def close(self) -> None:
        """Drop what waits and close."""
        self._lost = None
        if not self.closed.done():
            with contextlib.suppress(OSError, termios.error):
                self._port.reset_output_buffer()
            if not self.transport.is_closing():
                self.transport.abort()
            await self.closed
        await asyncio.sleep(0)  # the port itself is closed right after connection_lost
