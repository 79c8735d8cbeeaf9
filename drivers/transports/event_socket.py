"""A unix socket that carries the same `input_event` records as an evdev node.

For boxes without evdev (containers, laptops): the virtual keyboard scanner types into one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from drivers.errors import DeviceLost
from drivers.transports.place import Place
from drivers.transports.sockets import SocketTransport


@dataclass(frozen=True, slots=True)
class EventSocketOptions:
    """`path` is a unix stream socket that somebody else listens on."""

    path: str


class EventSocketTransport(SocketTransport):
    """One connection to a source of key events."""

    def __init__(self, options: EventSocketOptions) -> None:
        super().__init__(options.path)
        self.place = Place(options.path)
        self.options = options

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: self, self.options.path)
        except OSError as error:
            raise DeviceLost(f"{self.name} cannot be reached ({error.strerror}); start what types into it") from error
