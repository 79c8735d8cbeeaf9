"""What the driver tests stand on: a collector of events, and a driver running against whatever is at the far end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from drivers.catalog import build_driver, build_transport, read_device, read_transport
from drivers.driver import Driver
from drivers.errors import DriverError
from drivers.events import Event
from drivers.scales.scale_driver import ScaleDriver
from drivers.virtual.scales.base import VirtualScale
from drivers.virtual.twins import TWINS
from drivers.virtual.wire import PtyWire

E = TypeVar("E")

PATIENCE_S = 30


@dataclass
class Heard:
    """Collects events; `of` waits until there are as many of a type as a test expects."""

    events: list[Event] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._news.set()

    def now(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    async def of(self, kind: type[E], count: int = 1) -> list[E]:
        await self.until(lambda: len(self.now(kind)) >= count)
        return self.now(kind)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._news.clear()
                await self._news.wait()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that nothing announces."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


@dataclass
class Running:
    """A driver that runs, and how it ended."""

    driver: Any
    task: asyncio.Task[None]

    async def ended(self) -> DriverError:
        """Wait for the error that ends it."""
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait((self.task,))
        error = self.task.exception()
        assert isinstance(error, DriverError)
        return error


@asynccontextmanager
async def running(build: Callable[[Callable[[], None]], Driver]) -> AsyncIterator[Running]:
    """Run the driver that `build` makes (given its on_open) from open to the end of the block."""
    opened = asyncio.Event()
    driver = build(opened.set)
    task: asyncio.Task[None] = asyncio.create_task(driver.run(), name="driver under test")
    waiting = asyncio.create_task(opened.wait(), name="driver opens")
    try:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield Running(driver, task)
    finally:
        waiting.cancel()
        task.cancel()
        with suppress(asyncio.CancelledError, DriverError):
            await task


@asynccontextmanager
async def scale_on_a_pty(
    kind: str, path: Path, options: Mapping[str, Any] | None = None, twin: Mapping[str, Any] | None = None
) -> AsyncIterator[tuple[ScaleDriver, Any, Heard]]:
    """A scale of the catalogue with these `options`, and its virtual twin with those at the other end of `path`."""
    device, heard = TWINS[kind].twin("scale-1", PtyWire(path), **(twin or {})), Heard()
    assert isinstance(device, VirtualScale)
    await device.open()

    def build(on_open: Callable[[], None]) -> ScaleDriver:
        transport = build_transport(read_transport(kind, "serial", {"path": str(path)}))
        driver = build_driver(kind, read_device(kind, options or {}), transport, heard, on_open)
        assert isinstance(driver, ScaleDriver)
        driver.protocol.command_gap_ms = min(driver.protocol.command_gap_ms, 20)  # a twin needs no pause
        return driver

    try:
        async with running(build) as run:
            yield run.driver, device, heard
    finally:
        await device.close()
