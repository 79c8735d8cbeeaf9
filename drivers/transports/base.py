"""The shape of every transport.

A transport hands bytes over from inside the event loop's reader (no queue, no task: the shortest path), and
reports the end of the link once. It never reopens by itself: whoever supervises the driver does, with
backoff.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from drivers.errors import DeviceLost

Receive = Callable[[bytes], None]
Lost = Callable[[DeviceLost], None]


class Transport(Protocol):
    """Moves bytes. `name` is the path or address, as people read it in logs."""

    name: str

    async def open(self, receive: Receive, lost: Lost) -> None:
        """Open the link; raises DeviceLost (not there) or WrongDevice (there, but not this kind of thing).

        `receive` is called with every chunk that arrives. `lost` is called at most once per open, and never
        after `close` was called.
        """

    def write(self, data: bytes) -> None:
        """Queue bytes; never blocks, never raises for a lost link (`drain` and `lost` tell)."""

    async def drain(self) -> None:
        """Return when every queued byte has left this process; raises DeviceLost when the link ends first."""

    async def close(self) -> None:
        """Close the link and drop what has not left. Safe to call twice, or before `open`."""


@runtime_checkable
class TellsPort(Protocol):
    """A transport whose port itself has a status, as USB printers have."""

    async def port_status(self) -> int | None:
        """The status byte of the printing class: b5 paper empty, b4 selected, b3 no error; None: it does not say."""
