"""The loop that joins one transport to one protocol.

`run()` opens the transport, feeds the protocol from inside the reader callback, and ends by raising
DeviceLost (gone) or WrongDevice (a configuration fault). It never reopens: the supervisor that awaits it
does, with backoff. Nothing is polled: bytes wake it, and one timer measures the silence that some protocols
need.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import NoReturn

from drivers.errors import DeviceLost
from drivers.events import Event, Handshake, Scan, Weight
from drivers.protocol import DeviceProtocol
from drivers.transports.base import Transport

OnEvent = Callable[[Event], None]
OnOpen = Callable[[], None]


class Driver:
    """A device that only talks (a scanner), and the base of those that are asked (`ScaleDriver`,
    `PrinterDriver`).

    `on_event` is called from the event loop for every event and must not block or raise. `on_open` is called
    each time the link is up. One driver may be run again after `run` has raised.
    """

    def __init__(
        self, transport: Transport, protocol: DeviceProtocol, on_event: OnEvent, on_open: OnOpen | None = None
    ) -> None:
        self.transport = transport
        self.protocol = protocol
        self.is_open = False
        self.tap: Callable[[bytes], None] | None = None
        """Hears every chunk as it came, before it is read: for recording captures."""
        self._on_event = on_event
        self._on_open = on_open
        self._silence: asyncio.TimerHandle | None = None
        self._gone: asyncio.Future[DeviceLost] | None = None
        self._guard = _Guard(self)

    async def run(self) -> NoReturn:
        """Open and serve the device until it is gone; raises DeviceLost or WrongDevice, or is cancelled."""
        self._gone = asyncio.get_running_loop().create_future()
        gone = self._gone
        self._deliver(self.protocol.cut_off())
        try:
            await self.transport.open(self._receive, self._lost)
            await self._prepare()
            self.is_open = True
            self._opened()
            if self._on_open is not None:
                self._on_open()
            raise await gone
        finally:
            self.is_open = False
            self._stop_silence()
            try:
                self._closed()
                self._deliver(self.protocol.cut_off())
            finally:  # whatever bug an owner of events has: a link that stays open would be "in use" for ever
                await self.transport.close()

    async def _prepare(self) -> None:
        """See what is at the other end and say what it must hear before it works; for subclasses. Raises as `run`."""

    def _opened(self) -> None:
        """Do what the device needs right after opening; for subclasses."""

    def _closed(self) -> None:
        """End what is waiting on the device; for subclasses. The link is gone."""

    def _heard(self, event: Event) -> None:
        """See an event before the owner does; for subclasses."""

    def _receive(self, data: bytes) -> None:
        with self._guard:
            if self.tap is not None:
                self.tap(data)
            self._deliver(self.protocol.receive(data))
            self._watch_silence()

    def _watch_silence(self) -> None:
        self._stop_silence()
        idle_ms = self.protocol.idle_ms
        if idle_ms is not None and self.protocol.pending:
            self._silence = asyncio.get_running_loop().call_later(idle_ms / 1000, self._silent)

    def _stop_silence(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _silent(self) -> None:
        self._silence = None
        with self._guard:
            self._deliver(self.protocol.idle())

    def _deliver(self, events: Sequence[Event]) -> None:
        now_ns = time.monotonic_ns()
        for event in events:
            if isinstance(event, Handshake):
                self.transport.write(event.data)
                continue
            if isinstance(event, Scan | Weight):
                event = replace(event, captured_ns=now_ns)
            self._heard(event)
            self._on_event(event)

    def fail(self, bug: Exception) -> None:
        """End `run` with a bug that was met in a callback of the event loop, where nobody would hear of it."""
        if self._gone is not None and not self._gone.done():
            self._gone.set_exception(bug)
            self._gone.exception()  # marked as seen: `run` may be about to end otherwise

    def _lost(self, error: DeviceLost) -> None:
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(error)


class _Guard:
    """A bug in what it guards ends the driver's `run`: whoever awaits that deals with bugs."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if not isinstance(error, Exception):
            return False
        self._driver.fail(error)
        return True
