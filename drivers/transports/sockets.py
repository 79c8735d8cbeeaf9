"""What transports over a stream socket share: asyncio's socket transport, with our promises around it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

from drivers.errors import DeviceLost
from drivers.transports.base import Lost, Receive


class SocketTransport(asyncio.Protocol, ABC):
    """Base of the TCP and the event-socket transport; subclasses connect `self` in `_connect`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._link: asyncio.Transport | None = None
        self._receive: Receive | None = None
        self._on_lost: Lost | None = None
        self._ready: asyncio.Event = asyncio.Event()

    async def open(self, receive: Receive, lost: Lost) -> None:
        """Connect; raises DeviceLost when nobody answers within the bound."""
        self._receive = receive
        self._on_lost = lost
        self._ready = asyncio.Event()
        self._ready.set()
        try:
            await self._connect()
        except BaseException:
            self._forget()
            raise

    @abstractmethod
    async def _connect(self) -> None:
        """Connect `self`; raises DeviceLost."""

    def write(self, data: bytes) -> None:
        """Queue bytes; dropped when the link is down."""
        if self._link is not None:
            self._link.write(data)

    async def drain(self) -> None:
        """Return when the kernel has taken every byte; raises DeviceLost when the link is down."""
        await self._ready.wait()
        if self._link is None:
            raise DeviceLost(f"{self.name} is closed; it is opened again by itself")

    async def close(self) -> None:
        """Close at once, without waiting for the other end."""
        link = self._link
        self._forget()
        if link is not None:
            link.abort()
            await asyncio.sleep(0)  # its `connection_lost` comes now: later, it would end the next opening

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection (called by asyncio)."""
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=0)  # drain() then means: nothing is left in this process
        self._link = transport

    def data_received(self, data: bytes) -> None:
        """Hand bytes over (called by asyncio)."""
        if self._receive is not None:
            self._receive(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end once (called by asyncio)."""
        lost = self._on_lost
        self._forget()
        if lost is not None:
            why = f"the link broke ({exc})" if exc is not None else "it closed the link"
            lost(DeviceLost(f"{self.name}: {why}; check its power and cable"))

    def pause_writing(self) -> None:
        """Note that the other end is slow (called by asyncio)."""
        self._ready.clear()

    def resume_writing(self) -> None:
        """Note that the queue is empty again (called by asyncio)."""
        self._ready.set()

    def _forget(self) -> None:
        self._link = None
        self._receive = None
        self._on_lost = None
        self._ready.set()
