"""One connection through the relay: two ends, and a flow of packets each way.

Memory is bounded: what a flow has on the way is at most the line's queue and its window (see line.py). While more
cannot be taken, or the far end does not read, nothing is read from the near end.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable

from demo.wan.line import IN_FLIGHT_BYTES, READ_BYTES, Line

# What the kernel holds before a bottleneck is queue, too: keep it small, or a thin line would have seconds of it.
# Small segments go with it: the loopback's own, of 64 KiB, would not fit and stall.
THIN_BYTES_PER_S = 4 << 20
THIN_RECEIVE_BYTES = 16 << 10
TICK_S = 0.000_5  # timers are no finer
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no time: closing sends RST


class End(asyncio.BufferedProtocol):
    """One TCP connection, near or far. What it reads goes into `out`; what `into` delivers is written.

    It reads nothing before it has both.
    """

    def __init__(self, opened: Callable[[End], None] | None = None) -> None:
        self.transport: asyncio.Transport
        self.out: Flow | None = None
        self.into: Flow | None = None
        self.lost = False
        self.can_write = True
        self._opened = opened
        self._buffer = bytearray(READ_BYTES)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        # Not here: the loop of Python 3.11.2 (Debian 12) begins to read after this call, paused or not.
        asyncio.get_running_loop().call_soon(transport.pause_reading)
        if self._opened:
            self._opened(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        room = self.out.room_bytes() if self.out else 1
        return memoryview(self._buffer)[: max(1, min(READ_BYTES, room))]

    def buffer_updated(self, nbytes: int) -> None:
        if self.out:
            self.out.take(bytes(memoryview(self._buffer)[:nbytes]))

    def eof_received(self) -> bool:
        if self.out:
            self.out.end(reset=False)
        return True  # the other direction may still have something to carry

    def pause_writing(self) -> None:
        self.can_write = False

    def resume_writing(self) -> None:
        self.can_write = True
        if self.into:
            self.into.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self.out:
            self.out.end(reset=exc is not None)

    def read(self, wanted: bool) -> None:
        """Read on, or let the kernel tell the peer to wait."""
        if not (self.lost or self.transport.is_closing()):
            if wanted:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def close(self) -> None:
        """End it once everything is written."""
        if not self.lost:
            self.transport.close()

    def reset(self) -> None:
        """End it with RST."""
        if not self.lost:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.transport.abort()

    def thin(self) -> None:
        """Let the kernel hold little of what the peer sends."""
        if not self.lost:
            size = THIN_RECEIVE_BYTES
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


class Flow:
    """One direction of a connection: packets on their way from `source` to `sink`."""

    def __init__(self, line: Line, source: End, sink: End, over: Callable[[], None]) -> None:
        self.line = line
        self.waiting_bytes = 0
        self.ended = False
        self._source = source
        self._sink = sink
        self._over = over
        self._on_the_way: deque[tuple[float, bytes | None]] = deque()  # (when it arrives, data; None: the end)
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._forgotten = False
        self._reset = False

    def room_bytes(self) -> int:
        """How much may be read from the source now."""
        return min(self.line.room_bytes(self._loop.time()), IN_FLIGHT_BYTES - self.waiting_bytes)

    def take(self, data: bytes) -> None:
        """Data from the source."""
        if self._forgotten:
            return
        if self.line.plain and not self._on_the_way and self._sink.can_write:
            self._write(data)
            return
        now, size = self._loop.time(), self.line.packet_bytes
        for start in range(0, len(data), size):
            packet = data[start : start + size]
            self._on_the_way.append((self.line.admit(now, len(packet)), packet))
        self.waiting_bytes += len(data)
        self.go_on()

    def end(self, *, reset: bool) -> None:
        """The source has ended; this takes its time to arrive, too."""
        if self._forgotten:
            self._source.close()
            self._over()
        elif not self.ended:
            self.ended, self._reset = True, reset
            self._on_the_way.append((self._loop.time() + self.line.delay_s, None))
            self.go_on()

    def go_on(self) -> None:
        """Deliver what is due; read on, or not, as there is room."""
        if self._forgotten:
            return
        self.stop()
        now, way = self._loop.time(), self._on_the_way
        while way and not self.line.cut and self._sink.can_write and way[0][0] <= now + TICK_S:
            _, data = way.popleft()
            if data is None:
                self._arrived()
                return
            self.waiting_bytes -= len(data)
            self._write(data)
        if self.line.cut or not self._sink.can_write:
            self._read(False)
            return
        wake = [way[0][0]] if way else []
        if self.line.room_bytes(now) < self.line.packet_bytes:  # not for every byte that gets free
            wake.append(self.line.half_empty_at_s(now))
            self._read(False)
        else:
            self._read(self.waiting_bytes < IN_FLIGHT_BYTES)
        if wake:
            self._timer = self._loop.call_at(min(wake), self.go_on)

    def stop(self) -> None:
        """Do nothing by itself any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def forget(self) -> None:
        """Carry nothing any more, and tell nobody."""
        self.stop()
        self._forgotten = True
        self._on_the_way.clear()
        self.waiting_bytes = 0
        self._read(True)

    def _read(self, wanted: bool) -> None:
        if not self.ended:
            self._source.read(wanted)

    def _write(self, data: bytes) -> None:
        if not self._sink.lost:
            self._sink.transport.write(data)
        self.line.carried_bytes += len(data)

    def _arrived(self) -> None:
        both = self._sink.out is not None and self._sink.out.ended
        if self._reset:
            self._sink.reset()
        elif self._source.lost or both:
            self._sink.close()
            self._source.close()
        elif not (self._sink.lost or self._sink.transport.is_closing()):
            self._sink.transport.write_eof()
        self._over()


class Connection:
    """A connection and its continuation to the target; `over` is called once both ends are closed."""

    def __init__(self, near: End, far: End, up: Line, down: Line, over: Callable[[Connection], None]) -> None:
        self.near = near
        self.far = far
        self._over = over
        near.out = far.into = self._up = Flow(up, near, far, self._one_ended)
        far.out = near.into = self._down = Flow(down, far, near, self._one_ended)
        self.go_on()

    @property
    def waiting_bytes(self) -> int:
        """What is on the way."""
        return self._up.waiting_bytes + self._down.waiting_bytes

    def go_on(self) -> None:
        """The lines have changed."""
        for end, flow in ((self.near, self._up), (self.far, self._down)):
            if 0 < flow.line.bytes_per_s < THIN_BYTES_PER_S:
                end.thin()
            flow.go_on()

    def forget(self) -> None:
        """Carry nothing any more, and tell nobody."""
        self._up.forget()
        self._down.forget()

    def reset(self) -> None:
        """End both ends with RST."""
        for end, flow in ((self.near, self._up), (self.far, self._down)):
            flow.stop()
            end.reset()

    def _one_ended(self) -> None:
        if all(end.lost or end.transport.is_closing() for end in (self.near, self.far)):
            self._over(self)
