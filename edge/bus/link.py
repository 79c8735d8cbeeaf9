"""One connection to a broker: bytes in and out, packets, keepalive. It is made, used until it is lost, and thrown away.

Strategy: an asyncio protocol over TCP, TLS or a unix socket, inside a WebSocket where one is wanted. Received bytes
are cut into packets and handed on in one call per read; what is written within one turn of the event loop leaves in one
send. The connection is watched by what *comes*: a half-open TCP connection takes our bytes happily for a quarter of an
hour, but it never answers. While a thin line is still taking what was written before our question, the answer cannot be
there yet: bytes that the other end's TCP acknowledges count as a sign of life until then.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import socket
import ssl
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from edge.bus.address import Address
from edge.bus.errors import Disconnected
from edge.bus.packets import PING, Framer, Malformed, Packet

if TYPE_CHECKING:
    from edge.bus.websocket import WebSocket

READ_BYTES = 65_536
CHECKS_PER_KEEPALIVE = 4


class Link(asyncio.BufferedProtocol):
    """A connection. `lost` is done, with the reason, as soon as it cannot be used any more.

    `on_packets` gets this link and the packets of one read, in order, and may raise `Malformed`; `on_writable` is
    called when the other end takes bytes again after `writable` was False.
    """

    def __init__(
        self,
        max_packet_bytes: int,
        on_packets: Callable[[Link, list[Packet]], None],
        on_writable: Callable[[], None],
        websocket: WebSocket | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[Disconnected] = self._loop.create_future()
        self._websocket = websocket
        self._upgraded: asyncio.Future[None] = self._loop.create_future()
        self.writable = True
        self._on_packets = on_packets
        self._on_writable = on_writable
        self._framer = Framer(max_packet_bytes)
        self._buffer = bytearray(READ_BYTES)
        self._view = memoryview(self._buffer)
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._reason: Disconnected | None = None
        self._received = self._written = self._loop.time()
        self._unanswered_checks = 0
        self._given_bytes = self._taken_bytes = self._question_ends = 0
        self._check: asyncio.TimerHandle | None = None
        self._held = False

    # -- out -----------------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send `data` at the end of this turn of the event loop, or at the next `flush`."""
        if self._transport is None:
            return
        if not self._out:
            self._loop.call_soon(self.flush)
        self._out.append(data)

    def flush(self) -> None:
        """Send everything written so far."""
        if self._out and self._transport is not None:
            data = b"".join(self._out) if len(self._out) > 1 else self._out[0]
            self._out = []
            self._send(self._websocket.pack(data) if self._websocket is not None else data)

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._written = self._loop.time()
            self._given_bytes += len(data)
            self._transport.write(data)

    async def upgraded(self) -> None:
        """Wait until the other end has agreed to speak MQTT inside a WebSocket. Raises `Disconnected`."""
        assert self._websocket is not None
        self._send(self._websocket.hello())
        either: list[asyncio.Future[Any]] = [self._upgraded, self.lost]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if self.lost.done():
            raise self.lost.result()

    def close(self) -> None:
        """Send what was written, then close."""
        self.flush()
        self._note(Disconnected("closed", "this program closed the connection"))
        if self._transport is not None:
            if self._websocket is not None:
                self._send(self._websocket.goodbye())
            self._transport.close()

    def fail(self, reason: Disconnected) -> None:
        """Give the connection up at once, because of `reason`."""
        self._note(reason)
        if self._transport is not None:
            self._transport.abort()

    # -- in ------------------------------------------------------------------------------------------------------------

    def hold(self, for_s: float) -> None:
        """Read nothing for so long; what the other end sends meanwhile waits there."""
        if self._transport is not None and not self._held:
            self._held = True
            self._transport.pause_reading()
            self._loop.call_later(for_s, self._read_on)

    def _read_on(self) -> None:
        self._held = False
        if self._transport is not None and not self._transport.is_closing():
            self._received = self._loop.time()  # its silence was our doing
            self._transport.resume_reading()

    # -- in (called by the event loop) ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        self._received = self._loop.time()
        self._unanswered_checks = 0
        if self.lost.done() or self._reason is not None:
            return
        try:
            data = bytes(self._view[:nbytes])
            packets = self._framer.feed(data if self._websocket is None else self._unwrapped(self._websocket, data))
            if packets:
                self._on_packets(self, packets)
        except Disconnected as reason:
            self.fail(reason)
        except Malformed as error:
            self.fail(Disconnected("closed", f"the other end does not speak MQTT as agreed: {error}"))

    def _unwrapped(self, websocket: WebSocket, data: bytes) -> bytes:
        inside, back = websocket.unpack(data)
        if back:
            self._send(back)
        if websocket.open and not self._upgraded.done():
            self._upgraded.set_result(None)
        return inside

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._out = []
        if self._check is not None:
            self._check.cancel()
        if isinstance(exc, ssl.SSLError):
            self._note(Disconnected("tls", f"{exc}; does the other end accept this certificate?"))
        self._note(Disconnected("closed", str(exc) if exc else "the other end closed the connection"))
        if not self.lost.done():
            assert self._reason is not None
            self.lost.set_result(self._reason)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self._on_writable()

    def _note(self, reason: Disconnected) -> None:
        """Remember why: the first reason is the true one."""
        if self._reason is None:
            self._reason = reason

    @property
    def peer_certificate_ends_s(self) -> float | None:
        """Until when the other end's certificate is good, in seconds since 1970; None where there is none."""
        shown = self._transport.get_extra_info("peercert") if self._transport is not None else None
        return ssl.cert_time_to_seconds(shown["notAfter"]) if shown else None

    # -- keepalive -----------------------------------------------------------------------------------------------------

    def keep_alive(self, keepalive_s: float) -> None:
        """Ping when nothing came or went for half of `keepalive_s`; `silent` when then nothing comes for another half.

        A dead peer is noticed within 1.25 times `keepalive_s`. Checks are counted instead of seconds compared, so that
        a stopped or starved process does not blame the peer for its own pause: bytes that wait are read before the
        next check runs.
        """
        if keepalive_s > 0 and self._transport is not None:  # gone already: its checks would never end
            every_s = keepalive_s / CHECKS_PER_KEEPALIVE
            self._check = self._loop.call_later(every_s, self._check_alive, every_s)

    def _check_alive(self, every_s: float) -> None:
        self._check = self._loop.call_later(every_s, self._check_alive, every_s)
        if self._unanswered_checks and self._question_is_moving():
            self._unanswered_checks = 1
        if self._unanswered_checks >= CHECKS_PER_KEEPALIVE // 2:
            waited_s = self._loop.time() - self._received
            self.fail(Disconnected("silent", f"connected, but nothing has come for {waited_s:.1f} s"))
            return
        quiet_since = min(self._received, self._written)
        if self._unanswered_checks:
            self._unanswered_checks += 1
        elif self._loop.time() - quiet_since >= every_s * (CHECKS_PER_KEEPALIVE // 2 - 0.5):
            self._unanswered_checks = 1
            self.write(PING)
            self.flush()
            self._question_ends = self._given_bytes
            self._taken_bytes = self._given_bytes - self._waiting_bytes()

    def _question_is_moving(self) -> bool:
        """Whether the other end has taken bytes since this was last asked, but not yet our whole PING."""
        before, self._taken_bytes = self._taken_bytes, self._given_bytes - self._waiting_bytes()
        return before < self._taken_bytes < self._question_ends

    def _waiting_bytes(self) -> int:
        """What was written and the other end has not acknowledged: in our buffer, and in the kernel's (tcp(7))."""
        transport = self._transport
        if transport is None:
            return 0
        waiting = array.array("i", [0])
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, waiting)
        return transport.get_write_buffer_size() + waiting[0]


