"""A customer display: the newest picture wins, and whoever showed one hears when its bytes have left.

A slow line never has more than one picture on it and one that waits: a till that scans faster than 9600 baud can show
does not run ahead of its display. `show` returns True when the picture has left, False when a newer one took its place
before it began. Nothing comes back from a display, so nothing tells that it is on; only a link that goes is noticed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from drivers.displays.base import Display
from drivers.driver import Driver, OnEvent, OnOpen
from drivers.errors import DeviceLost, DriverError
from drivers.events import Event, Noise
from drivers.transports.base import Transport


class LatestWins:
    """Carries one picture after the other with `carry`; of those that come meanwhile only the newest waits."""

    def __init__(self, carry: Callable[[bytes], Awaitable[None]]) -> None:
        self._carry = carry
        self._next: tuple[bytes, asyncio.Future[bool]] | None = None
        self._task: asyncio.Task[None] | None = None

    async def show(self, data: bytes) -> bool:
        """Carry `data`, unless something newer comes first (False); raises what `carry` raises."""
        if self._next is not None:
            self._next[1].set_result(False)
        shown: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._next = (data, shown)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name="display")
        return await asyncio.shield(shown)

    async def stop(self) -> None:
        """Carry nothing any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _work(self) -> None:
        while self._next is not None:
            (data, shown), self._next = self._next, None
            try:
                await self._carry(data)
                shown.set_result(True)
            except DriverError as error:
                shown.set_exception(error)
                shown.exception()  # marked as seen: whoever asked may be gone
            finally:
                if not shown.done():
                    shown.cancel()


class Mute:
    """The protocol of a device that has nothing to say: whatever comes is noise."""

    idle_ms: int | None = None
    pending = False

    def receive(self, data: bytes) -> Sequence[Event]:
        """Bytes from a display: a wrong cable, or another device on its port."""
        return [Noise(data, "a display sends nothing; is this another device, or its self-test?")]

    def idle(self) -> Sequence[Event]:
        """Never called: nothing is ever begun."""
        return []

    def cut_off(self) -> Sequence[Event]:
        """Nothing was begun."""
        return []


class DisplayDriver(Driver):
    """One display on a link of its own. `seconds_per_byte` is what its line needs (0 where nothing is slow).

    A kernel takes thousands of bytes at once for a line that carries a thousand a second, so after each picture the
    driver waits as long as the line is busy with it.
    """

    def __init__(
        self,
        transport: Transport,
        display: Display,
        on_event: OnEvent,
        on_open: OnOpen | None = None,
        *,
        seconds_per_byte: float = 0.0,
    ) -> None:
        super().__init__(transport, Mute(), on_event, on_open)
        self.display = display
        self._seconds_per_byte = seconds_per_byte
        self._pictures = LatestWins(self._carry)

    async def show(self, data: bytes) -> bool:
        """Show a picture's bytes; True: they have left, False: a newer picture came first. Raises DeviceLost."""
        return await self._pictures.show(data)

    def _closed(self) -> None:
        self._lost(DeviceLost(f"{self.transport.name} was closed"))

    async def _carry(self, data: bytes) -> None:
        if not self.is_open or self._gone is None:
            raise DeviceLost(f"{self.transport.name} is not connected; it is tried again by itself")
        self.transport.write(data)
        await self.transport.drain()
        await asyncio.wait((self._gone,), timeout=len(data) * self._seconds_per_byte)
        if self._gone.done():
            raise DeviceLost(f"{self.transport.name} went away with a picture on its way; it is opened again by itself")
