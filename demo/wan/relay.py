"""The relay: each connection to `port` is carried to the target through two lines, one up and one down.

What can happen to it, and what the two ends see:

    cut       silence: what is on the way stays there, nothing is closed, nobody is told. One direction can go alone.
    restore   what stayed on the way goes on, as TCP would send it again; the port is open, and everything is whole.
    forget    a router lost its table: connections that exist carry nothing, for good, and neither end is told.
    reset     every connection ends with RST, at both ends.
    refuse    the port is closed: new connections are refused; those that exist go on.

A connection that is opened during a cut is taken by the kernel and hears nothing: to the one who opened it, it looks as
if the far end did not answer. `probe_port` is a second address "on the internet" that goes dead with a cut: with it the
bridge can tell that the WAN is down and not only the cloud.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

from demo.wan.connection import Connection, End
from demo.wan.line import PACKET_BYTES, Line

Direction = Literal["up", "down", "both"]
Tell = Callable[[str], None]


class Wan:
    """The relay. Use it as ``async with``; `port` 0 picks one, `probe_port` None leaves the probe's address out.

    `rtt_ms` is the round trip, half of it each way; `up_kbit` and `down_kbit` are kbit/s, 0 for as fast as it goes.
    """

    def __init__(
        self,
        cloud_port: int,
        *,
        cloud_host: str = "127.0.0.1",
        port: int = 0,
        probe_port: int | None = None,
        rtt_ms: float = 0,
        up_kbit: float = 0,
        down_kbit: float = 0,
        tell: Tell | None = None,
    ) -> None:
        self.port = port
        self.up = Line()
        self.down = Line()
        self.cuts = 0
        self.connections_made = 0
        self._cloud = (cloud_host, cloud_port)
        self._probe_port = probe_port
        self._tell = tell or (lambda _: None)
        self._whole = asyncio.Event()
        self._whole.set()
        self._cut_at: float | None = None
        self._cut_before_s = 0.0
        self._server: asyncio.Server | None = None
        self._probe: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self.shape(rtt_ms=rtt_ms, up_kbit=up_kbit, down_kbit=down_kbit)

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in (self._server, self._probe):
            if server is not None:
                server.close()
        self.reset()
        await asyncio.gather(*self._opening, return_exceptions=True)

    # -- what it is like -----------------------------------------------------------------------------------------------

    @property
    def whole(self) -> bool:
        """Whether bytes pass both ways."""
        return not (self.up.cut or self.down.cut)

    @property
    def cut_s(self) -> float:
        """For how long it has been cut, all cuts together."""
        return self._cut_before_s + (time.monotonic() - self._cut_at if self._cut_at is not None else 0.0)

    @property
    def waiting_bytes(self) -> int:
        """What the relay itself holds at the moment."""
        return sum(connection.waiting_bytes for connection in self._connections)

    @property
    def connections(self) -> int:
        """How many there are, with those that are being opened."""
        return len(self._connections) + len(self._opening)

    def shape(
        self, *, rtt_ms: float | None = None, up_kbit: float | None = None, down_kbit: float | None = None
    ) -> None:
        """Change delay and bandwidth from now on; None leaves one as it is."""
        for line, kbit in ((self.up, up_kbit), (self.down, down_kbit)):
            if rtt_ms is not None:
                line.delay_s = rtt_ms / 2_000
            if kbit is not None:
                line.bytes_per_s = kbit * 125
        for connection in self._connections:
            connection.go_on()

    # -- what happens to it --------------------------------------------------------------------------------------------

    async def cut(self, direction: Direction = "both") -> None:
        """Silence, from now on."""
        if self.whole:
            self.cuts += 1
            self._cut_at = time.monotonic()
        self.up.cut |= direction != "down"
        self.down.cut |= direction != "up"
        self._whole.clear()
        if self._probe is not None:
            self._probe.close()
            self._probe = None
        self._all_go_on()

    async def restore(self) -> None:
        """Let everything pass again."""
        if self._cut_at is not None:
            self._cut_before_s = self.cut_s
            self._cut_at = None
        self.up.cut = self.down.cut = False
        await self._listen()
        self._whole.set()
        self._all_go_on()

    async def refuse(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def reset(self) -> None:
        """End every connection with RST."""
        for task in self._opening:
            task.cancel()
        for connection in list(self._connections):
            connection.reset()
        self._connections.clear()

    def forget(self) -> None:
        """Let every connection that exists carry nothing, for good."""
        for connection in self._connections:
            connection.forget()

    # -- connections ---------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        if self._server is None:
            listener = _segmented()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self.port))
            self.port = listener.getsockname()[1]
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(lambda: End(self._opened), sock=listener)
        if self._probe is None and self._probe_port is not None:
            self._probe = await asyncio.start_server(_answer_probe, "127.0.0.1", self._probe_port)

    def _opened(self, near: End) -> None:
        self.connections_made += 1
        task = asyncio.create_task(self._continue(near), name="wan connection")
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _continue(self, near: End) -> None:
        try:
            await self._whole.wait()
            await asyncio.sleep(self.up.delay_s + self.down.delay_s)  # SYN, and what answers it
            far = await self._dial()
        except OSError as error:
            self._tell(f"the far end refused: {error}")
            near.reset()
        except asyncio.CancelledError:
            near.reset()
            raise
        else:
            self._connections.add(Connection(near, far, self.up, self.down, self._connections.discard))

    async def _dial(self) -> End:
        loop = asyncio.get_running_loop()
        far = _segmented()
        far.setblocking(False)
        try:
            await loop.sock_connect(far, self._cloud)
        except BaseException:
            far.close()
            raise
        _, end = await loop.create_connection(End, sock=far)
        return end

    def _all_go_on(self) -> None:
        for connection in list(self._connections):
            connection.go_on()


def _segmented() -> socket.socket:
    """A TCP socket that carries packets of an Ethernet's size, so that small windows work."""
    made = socket.socket()
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, PACKET_BYTES)
    return made


async def _answer_probe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()
