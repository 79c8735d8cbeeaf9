"""The port that a stranger reaches: TLS, one small request per connection, and limits on everything.

Strategy: connections are taken by hand, so that the limits hold before a TLS handshake costs anything. What is above
the number of connections, or above what one address or all of them may open in a while, is closed at once. Each that is
taken has a few seconds for everything, whatever it sends. Who asks too often within that hears `too_fast`. Nothing here
knows what an invitation is: `answer` does.

The listener is not what the store lives by: when its port is taken or it fails, the tills that have enrolled go on.

Source: asyncio's low-level server (loop.connect_accepted_socket).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import ssl
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NoReturn

from edge.access.enrolment_http import No, Request, RequestReader, refusal
from edge.bus.broker import TLS_1_2_CIPHERS
from edge.bus.enrolment import Refusal, sha256
from edge.card_guard import guarded
from edge.supervisor import Background, Bug, caught

log = guarded(__name__)

READ_BYTES = 4_096
BACKLOG = 64
PAUSE_S = 0.5
"""When the kernel gives no more sockets."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`*_s` are seconds; a budget is a rate a second and a burst. `address` is per IPv4 address or IPv6 /64."""

    handshake_s: float = 5.0
    whole_s: float = 10.0
    linger_s: float = 1.0
    connections: int = 32
    connections_of_address: int = 6
    opened: tuple[float, int] = (5.0, 60)
    opened_by_address: tuple[float, int] = (0.5, 20)
    asked: tuple[float, int] = (0.5, 20)
    addresses_known: int = 1_024


@dataclass(frozen=True, slots=True)
class Served:
    """What the TLS end shows: `certificate` is the SHA-256 of its certificate's DER form, in hex."""

    context: ssl.SSLContext
    certificate: str


class CannotListen(Exception):
    """The port cannot be had; the text says why and what to do."""


