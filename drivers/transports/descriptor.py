"""What transports over a file descriptor share: a reader callback, a write buffer, one report of the end.

The descriptor is non-blocking and is read and written inside the event loop's callbacks. Closing throws away
what has not left: a device that takes no more bytes must not hold up the event loop, and half a print job
must not follow the next opening.
"""

from __future__ import annotations

import asyncio
import os

from drivers.errors import DeviceLost
from drivers.transports.base import Lost, Receive

_READ_BYTES = 4096


class DescriptorTransport:
    """Base of the serial and the evdev transport; subclasses open the descriptor and call `_start`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._fd = -1
        self._receive: Receive | None = None
        self._on_lost: Lost | None = None
        self._outgoing = bytearray()
        self._drained: asyncio.Future[None] | None = None

    def write(self, data: bytes) -> None:
        """Queue bytes and send at once what the descriptor takes."""
        if self._fd < 0:
            return
        idle = not self._outgoing
        self._outgoing += data
        if idle:
            self._send()
            if self._outgoing and self._fd >= 0:
                asyncio.get_running_loop().add_writer(self._fd, self._send)

    async def drain(self) -> None:
        """Return when the queue is empty; raises DeviceLost when the link is or becomes closed."""
        if self._fd < 0:
            raise DeviceLost(f"{self.name} is closed; it is opened again by itself")
        if not self._outgoing:
            return
        if self._drained is None or self._drained.done():
            self._drained = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._drained)

    async def close(self) -> None:
        """Close without waiting for the device."""
        self._stop(DeviceLost(f"{self.name} was closed"))

    def _start(self, fd: int, receive: Receive, lost: Lost) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._receive = receive
        self._on_lost = lost
        self._outgoing.clear()
        asyncio.get_running_loop().add_reader(fd, self._readable)

    def _close_descriptor(self) -> None:
        """Release the descriptor; for subclasses that own it through a library."""
        os.close(self._fd)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(f"{self.name} stopped answering ({error.strerror}); check cable and power")
            return
        if not data:
            self._end(f"{self.name} was unplugged; plug it in again")
            return
        if self._receive is not None:
            self._receive(data)

    def _send(self) -> None:
        try:
            sent = os.write(self._fd, self._outgoing)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(f"{self.name} does not take bytes ({error.strerror}); check cable and power")
            return
        del self._outgoing[:sent]
        if not self._outgoing:
            asyncio.get_running_loop().remove_writer(self._fd)
            if self._drained is not None and not self._drained.done():
                self._drained.set_result(None)

    def _end(self, message: str) -> None:
        lost = self._on_lost
        error = DeviceLost(message)
        self._stop(error)
        if lost is not None:
            lost(error)

    def _stop(self, error: DeviceLost) -> None:
        if self._fd < 0:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._fd)
        loop.remove_writer(self._fd)
        self._close_descriptor()
        self._fd = -1
        self._receive = None
        self._on_lost = None
        self._outgoing.clear()
        if self._drained is not None and not self._drained.done():
            self._drained.set_exception(error)
            self._drained.exception()  # marked as seen: there may be nobody waiting