NO_ANCHOR = (2, 18, 19, 20, 21)
"""X509_verify_cert_error_string(3): the chain ends at nothing that is trusted."""

QUEUE_FULL_S = 0.005
"""Before a unix socket is tried again whose queue was full; mosquitto takes in ten within a millisecond."""

UNPINNED = "no authority whose key is pinned stands behind the broker's certificate"


async def open_link(
    address: Address,
    *,
    max_packet_bytes: int,
    on_packets: Callable[[Link, list[Packet]], None],
    on_writable: Callable[[], None],
    turn: int = 0,
) -> Link:
    """Connect, TLS included. Raises `Disconnected`, never OSError. The caller bounds the time.

    Of a name with several addresses the first that lets us in is taken, beginning with number `turn`: the caller
    counts it up with each attempt, so that an address which is silent, or whose broker is, costs one attempt and no
    more.
    """
    loop = asyncio.get_running_loop()

    def make() -> Link:
        return Link(max_packet_bytes, on_packets, on_writable, _websocket(address))

    where = str(address)
    try:
        if address.socket is not None:
            _, link = await loop.create_unix_connection(make, sock=await _unix(str(address.socket)))
            return link
        context = None if address.tls is None else _context(address)
        server_name = (address.tls.server_name or address.host) if address.tls else None
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        first = turn % len(found) if found else 0
        for index, (*_, (host, port, *_)) in enumerate([*found[first:], *found[:first]]):
            try:
                transport, link = await loop.create_connection(
                    make, str(host), int(port), ssl=context, server_hostname=server_name
                )
            except OSError:
                if index == len(found) - 1:
                    raise
            else:
                raw = transport.get_extra_info("socket")
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await _opened(link, address)
                return link
        raise Disconnected("name", f"{where}: the name has no address")
    except ssl.SSLError as error:
        unpinned = address.tls is not None and address.tls.pins and getattr(error, "verify_code", 0) in NO_ANCHOR
        raise Disconnected("tls", f"{where}: {f'{UNPINNED} ({error})' if unpinned else error}") from error
    except socket.gaierror as error:
        raise Disconnected("name", f"{where}: the name is not known ({error.strerror})") from error
    except (ConnectionRefusedError, FileNotFoundError) as error:
        raise Disconnected("refused", f"{where}: nothing listens there; is the broker running?") from error
    except ConnectionError as error:
        during = "; is TLS spoken on this port?" if address.tls is not None else ""
        raise Disconnected("closed", f"{where}: {str(error) or 'closed before a word'}{during}") from error
    except TimeoutError as error:
        raise Disconnected("timeout", f"{where}: no answer") from error
    except OSError as error:
        raise Disconnected("unreachable", f"{where}: {error.strerror or error}") from error


