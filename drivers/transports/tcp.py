"""TCP, as receipt printers speak it on port 9100.

Keep-alive finds a printer that lost its power without a word (a half-open link) in about a quarter of a
minute.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

from drivers.errors import DeviceLost
from drivers.transports.sockets import SocketTransport

KEEPALIVE_IDLE_S = 5
KEEPALIVE_INTERVAL_S = 3
KEEPALIVE_PROBES = 3
UNACKNOWLEDGED_MS = 30_000
"""Keep-alive rests while sent bytes wait to be acknowledged; this bounds that wait, which is 15 minutes otherwise."""


@dataclass(frozen=True, slots=True)
class TcpOptions:
    """A TCP device. `host` is a name or an address; 9100 is what printers listen on."""

    host: str
    port: int = 9100
    connect_timeout_ms: int = 5000


class TcpTransport(SocketTransport):
    """One TCP connection."""

    def __init__(self, options: TcpOptions) -> None:
        super().__init__(f"{options.host}:{options.port}")
        self.options = options

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.options.connect_timeout_ms / 1000):
                link, _ = await loop.create_connection(lambda: self, self.options.host, self.options.port)
        except TimeoutError as error:
            raise DeviceLost(f"{self.name} does not answer; check its power, cable and address") from error
        except OSError as error:
            raise DeviceLost(f"{self.name} cannot be reached ({error.strerror or error})") from error
        connection = link.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
