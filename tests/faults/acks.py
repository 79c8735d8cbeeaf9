"""A relay between a client and the cloud's broker that keeps back, loses or repeats acknowledgements (PUBACK).

Everything else passes as it came. Written from the specification alone:

    MQTT 5.0, 2.1.1 Fixed Header: the first byte's upper four bits are the packet's type, PUBACK is 4
    MQTT 5.0, 1.5.5 Variable Byte Integer: the remaining length, seven bits a byte, least first, at most four bytes

Directions as the client sees them: `down` are the broker's acknowledgements of what the client has sent, `up` the
client's own of what has come down.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

PUBACK = 4
READ_BYTES = 65_536


class NotMqtt(ValueError):
    """What came is no MQTT packet."""


class Packets:
    """Cuts a stream into packets: feed bytes, take whole packets."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The packets that are complete now, headers included; NotMqtt when a length makes no sense."""
        self._data += data
        packets = []
        while (size := self._size()) is not None and len(self._data) >= size:
            packets.append(bytes(self._data[:size]))
            del self._data[:size]
        return packets

    def _size(self) -> int | None:
        length = 0
        for place in range(4):
            if len(self._data) < place + 2:
                return None
            byte = self._data[place + 1]
            length |= (byte & 0x7F) << 7 * place
            if not byte & 0x80:
                return place + 2 + length
        raise NotMqtt("a remaining length of more than four bytes")


@dataclass(slots=True)
class Meddling:
    """What happens to the acknowledgements of one direction, and how many it has happened to."""

    holding: bool = False
    to_drop: int = 0
    to_repeat: int = 0
    passed: int = 0
    held: int = 0
    dropped: int = 0
    repeated: int = 0
    kept: deque[tuple[asyncio.StreamWriter, bytes]] = field(default_factory=deque)

    def what_goes_on(self, packet: bytes, sink: asyncio.StreamWriter) -> bytes:
        """What of this packet is passed on now."""
        if packet[0] >> 4 != PUBACK:
            return packet
        if self.to_drop:
            self.to_drop -= 1
            self.dropped += 1
            return b""
        if self.holding:
            self.held += 1
            self.kept.append((sink, packet))
            return b""
        self.passed += 1
        if self.to_repeat:
            self.to_repeat -= 1
            self.repeated += 1
            return packet + packet
        return packet

    def release(self) -> None:
        """Hold no longer; what was kept goes on its way now, late."""
        self.holding = False
        while self.kept:
            sink, packet = self.kept.popleft()
            if not sink.is_closing():
                sink.write(packet)


class AckRelay:
    """Use it as ``async with relay.running()``; clients connect to `port`, the broker is on `target_port`."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.down = Meddling()
        self.up = Meddling()
        self._target_port = target_port
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[AckRelay]:
        """Listen meanwhile."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def well_again(self) -> None:
        """No meddling any more."""
        for meddling in (self.down, self.up):
            meddling.to_drop = meddling.to_repeat = 0
            meddling.release()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._relay(reader, writer), name="acks")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        ways = [
            asyncio.create_task(self._carry(reader, far_writer, self.up), name="acks up"),
            asyncio.create_task(self._carry(far_reader, writer, self.down), name="acks down"),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.close()
            far_writer.close()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, meddling: Meddling) -> None:
        packets = Packets()
        with contextlib.suppress(ConnectionError):
            while data := await source.read(READ_BYTES):
                for packet in packets.feed(data):
                    if out := meddling.what_goes_on(packet, sink):
                        sink.write(out)
                await sink.drain()
