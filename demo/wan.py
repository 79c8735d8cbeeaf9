"""The wide area network between the store and its cloud: a TCP relay that can be cut, made slow, and restored.

A cut is silent, as when a router dies: bytes stop in both directions, no connection is closed, and new ones are taken
by nobody. What came during the cut is thrown away at the end of it, what was on the way goes on: so a connection that
lived through a short cut still works. `probe_port` is a second address "on the internet" that goes dead with the rest:
with it the bridge can tell that the WAN is down and not only the cloud.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from types import TracebackType
from typing import Self

CHUNK_BYTES = 16_384
SLOW_CHUNK_BYTES = 512


class Wan:
    """The relay. Use it as ``async with``; ports are fixed by the caller."""

    def __init__(self, port: int, probe_port: int, cloud_port: int) -> None:
        self.port = port
        self.probe_port = probe_port
        self._cloud_port = cloud_port
        self._whole = asyncio.Event()
        self._whole.set()
        self._connections: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._slow_bytes_per_s: float | None = None
        self.up_bytes = 0
        self.cut_at: float | None = None
        self.cut_s = 0.0
        self.cuts = 0

    @property
    def whole(self) -> bool:
        """Whether bytes pass."""
        return self._whole.is_set()

    async def __aenter__(self) -> Self:
        self._servers = [
            await asyncio.start_server(self._relay, "127.0.0.1", self.port),
            await asyncio.start_server(self._answer_probe, "127.0.0.1", self.probe_port),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def cut(self) -> None:
        """Silence, from now on."""
        if self.whole:
            self._whole.clear()
            self.cut_at = time.monotonic()
            self.cuts += 1
            self._servers.pop().close()  # the probe's address answers nobody now

    async def restore(self) -> None:
        """Let bytes pass again."""
        if not self.whole:
            self._servers.append(await asyncio.start_server(self._answer_probe, "127.0.0.1", self.probe_port))
            self._whole.set()
            assert self.cut_at is not None
            self.cut_s += time.monotonic() - self.cut_at
            self.cut_at = None

    def slow(self, bytes_per_s: float | None) -> None:
        """Let the way to the cloud carry only so much, as a mobile network in a shed; None: all it can."""
        self._slow_bytes_per_s = bytes_per_s

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if not self.whole:
                await self._whole.wait()  # nobody took it, so nothing of it arrives
                return
            try:
                cloud_reader, cloud_writer = await asyncio.open_connection("127.0.0.1", self._cloud_port)
            except OSError:
                return
            with contextlib.closing(cloud_writer):
                up = asyncio.create_task(self._pump(reader, cloud_writer, upwards=True), name="wan up")
                down = asyncio.create_task(self._pump(cloud_reader, writer, upwards=False), name="wan down")
                try:
                    await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pump in (up, down):
                        pump.cancel()
                    await asyncio.gather(up, down, return_exceptions=True)
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, upwards: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                slow = self._slow_bytes_per_s if upwards else None
                data = await reader.read(SLOW_CHUNK_BYTES if slow else CHUNK_BYTES)
                await self._whole.wait()
                if slow:
                    await asyncio.sleep(len(data) / slow)
                    await self._whole.wait()
                if not data:
                    return
                writer.write(data)
                await writer.drain()
                if upwards:
                    self.up_bytes += len(data)

    async def _answer_probe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