class Shown:
    """What TLS shows: the store's server certificate, read again when its file has changed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read: tuple[int, int, Served] | None = None

    def __call__(self) -> Served:
        """Raises OSError when the file (key and chain, PEM) cannot be used."""
        stat = self._file.stat()
        if self._read is None or self._read[:2] != (stat.st_mtime_ns, stat.st_ino):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(TLS_1_2_CIPHERS)
            context.load_cert_chain(self._file)
            text = self._file.read_text(encoding="ascii")
            first = text[text.index(_BEGIN) : text.index(_END) + len(_END)]
            self._read = (stat.st_mtime_ns, stat.st_ino, Served(context, sha256(ssl.PEM_cert_to_DER_cert(first))))
        return self._read[2]


_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"

Answer = Callable[[Request, str, str], Awaitable[bytes]]
"""(request, the certificate shown, the address asking) to the whole HTTP answer. Raises No."""


@dataclass(slots=True)
class Counts:
    """Since start, for the metrics and for tests."""

    taken: int = 0
    closed_at_once: int = 0
    out_of_time: int = 0
    refused: Counter[str] = field(default_factory=Counter)


class Listener:
    """Serves `answer` on `host`:`port`. `served` gives what TLS shows, asked for with each connection."""

    def __init__(
        self, host: str, port: int, served: Callable[[], Served], answer: Answer, limits: Limits = Limits()
    ) -> None:
        self.host = host
        self.port = port
        self.counts = Counts()
        self.listening = asyncio.Event()
        self._served = served
        self._answer = answer
        self._limits = limits
        self._open: Counter[str] = Counter()
        self._opened = Budget(*limits.opened, 1)
        self._opened_by = Budget(*limits.opened_by_address, limits.addresses_known)
        self._asked = Budget(*limits.asked, limits.addresses_known)
        self._connections = Background(OSError)

    async def run(self, on_open: Callable[[], None] = lambda: None) -> NoReturn:
        """Serve until cancelled; `on_open` is called once the port is ours. Raises CannotListen."""
        listening = self._bind()
        self.port = listening[0].getsockname()[1]
        self.listening.set()
        on_open()
        log.info("tills enrol on %s, port %d", self.host, self.port)
        try:
            async with asyncio.TaskGroup() as group:
                for one in listening:
                    group.create_task(self._accept(one), name="enrolment listener")
            raise AssertionError("accepting ended by itself")
        finally:
            self.listening.clear()
            for one in listening:
                one.close()
            await self._connections.stop()

    def _bind(self) -> list[socket.socket]:
        """Sockets on every address of `host`, all on one port."""
        try:
            found = socket.getaddrinfo(self.host or None, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as error:
            raise CannotListen(f"the address {self.host!r} of the enrolment listener is not known: {error}") from None
        made: list[socket.socket] = []
        try:
            for family, _, _, _, where in dict.fromkeys(found):
                port = made[0].getsockname()[1] if made and not self.port else where[1]
                one = socket.create_server((where[0], port), family=family, backlog=BACKLOG)
                one.setblocking(False)
                made.append(one)
        except OSError as error:
            for one in made:
                one.close()
            why = "another program has it" if error.errno == errno.EADDRINUSE else str(error.strerror or error)
            raise CannotListen(
                f"tills cannot enrol: port {self.port} of {self.host} cannot be used, {why}; "
                "free it, or choose another with [enrolment] port"
            ) from None
        return made

    async def _accept(self, listening: socket.socket) -> NoReturn:
        loop = asyncio.get_running_loop()
        while True:
            try:
                raw, where = await loop.sock_accept(listening)
            except OSError as error:
                log.warning("the enrolment listener gets no connection: %s", error)
                await asyncio.sleep(PAUSE_S)
                continue
            address = str(where[0])
            key = key_of(address)
            if not self._may(key):
                self.counts.closed_at_once += 1
                raw.close()
                continue
            self.counts.taken += 1
            self._open[key] += 1
            task = self._connections.start(self._one(raw, address), f"enrolment {address}")
            task.add_done_callback(partial(self._closed, key, raw))

    def _may(self, key: str) -> bool:
        limits = self._limits
        return (
            self._open.total() < limits.connections
            and self._open[key] < limits.connections_of_address
            and not self._opened_by.wait_ms(key)  # before what is everybody's: one address cannot use that up
            and not self._opened.wait_ms("")
        )

    def _closed(self, key: str, raw: socket.socket, _: asyncio.Task[None]) -> None:
        raw.close()
        self._open[key] -= 1
        if self._open[key] <= 0:
            del self._open[key]

    async def _one(self, raw: socket.socket, address: str) -> None:
        """One connection, from its handshake to its end."""
        limits = self._limits
        try:
            async with asyncio.timeout(limits.whole_s):
                reader, writer, certificate = await self._handshake(raw)
                try:
                    await self._talk(reader, writer, certificate, address)
                    writer.close()  # what still comes is thrown away until the other end has seen our answer
                    with contextlib.suppress(OSError):
                        async with asyncio.timeout(limits.linger_s):
                            await writer.wait_closed()
                finally:
                    writer.transport.abort()
        except TimeoutError:
            self.counts.out_of_time += 1
            log.debug("%s took too long to enrol", address)
        except OSError as error:  # ssl.SSLError is one: not TLS, or it went
            log.debug("%s: %s", address, error)

    async def _handshake(self, raw: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
        served = self._served()
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=2 * READ_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            raw,
            ssl=served.context,
            ssl_handshake_timeout=self._limits.handshake_s,
            ssl_shutdown_timeout=self._limits.linger_s,
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop), served.certificate

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, certificate: str, address: str
    ) -> None:
        """Read one request, answer it."""
        try:
            asking = RequestReader()
            while (request := asking.feed(await reader.read(READ_BYTES))) is None:
                pass  # what it holds is bounded, and so is the time
            if wait_ms := self._asked.wait_ms(key_of(address)):
                raise No(Refusal.TOO_FAST, retry_after_ms=wait_ms)
            answer: bytes | Bug = await caught(
                f"enrolment for {address}", self._answered(request, certificate, address)
            )
        except No as no:
            answer = self._refused(no)
        if isinstance(answer, Bug):
            answer = self._refused(No(Refusal.FAULTED))
        writer.write(answer)
        await writer.drain()

    async def _answered(self, request: Request, certificate: str, address: str) -> bytes:
        try:
            return await self._answer(request, certificate, address)
        except No as no:
            return self._refused(no)

    def _refused(self, no: No) -> bytes:
        self.counts.refused[no.code] += 1
        return refusal(no)


class Budget:
    """A token bucket for each of the `known` addresses that were here last."""

    def __init__(self, rate_per_s: float, burst: int, known: int) -> None:
        self._rate = rate_per_s
        self._burst = float(burst)
        self._known = known
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_ms(self, key: str) -> int:
        """Take one: 0 when there was one, else milliseconds until there is."""
        now = time.monotonic()
        level, since = self._buckets.pop(key, (self._burst, now))
        level = min(self._burst, level + (now - since) * self._rate)
        wait_ms = 0 if level >= 1.0 else max(1, round((1.0 - level) / self._rate * 1000))
        self._buckets[key] = (level if wait_ms else level - 1.0, now)
        if len(self._buckets) > self._known:
            self._buckets.popitem(last=False)
        return wait_ms


def key_of(address: str) -> str:
    """What limits count by: the IPv4 address, or the IPv6 network of 64 bits, of which one machine has all."""
    try:
        ip = ipaddress.ip_address(address.split("%", 1)[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.ip_network((int(ip) >> 64 << 64, 64)))
    return str(ip)
