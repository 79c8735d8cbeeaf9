"""What transports of HID reports share: whole reports in and out, and who the device says it is.

A report is read whole and handed over by one call of `receive`. Reports that are written leave one after the other in
a thread of their own: the kernel keeps a writer until the device has taken the report, up to seconds for a dead one.
"""

from __future__ import annotations

import asyncio
import os
from abc import abstractmethod
from collections import deque
from collections.abc import Callable

from drivers.errors import DeviceLost
from drivers.hid import HidDevice
from drivers.transports.base import Lost, Receive
from drivers.transports.descriptor import DescriptorTransport

_WAITING_LIMIT = 64


class ReportTransport(DescriptorTransport):
    """Base of the hidraw and the report-socket transport. `device` is known while the link is open."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.device: HidDevice | None = None
        self._waiting: deque[bytes] = deque()
        self._writer: asyncio.Task[None] | None = None

    def write(self, data: bytes) -> None:
        """Queue one output report, its id in front (zero when the device's reports are not numbered)."""
        if self._fd < 0 or len(self._waiting) >= _WAITING_LIMIT:
            return
        self._waiting.append(data)
        if self._writer is None or self._writer.done():
            loop = asyncio.get_running_loop()
            self._writer = loop.create_task(self._write_all(), name=f"reports to {self.name}")

    async def drain(self) -> None:
        """Return when the device has taken every report; raises DeviceLost when the link is or becomes closed."""
        if self._writer is not None:
            await asyncio.shield(self._writer)
        if self._fd < 0:
            raise DeviceLost(f"{self.name} is closed; it is opened again by itself")

    async def set_feature(self, data: bytes) -> None:
        """Send one feature report, its id in front; raises DeviceLost when the device does not take it."""
        if self._fd < 0:
            raise DeviceLost(f"{self.name} is closed; it is opened again by itself")
        try:
            await self._in_thread(self._send_feature, data)
        except OSError as error:
            raise DeviceLost(
                f"{self.name} does not take feature report {data[0]} ({error.strerror}); unplug it and plug it in again"
            ) from error

    @abstractmethod
    def _send_output(self, fd: int, report: bytes) -> None:
        """Send one output report; may block, raises OSError. Called in a thread."""

    @abstractmethod
    def _send_feature(self, fd: int, report: bytes) -> None:
        """Send one feature report; may block, raises OSError. Called in a thread."""

    def _begin(self, fd: int, device: HidDevice, receive: Receive, lost: Lost) -> None:
        self.device = device
        self._waiting.clear()
        self._start(fd, receive, lost)

    async def _write_all(self) -> None:
        mine = self._writer
        while self._waiting and self._writer is mine:
            try:
                await self._in_thread(self._send_output, self._waiting.popleft())
            except OSError as error:
                if self._writer is mine:  # not of a link that has been closed, and perhaps opened anew, meanwhile
                    self._end(f"{self.name} does not take reports ({error.strerror}); check its cable")

    async def _in_thread(self, send: Callable[[int, bytes], None], report: bytes) -> None:
        # A descriptor of its own: the link may be closed, and its number given to another, while the thread writes.
        fd = os.dup(self._fd)

        def run() -> None:
            try:
                send(fd, report)
            finally:
                os.close(fd)

        await asyncio.get_running_loop().run_in_executor(None, run)

    def _stop(self, error: DeviceLost) -> None:
        self._waiting.clear()
        self._writer = None
        self.device = None
        super()._stop(error)