async def _unix(path: str) -> socket.socket:
    """A connected unix socket. While the other end's queue of new ones is full, the kernel says "again" (connect(2):
    EAGAIN), which asyncio takes for a connection that is on its way; a gateway of many lanes fills mosquitto's ten.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        while True:
            try:
                made.connect(path)
            except BlockingIOError:
                await asyncio.sleep(QUEUE_FULL_S)
            else:
                return made
    except BaseException:
        made.close()
        raise


def _websocket(address: Address) -> WebSocket | None:
    if address.websocket is None:
        return None
    from edge.bus.websocket import WebSocket

    host = f"[{address.host}]" if ":" in str(address.host) else str(address.host)
    return WebSocket(f"{host}:{address.port}", address.websocket)


async def _opened(link: Link, address: Address) -> None:
    """Wait for what comes between the connection and MQTT; a link that is not wanted after all is let go."""
    if address.websocket is None:
        return
    try:
        await link.upgraded()
    except BaseException:
        link.fail(Disconnected("closed", "the WebSocket was not opened"))
        raise


def _context(address: Address) -> ssl.SSLContext:
    assert address.tls is not None
    try:
        return address.tls.context()
    except OSError as error:
        raise Disconnected("tls", f"cannot use the TLS files for {address}: {error}") from error
