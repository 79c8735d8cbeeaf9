"""The far end of a line: a pty, a TCP port or a unix socket, with the faults that lines have.

A twin sends whole answers; the wire delivers them whole, byte by byte, late, garbled or not at all. Pulling
the cable makes a pty disappear (as a USB adapter does) or closes the socket; plugging it in brings it back at
the same place.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tty
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

_SPLIT_GAP_S = 0.002
_READ_BYTES = 4096


class Wire(ABC):
    """Base of the wires. `late_ms`, `split`, `silent` and `garbled` may be changed at any time."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.late_ms = 0
        self.split = False
        self.silent = False
        self.garbled = False
        self.dropped_bytes = 0
        self.plugged = False
        self._received: Callable[[bytes], None] = lambda _: None
        self._connected: Callable[[], None] = lambda: None
        self._queue: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def open(self, received: Callable[[bytes], None], connected: Callable[[], None] = lambda: None) -> None:
        """Make the line; `received` gets what the host sends, `connected` is called when a host comes (sockets)."""
        self._received = received
        self._connected = connected
        await self.plug()

    def send(self, data: bytes) -> None:
        """Send what the device says, with the faults that are set."""
        if self.silent or not data:
            return
        if self.garbled:
            data = bytes(byte ^ 0xD5 for byte in data)
        loop = asyncio.get_running_loop()
        if not self._queue and not self.late_ms and not self.split:
            self._write(data)
            return
        due = loop.time() + self.late_ms / 1000
        if self._queue:
            due = max(due, self._queue[-1][0])
        for piece in self._pieces(data) if self.split else (data,):
            self._queue.append((due, piece))
            due += _SPLIT_GAP_S
        self._flush()

    def _pieces(self, data: bytes) -> Iterable[bytes]:
        """What a line that splits makes of an answer: single bytes."""
        return (data[at : at + 1] for at in range(len(data)))

    async def plug(self) -> None:
        """Put the cable in."""
        if not self.plugged:
            self.plugged = True
            await self._make()

    async def pull(self) -> None:
        """Pull the cable out; what has not been delivered is gone."""
        if self.plugged:
            self.plugged = False
            self._forget_queue()
            await self._break()

    async def close(self) -> None:
        """Take the line away for good."""
        await self.pull()

    def power_off(self) -> None:
        """The device lost its power: a socket breaks and refuses, a serial line shows nothing."""
        self._forget_queue()

    # Not every wire has something to do at these three.

    async def power_on(self) -> None:  # noqa: B027
        """The device has power again."""

    def pause(self) -> None:  # noqa: B027
        """Stop taking bytes: the device's buffer is full."""

    def resume(self) -> None:  # noqa: B027
        """Take bytes again."""

    @abstractmethod
    async def _make(self) -> None:
        """Make the far end appear."""

    @abstractmethod
    async def _break(self) -> None:
        """Make it disappear."""

    @abstractmethod
    def _write(self, data: bytes) -> None:
        """Send what the faults have left of an answer."""

    def _flush(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._queue and self._queue[0][0] <= loop.time():
            self._write(self._queue.popleft()[1])
        if self._queue:
            self._timer = loop.call_at(self._queue[0][0], self._flush)

    def _forget_queue(self) -> None:
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class PtyWire(Wire):
    """A pty whose host side is linked at `path`; it survives the host closing and opening it."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._device_fd = -1
        self._host_fd = -1

    async def _make(self) -> None:
        # The host side stays open here too: otherwise the line would break whenever the host closes it.
        self._device_fd, self._host_fd = os.openpty()
        tty.setraw(self._host_fd)
        os.set_blocking(self._device_fd, False)
        fresh = self._path.with_name(self._path.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.ttyname(self._host_fd))
        fresh.rename(self._path)
        self.resume()

    async def _break(self) -> None:
        self.pause()
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(self._path) == os.ttyname(self._host_fd):
                self._path.unlink()
        os.close(self._host_fd)
        os.close(self._device_fd)
        self._device_fd = self._host_fd = -1

    def pause(self) -> None:
        """Stop taking bytes."""
        asyncio.get_running_loop().remove_reader(self._device_fd)

    def resume(self) -> None:
        """Take bytes again."""
        if self.plugged:
            asyncio.get_running_loop().add_reader(self._device_fd, self._readable)

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._received(os.read(self._device_fd, _READ_BYTES))

    def _write(self, data: bytes) -> None:
        if self._device_fd < 0:
            return
        try:
            sent = os.write(self._device_fd, data)
        except BlockingIOError:
            sent = 0  # nobody reads: a serial line loses bytes then
        self.dropped_bytes += len(data) - sent


class SocketWire(Wire):
    """A listening socket that serves one host at a time; a new host takes the place of the old one."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._server: asyncio.Server | None = None
        self._host: asyncio.Transport | None = None
        self._paused = False

    @abstractmethod
    async def _listen(self) -> asyncio.Server:
        """Listen where hosts are expected."""

    async def _make(self) -> None:
        self._server = await self._listen()

    async def _break(self) -> None:
        self._hang_up()

    def _hang_up(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._host is not None:
            self._host.abort()
            self._host = None

    def pause(self) -> None:
        """Stop taking bytes."""
        self._paused = True
        if self._host is not None:
            self._host.pause_reading()

    def resume(self) -> None:
        """Take bytes again."""
        self._paused = False
        if self._host is not None:
            self._host.resume_reading()

    def power_off(self) -> None:
        """Break the link and refuse hosts."""
        super().power_off()
        self._hang_up()

    async def power_on(self) -> None:
        """Listen again, unless the cable is out or it already does."""
        if self.plugged and self._server is None:
            await self._make()

    def take(self, host: asyncio.Transport) -> None:
        """Serve a host that has just connected."""
        if self._host is not None:
            self._host.abort()
        self._host = host
        if self._paused:
            host.pause_reading()
        self._connected()

    def heard(self, host: asyncio.Transport, data: bytes) -> None:
        """Pass on what the host said, unless it has been replaced."""
        if host is self._host:
            self._received(data)

    def gone(self, host: asyncio.Transport) -> None:
        """Forget a host that has gone."""
        if host is self._host:
            self._host = None
            self._forget_queue()

    def _write(self, data: bytes) -> None:
        if self._host is None:
            self.dropped_bytes += len(data)
        else:
            self._host.write(data)


class _HostConnection(asyncio.Protocol):
    """One host on a socket wire."""

    def __init__(self, wire: SocketWire) -> None:
        self._wire = wire
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._wire.take(transport)

    def data_received(self, data: bytes) -> None:
        if self._transport is not None:
            self._wire.heard(self._transport, data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._wire.gone(self._transport)


class TcpWire(SocketWire):
    """A TCP port on 127.0.0.1; port 0 takes a free one and keeps it."""

    def __init__(self, port: int) -> None:
        super().__init__(f"127.0.0.1:{port}")
        self.port = port

    async def _listen(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _HostConnection(self), "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        return server


class UnixWire(SocketWire):
    """A unix stream socket at `path`."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    async def _listen(self) -> asyncio.Server:
        fresh = self._path.with_name(self._path.name + ".new")
        fresh.unlink(missing_ok=True)
        server = await asyncio.get_running_loop().create_unix_server(lambda: _HostConnection(self), fresh)
        fresh.rename(self._path)  # it appears when it can be reached: hosts come the moment they see it
        return server

    async def _break(self) -> None:
        await super()._break()
        self._path.unlink(missing_ok=True)
