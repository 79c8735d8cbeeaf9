"""The far end of a USB cable that carries HID reports: a unix SOCK_SEQPACKET socket, one host at a time.

What goes over it is written in `drivers.transports.report_socket`: the first byte of each packet says what it is. The
kernel never splits a report, so `split` only spaces reports out; garbled, silent, late and pulled are as on any wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable
from pathlib import Path

from drivers.virtual.wire import Wire

_PACKET_LIMIT_BYTES = 8192


class ReportWire(Wire):
    """A socket at `path`. `introduction` is what a host is told first: vendor, product, report descriptor."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._door: socket.socket | None = None
        self._host: socket.socket | None = None
        self.introduction = b""

    def introduce(self, vendor: int, product: int, descriptor: bytes) -> None:
        """Say who the device is; before it is opened."""
        self.introduction = b"D" + vendor.to_bytes(2, "little") + product.to_bytes(2, "little") + descriptor

    def _pieces(self, data: bytes) -> Iterable[bytes]:
        return (data,)

    async def _make(self) -> None:
        fresh = self._path.with_name(self._path.name + ".new")
        fresh.unlink(missing_ok=True)
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._door.setblocking(False)
        self._door.bind(str(fresh))
        self._door.listen()
        fresh.rename(self._path)  # it appears when it can be reached: hosts come the moment they see it
        asyncio.get_running_loop().add_reader(self._door, self._accept)

    async def _break(self) -> None:
        if self._door is not None:
            asyncio.get_running_loop().remove_reader(self._door)
            self._door.close()
            self._door = None
        self._path.unlink(missing_ok=True)
        self._hang_up()

    def _hang_up(self) -> None:
        if self._host is not None:
            asyncio.get_running_loop().remove_reader(self._host)
            self._host.close()
            self._host = None
        self._forget_queue()

    def _accept(self) -> None:
        assert self._door is not None
        with contextlib.suppress(OSError):  # it may have gone again already
            host, _ = self._door.accept()
            self._hang_up()
            host.setblocking(False)
            self._host = host
            asyncio.get_running_loop().add_reader(host, self._readable)
            host.send(self.introduction)
            self._connected()

    def _readable(self) -> None:
        assert self._host is not None
        try:
            packet = self._host.recv(_PACKET_LIMIT_BYTES)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if packet:
            self._received(packet)
        else:
            self._hang_up()

    def _write(self, data: bytes) -> None:
        if self._host is None:
            self.dropped_bytes += len(data)
            return
        try:
            self._host.send(b"I" + data)
        except BlockingIOError:
            self.dropped_bytes += len(data)  # nobody reads: the kernel drops reports then
        except OSError:
            self._hang_up()
