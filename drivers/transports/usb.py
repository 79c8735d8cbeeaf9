"""Receipt printers on USB through libusb (pyusb): bulk pipes of a printer interface.

Documents: Universal Serial Bus Device Class Definition for Printing Devices 1.1 (4.2.2 GET_PORT_STATUS); libusb-1.0's
synchronous transfers. Which printer, and how it is claimed: `usb_printers`.

A transfer blocks, so each opening has two threads, one per direction; the event loop never waits for a device. Every
transfer has a time limit (0 would block for ever): one that ran out is begun again, or is where a closing takes hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drivers.errors import DeviceLost
from drivers.transports.base import Lost, Receive
from drivers.transports.place import Place
from drivers.transports.usb_identity import UsbDevice
from drivers.transports.usb_printers import Claimed, claim, explain

READ_LIMIT_MS = 500
WRITE_LIMIT_MS = 500
"""How long one transfer may take; so long may closing take too."""
EMPTY_PAUSE_S = 0.05
"""Some printers answer every read at once with nothing; asking them without a pause would take a whole core."""
CHUNK_BYTES = 4096
CONTROL_LIMIT_MS = 2000

_GET_PORT_STATUS = 1


@dataclass(frozen=True, slots=True)
class UsbOptions:
    """Which printer: `usb` names it by what it is, as for every USB device. Left out: the only printer there is."""

    usb: UsbDevice | None = None


class UsbTransport:
    """One printer interface. `backend` is pyusb's; None takes libusb-1.0."""

    def __init__(self, options: UsbOptions, backend: Any = None) -> None:
        self.name = str(options.usb) if options.usb is not None else "the printer on USB"
        self.place = Place("", options.usb, "usb")
        self.options = options
        self._backend = backend
        self._link: _Link | None = None

    async def open(self, receive: Receive, lost: Lost) -> None:
        """Find and claim the printer; raises DeviceLost (none, in use, not allowed) or WrongDevice (several fit)."""
        node = await self.place.node()
        loop = asyncio.get_running_loop()
        claiming = loop.run_in_executor(None, claim, self.name, node, self._backend)
        try:
            claimed = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            claiming.add_done_callback(_let_go)
            raise
        self._link = _Link(self.name, claimed, loop, receive, lost)

    def write(self, data: bytes) -> None:
        """Queue bytes; a thread sends them as the printer takes them."""
        if self._link is not None:
            self._link.write(data)

    async def drain(self) -> None:
        """Return when the printer has taken every byte; raises DeviceLost when the link is or becomes closed."""
        if self._link is None:
            raise DeviceLost(f"{self.name} is closed; it is opened again by itself")
        await self._link.drain()

    async def port_status(self) -> int | None:
        """GET_PORT_STATUS: b5 paper empty, b4 selected, b3 no error; None where it is not answered."""
        link = self._link
        return None if link is None else await asyncio.to_thread(link.port_status)

    async def close(self) -> None:
        """Drop what has not left and let go of the interface, within the limit of one transfer."""
        link, self._link = self._link, None
        if link is not None:
            await link.close()


def _let_go(claiming: asyncio.Future[Claimed]) -> None:
    if not claiming.cancelled() and claiming.exception() is None:
        claiming.result().let_go()


class _Link:
    """One opening: two threads, and what waits to be sent between them and the event loop."""

    def __init__(
        self, name: str, claimed: Claimed, loop: asyncio.AbstractEventLoop, receive: Receive, lost: Lost
    ) -> None:
        self._name = name
        self._claimed = claimed
        self._loop = loop
        self._receive = receive
        self._lost: Lost | None = lost
        self._outgoing = bytearray()
        self._news = threading.Condition()
        self._ending = threading.Event()
        self._emptied = asyncio.Event()
        self._closed: asyncio.Future[None] = loop.create_future()
        works = [self._send] + ([self._listen] if claimed.receiving is not None else [])
        self._alive = len(works)
        for work in works:
            threading.Thread(target=self._live, args=(work,), name=f"{name} {work.__name__}", daemon=True).start()

    # -- in the event loop -----------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        with self._news:
            self._outgoing += data
            self._news.notify()

    async def drain(self) -> None:
        while True:
            self._emptied.clear()
            if self._ending.is_set():
                raise DeviceLost(f"{self._name} was closed before everything had left; check cable and power")
            with self._news:
                if not self._outgoing:
                    return
            await self._emptied.wait()

    async def close(self) -> None:
        self._lost = None
        self._end()
        await asyncio.shield(self._closed)

    def _gone(self, error: DeviceLost) -> None:
        lost, self._lost = self._lost, None
        if lost is not None:
            lost(error)

    def _heard(self, data: bytes) -> None:
        if self._lost is not None:
            self._receive(data)

    # -- in the threads --------------------------------------------------------------------------------------------

    def _live(self, work: Callable[[], None]) -> None:
        import usb.core

        end = DeviceLost(f"{self._name} is served no more; it is opened again by itself")
        try:
            work()
        except usb.core.USBError as error:
            end = explain(self._name, error)
        finally:  # of a bug, too: nobody may wait for a thread that is no more
            self._tell(self._gone, end)
            self._end()
            self._leave()

    def _leave(self) -> None:
        """Whoever is the last to leave lets go of the printer: no transfer may be on its way then."""
        with self._news:
            self._alive -= 1
            last = self._alive == 0
        if last:
            try:
                self._claimed.let_go()
            finally:
                self._tell(self._closed.set_result, None)

    def _end(self) -> None:
        with self._news:
            self._ending.set()
            self._outgoing.clear()
            self._news.notify()
        self._tell(self._emptied.set)

    def _tell(self, callback: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop has ended: nobody is left to tell
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _send(self) -> None:
        import usb.core

        while True:
            with self._news:
                self._news.wait_for(lambda: self._outgoing or self._ending.is_set())
                if self._ending.is_set():
                    return
                chunk = bytes(self._outgoing[:CHUNK_BYTES])
            try:
                sent = self._claimed.sending.write(chunk, WRITE_LIMIT_MS)
            except usb.core.USBTimeoutError:
                continue  # not one byte was taken: its buffer is full
            with self._news:
                del self._outgoing[:sent]
                emptied = not self._outgoing
            if emptied:
                self._tell(self._emptied.set)

    def _listen(self) -> None:
        import usb.core

        size = max(512, self._claimed.receiving.wMaxPacketSize)  # a whole number of packets, or libusb overflows
        while not self._ending.is_set():
            try:
                data = self._claimed.receiving.read(size, READ_LIMIT_MS).tobytes()
            except usb.core.USBTimeoutError:
                continue
            if data:
                self._tell(self._heard, data)
            else:
                self._ending.wait(EMPTY_PAUSE_S)

    def port_status(self) -> int | None:
        import usb.core

        with self._news:
            if self._ending.is_set():
                return None
            self._alive += 1
        try:
            interface = self._claimed.interface
            answer = self._claimed.device.ctrl_transfer(0xA1, _GET_PORT_STATUS, 0, interface, 1, CONTROL_LIMIT_MS)
        except usb.core.USBError:
            return None
        finally:
            self._leave()
        return int(answer[0]) if len(answer) == 1 else None
