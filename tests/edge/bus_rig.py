"""What tests of the bus need: a real mosquitto, a proxy that can go deaf, a peer that says anything."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from edge.bus.address import Address
from edge.bus.broker import LOOPBACK, BrokerSettings, prepare
from edge.bus.client import Backoff, Client

WITHIN_S = 30.0
QUICK = Backoff(0.02, 0.2)


async def until(condition: Callable[[], Any], within_s: float = WITHIN_S) -> Any:
    """Wait until `condition` is true, and give what it gave."""
    async with asyncio.timeout(within_s):
        while not (found := condition()):
            await asyncio.sleep(0.01)
        return found


@contextlib.asynccontextmanager
async def connected(client: Client) -> AsyncIterator[Client]:
    """`client`, entered and connected."""
    async with client:
        async with asyncio.timeout(WITHIN_S):
            await client.wait_connected()
        yield client


class Broker:
    """A mosquitto of our own, with the configuration that the product renders."""

    def __init__(self, settings: BrokerSettings) -> None:
        self.settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def own(self) -> Address:
        return self.settings.address

    @property
    def tills(self) -> Address:
        assert self.settings.plain_port is not None
        return Address(host=LOOPBACK, port=self.settings.plain_port)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.settings.state_dir / "log").read_text("utf-8", "replace")

    def start(self) -> Broker:
        command = prepare(self.settings)
        with (self.settings.state_dir / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + WITHIN_S
        while " running" not in self.log:
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.01)
        return self

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """As a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()


def settings_in(folder: Path, port: int | None, **more: Any) -> BrokerSettings:
    """Settings for a broker whose files lie in `folder`, with a plain listener on `port`."""
    return BrokerSettings(state_dir=folder, socket=folder / "b.sock", plain_port=port, **more)


class Proxy:
    """A TCP proxy. While `deaf` it takes bytes and passes nothing on, as a network that dropped the path does.

    `last` is what came last from either side.
    """

    def __init__(self, target: Address) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.deaf = False
        self.port = 0
        self.last = b""

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(self._target.host, self._target.port)
        for source, sink in ((reader, there[1]), (there[0], writer)):
            task = asyncio.create_task(self._copy(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65_536):
                self.last = data
                if not self.deaf:
                    sink.write(data)
        sink.close()


@contextlib.asynccontextmanager
async def peer(*answers: bytes) -> AsyncIterator[int]:
    """A port where each read is answered with the next of `answers`, and after the last with nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            for answer in answers:
                if not await reader.read(65_536):
                    break
                writer.write(answer)
            while await reader.read(65_536):
                pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
