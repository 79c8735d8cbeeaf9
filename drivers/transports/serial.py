"""Serial lines (RS-232, USB-serial adapters, ptys): pyserial sets the line, the event loop reads and writes
it.

pyserial opens the port because line settings are a swamp of their own. The bytes do not pass through
pyserial-asyncio: closing there waits for the output to drain, and a printer that has stopped reading would
stop the whole process with it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import termios
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from drivers.errors import DeviceLost, WrongDevice
from drivers.transports.base import Lost, Receive
from drivers.transports.descriptor import DescriptorTransport

if TYPE_CHECKING:
    import serial


@dataclass(frozen=True, slots=True)
class SerialOptions:
    """A serial line. `path` is a stable link (/dev/serial/by-id/...), `baud` in bits per second."""

    path: str
    baud: int = 9600
    data_bits: Literal[7, 8] = 8
    parity: Literal["none", "even", "odd"] = "none"
    stop_bits: Literal[1, 2] = 1
    flow: Literal["none", "rtscts", "xonxoff"] = "none"
    exclusive: bool = True


class SerialTransport(DescriptorTransport):
    """One serial port, locked against other processes unless `exclusive` is off."""

    def __init__(self, options: SerialOptions) -> None:
        super().__init__(options.path)
        self.options = options
        self._port: serial.Serial | None = None

    async def open(self, receive: Receive, lost: Lost) -> None:
        """Open the port; raises DeviceLost (absent, busy) or WrongDevice (a file that is no serial line)."""
        import serial  # only a process with serial devices pays for it

        options = self.options
        # A pty carries whole bytes without parity; asking it for anything else fails from the second time on.
        pty = os.path.realpath(options.path).startswith("/dev/pts/")
        try:
            port = serial.Serial(
                options.path,
                options.baud,
                bytesize=8 if pty else options.data_bits,
                parity="N" if pty else {"none": "N", "even": "E", "odd": "O"}[options.parity],
                stopbits=options.stop_bits,
                xonxoff=options.flow == "xonxoff",
                rtscts=options.flow == "rtscts",
                exclusive=options.exclusive or None,
                timeout=0,
                write_timeout=0,
            )
        except (serial.SerialException, OSError, ValueError, termios.error) as error:
            raise self._explain(error) from error
        with contextlib.suppress(OSError, ValueError, NotImplementedError):
            port.set_low_latency_mode(True)  # USB adapters otherwise hold bytes back for up to 16 ms
        _tell_nothing_from_gone(port.fileno())
        self._port = port
        self._start(port.fileno(), receive, lost)

    def _explain(self, error: Exception) -> DeviceLost | WrongDevice:
        path = self.options.path
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

    def _close_descriptor(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            # What is queued in the kernel is dropped first, or close() would wait for a device that does not
            # read.
            with contextlib.suppress(OSError, termios.error):
                port.reset_output_buffer()
            port.close()


def _tell_nothing_from_gone(fd: int) -> None:
    # pyserial leaves VMIN at 0: a read then returns nothing both when no byte is there and after a hang-up.
    settings = termios.tcgetattr(fd)
    settings[6][termios.VMIN] = 1
    settings[6][termios.VTIME] = 0
    termios.tcsetattr(fd, termios.TCSANOW, settings)
