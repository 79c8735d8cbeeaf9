"""The bus client: one connection to an MQTT broker in asyncio, kept up for as long as its `async with` block lasts.

Strategy: paho-mqtt speaks the rare packets (CONNECT, SUBSCRIBE, DISCONNECT and their answers) through a pipe that
stands in for its socket; PUBLISH and PUBACK, of which there are two each for every fact, go through `packets` directly.
No thread, no lock. This is the only module that imports the MQTT library.

Receiving: a message belongs to exactly one handler, the first registered whose filter matches. The broker keeps a
message of QoS 1 until `Message.ack`; one that was not acknowledged comes again after a reconnect. A handler that raises
is a bug: the exception goes to the event loop's exception handler (and to `on_bug`), and the message is acknowledged,
so that one poisonous message cannot come again for ever.

Sending, QoS 1: messages leave in the order of the calls. Whatever had no PUBACK when the connection broke is sent again
on the next one, before anything newer, with the rest of its expiry; one whose expiry has passed fails with
`Disconnected("expired")` instead. So a message may arrive twice, and never silently not at all. Leaving the `async
with` block fails what is still waiting: use `drain` or await `publish` for what must be out before.
Sending, QoS 0: handed to the connection at once; dropped and counted while there is none.

Not guaranteed: order between messages of QoS 0 and 1; delivery after this process has ended (that is the journal's
and the till's own ledger's affair).
"""

from __future__ import annotations

import asyncio
import logging
import math
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import paho.mqtt.client as paho
from paho.mqtt import MQTTException
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.bus.address import Address, TlsFiles
from edge.bus.connack import bounded
from edge.bus.errors import BusError, BusFull, Disconnected, PublishRejected, SubscribeRefused, TooLarge
from edge.bus.link import Link, open_link
from edge.bus.message import Handler, Message
from edge.bus.outbox import Done, Outbox, Outgoing
from edge.bus.packets import (
    CONNACK,
    NO_PROPERTIES,
    PINGRESP,
    PUBACK,
    PUBLISH,
    Malformed,
    Packet,
    decode_properties,
    decode_puback,
    decode_publish,
    join,
)
from edge.bus.terms import UNLIMITED, Backoff, Counters, ServerLimits, Will

__all__ = [
    "Address",
    "Backoff",
    "BusError",
    "BusFull",
    "Client",
    "Counters",
    "Disconnected",
    "Message",
    "PublishRejected",
    "ServerLimits",
    "SubscribeRefused",
    "TlsFiles",
    "TooLarge",
    "Will",
]

log = logging.getLogger(__name__)

KNOWN_TOPICS = 4_096
"""How many topics' handlers are remembered; then the memory starts afresh, so that no till can fill it."""
STEADY_S = 5.0
"""A connection that lived shorter does not reset the backoff: a broker that throws us out at once is left in peace."""
CLOSE_WITHIN_S = 2.0
ASK_AGAIN_S = 2.0
ASK_AGAIN_TO_S = 60.0
"""A subscription that the broker refused is asked for again after this, doubling up to that: a cluster that has just
lost a node refuses for a moment what it grants otherwise."""


T = TypeVar("T")


@dataclass(slots=True)
class _Subscription:
    topic_filter: str
    handler: Handler
    qos: int
    as_published: bool = False

    def matches(self, topic: str) -> bool:
        pattern = self.topic_filter
        if pattern.startswith("$share/"):
            pattern = pattern.split("/", 2)[2]
        return paho.topic_matches_sub(pattern, topic)


@dataclass(slots=True)
class _Pipe:
    """What the library takes for its socket: packets that are its business come in, its packets go to the link."""

    link: Link
    inbound: bytes = b""

    def recv(self, buffer_size: int) -> bytes:
        if not self.inbound:
            raise BlockingIOError
        data, self.inbound = self.inbound[:buffer_size], self.inbound[buffer_size:]
        return data

    def send(self, buffer: bytes | bytearray) -> int:
        self.link.write(bytes(buffer))
        return len(buffer)

    def close(self) -> None:
        self.link.close()

    def fileno(self) -> int:
        return -1

    def setblocking(self, flag: bool) -> None:
        """The link never blocks."""


class _Paho(paho.Client):
    """The library's client, with our pipe for its socket and our packet ids.

    Both hooks are protected: a test fails loudly when another version of the library does not use them any more.
    """

    pipe: _Pipe
    next_packet_id: Callable[[], int]

    def _create_socket(self) -> _Pipe:
        return self.pipe

    def _mid_generate(self) -> int:
        return self.next_packet_id()


@dataclass(slots=True)
class _Connack:
    session_present: bool
    reason: ReasonCode
    properties: Properties | None


class Client:
    """A client of one broker. Enter it with ``async with``: that starts the connection, leaving it ends everything.

    `protocol` is 5, or 4 for MQTT 3.1.1. With `clean_start` the broker forgets this client's session on every
    connection; else it keeps subscriptions and unacknowledged messages for `session_expiry_s` while we are away.
    `keepalive_s`: a peer that has gone silent is noticed within 1.25 times this; 0 turns it off. `told_keepalive_s` is
    what CONNECT announces (None: the same): a longer one lets the broker wait for a large packet on a thin line.
    `receive_maximum`: how many messages the broker may send ahead of our acks (MQTT 5). `max_in_flight`: how many of
    ours may wait for their PUBACK (the broker's own limit also counts). `max_queued`: how many `publish_soon` may pile
    up behind those. `max_packet_bytes`: the largest packet that we take, and send to a broker that names no limit of
    its own: one that is too large would cost the connection each time it is tried. `max_filters`: how many filters the
    broker takes in one SUBSCRIBE.

    `on_connect` callbacks get whether the broker still had our session; `on_disconnect` callbacks get the reason, for
    each lost connection and each failed attempt; `on_granted` callbacks hear that subscriptions which the broker had
    `refused` on this connection are made now. `on_bug(topic, exception)` hears of handlers that raised.
    """

    default_backoff = Backoff()

    def __init__(
        self,
        address: Address,
        *,
        client_id: str,
        username: str | None = None,
        password: str | None = None,
        protocol: int = 5,
        clean_start: bool = False,
        session_expiry_s: int = 3600,
        will: Will | None = None,
        keepalive_s: float = 10.0,
        told_keepalive_s: int | None = None,
        connect_timeout_s: float = 5.0,
        receive_maximum: int = 1_000,
        max_in_flight: int = 1_000,
        max_queued: int = 10_000,
        max_packet_bytes: int = 1_048_576,
        max_filters: int = 1_000,
        backoff: Backoff | None = None,
        on_bug: Callable[[str, BaseException], None] | None = None,
    ) -> None:
        if protocol not in (4, 5):
            raise ValueError(f"MQTT protocol {protocol} is not spoken here; use 5, or 4 for MQTT 3.1.1")
        if not client_id:
            raise ValueError("a client needs an id: its session is kept under it")
        self.address = address
        self.client_id = client_id
        self.on_connect: list[Callable[[bool], None]] = []
        self.on_disconnect: list[Callable[[Disconnected], None]] = []
        self.on_granted: list[Callable[[], None]] = []
        self.last_error: BusError | None = None
        self.server_limits = ServerLimits()
        self.server_certificate_ends_s: float | None = None
        """Of the broker's certificate on the last connection, in seconds since 1970."""
        self.refused: list[SubscribeRefused] = []
        """Of the subscriptions made on connecting, those that the broker did not allow."""
        self._version = protocol
        self._keepalive_s = keepalive_s
        self._told_keepalive_s = math.ceil(keepalive_s) if told_keepalive_s is None else told_keepalive_s
        self._connect_timeout_s = connect_timeout_s
        self._max_packet_bytes = max_packet_bytes
        self._max_filters = max_filters
        self._backoff = backoff or self.default_backoff
        self._on_bug = on_bug

        self._subscriptions: dict[str, _Subscription] = {}
        self._routes: dict[bytes, tuple[str, Handler | None]] = {}
        self._inbox: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._outbox = Outbox(
            version=protocol,
            max_in_flight=max_in_flight,
            max_queued=max_queued,
            now=time.monotonic,
            report=self._report,
        )
        self._unhandled = self._bugs = self._connections = 0

        self._link: Link | None = None  # the connection on which messages may leave
        self._subscribed_once = False
        self._up = asyncio.Event()
        self._last_link: Link | None = None
        self._attempts = -1  # the first of all is number 0
        self._pipe: _Pipe | None = None
        self._connack: asyncio.Future[_Connack] | None = None
        self._subacks: dict[int, asyncio.Future[list[ReasonCode]]] = {}
        self._farewell: tuple[str, int] | None = None
        self._runner: asyncio.Task[None] | None = None
        self._owner: asyncio.Task[Any] | None = None
        self._failed = False
        self._closed = False
        self._paho = self._library(username, password, clean_start, session_expiry_s, will, receive_maximum)

    # -- the connection ------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._runner is not None:
            raise RuntimeError("a client is entered once; make another one")
        self._loop = asyncio.get_running_loop()
        self._owner = asyncio.current_task()
        self._runner = self._loop.create_task(self._keep_connected(), name=f"bus:{self.client_id}")
        self._runner.add_done_callback(self._runner_ended)
        return self

    def _runner_ended(self, runner: asyncio.Task[None]) -> None:
        """A bug has ended the connection's task: as in a TaskGroup, the `async with` block ends with it."""
        if not runner.cancelled() and runner.exception() is not None and not self._closed and self._owner is not None:
            self._failed = True
            self._owner.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        assert self._runner is not None
        try:
            if self._link is not None:
                self._paho.disconnect()
                await asyncio.wait([self._runner], timeout=CLOSE_WITHIN_S)
        finally:
            self._runner.cancel()
        await asyncio.wait([self._runner])
        if self._last_link is not None:
            await asyncio.wait([self._last_link.lost], timeout=CLOSE_WITHIN_S)
        self._outbox.close(Disconnected("closed", "the client was closed before the broker had taken the message"))
        if self._failed and self._owner is not None:
            self._owner.uncancel()
            self._runner.result()

    @property
    def counters(self) -> Counters:
        """What happened since the client was made."""
        box = self._outbox
        return Counters(self._connections, box.dropped_qos0, box.expired, box.rejected, self._unhandled, self._bugs)

    @property
    def waiting(self) -> int:
        """How many messages the broker has not taken yet."""
        return self._outbox.waiting

    @property
    def connected(self) -> bool:
        """Whether there is a connection with all subscriptions made."""
        return self._link is not None

    def give_up(self, detail: str) -> None:
        """Drop the connection and make another: it stands, and is of no use. `detail` says to whoever asks why."""
        if self._link is not None:
            self._link.fail(Disconnected("silent", detail))

    def hold(self, for_s: float) -> None:
        """Take nothing from the broker for so long: what comes for this client waits there, within the broker's bounds
        for one client, and nobody else's messages wait with it. Keep it well below `keepalive_s`.
        """
        if self._link is not None:
            self._link.hold(for_s)

    async def wait_connected(self) -> None:
        """Wait until `connected`; for how long is the caller's decision. `last_error` says what is in the way."""
        await self._up.wait()

    async def _keep_connected(self) -> None:
        attempt = 0
        lost_for: str | None = None
        while True:
            link: Link | None = None
            try:
                try:
                    link = await self._connect()
                finally:
                    tried = self._loop.time()  # the broker counts from when it heard of us, not from our first packet
                log.info("%s: connected to %s%s", self.client_id, self.address, " again" if lost_for else "")
                lost_for = None
                reason = await self._until_lost(link)
            except Disconnected as error:
                reason = error
            finally:
                self._link = None
                self._up.clear()
                self._outbox.detach()
                if link is not None and not link.lost.done():
                    link.fail(Disconnected("closed", "this program is leaving"))
            if self._closed:
                return
            if self._farewell is not None:
                text, code = self._farewell
                reason = Disconnected("closed", f"the broker said good-bye: {text}", code)
                self._farewell = None
            self.last_error = reason
            if lost_for is None:
                log.warning("%s: no connection to %s (%s); trying again", self.client_id, self.address, reason)
            elif lost_for != reason.cause:
                log.info("%s: still no connection to %s (%s)", self.client_id, self.address, reason)
            lost_for = reason.cause
            for callback in self.on_disconnect:
                self._loop.call_soon(callback, reason)
            self._outbox.expire()
            since_tried_s = self._loop.time() - tried
            attempt = 1 if since_tried_s > STEADY_S else attempt + 1
            await asyncio.sleep(self._backoff.delay_s(attempt, since_tried_s))

    async def _until_lost(self, link: Link) -> Disconnected:
        """Why the connection went. While it lasts, ask again for what the broker refused to let us read."""
        pause_s = ASK_AGAIN_S
        while self.refused and not link.lost.done():
            await asyncio.wait([link.lost], timeout=pause_s)
            if link.lost.done():
                break
            pause_s = min(ASK_AGAIN_TO_S, 2 * pause_s)
            filters = [one.topic_filter for one in self.refused if one.topic_filter in self._subscriptions]
            asked = [self._subscriptions[topic_filter] for topic_filter in filters]
            self.refused = await self._subscribe_on(link, asked)
            if len(self.refused) < len(asked):
                log.info("%s: the broker lets us read now what it had refused", self.client_id)
                for callback in self.on_granted:
                    self._loop.call_soon(callback)
            if not self.refused and isinstance(self.last_error, SubscribeRefused):
                self.last_error = None
        return await asyncio.shield(link.lost)

    async def _connect(self) -> Link:
        """A connection with CONNACK and subscriptions done. Raises `Disconnected`."""
        connecting: Link | None = None
        done = False
        self._attempts += 1
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                connecting = link = await open_link(
                    self.address,
                    max_packet_bytes=self._max_packet_bytes,
                    on_packets=self._received,
                    on_writable=self._outbox.pump,
                    turn=self._attempts,
                )
                self._last_link = link
                self.server_certificate_ends_s = link.peer_certificate_ends_s
                session_present = await self._greet(link)
                link.keep_alive(min(self.server_limits.keepalive_s or self._keepalive_s, self._keepalive_s))
                self.last_error = None
                if not (session_present and self._subscribed_once):
                    await self._subscribe_all(link)
            done = True
        except TimeoutError as error:
            cause = "timeout" if connecting is None else "silent"
            raise Disconnected(cause, f"no answer from {self.address} in {self._connect_timeout_s:g} s") from error
        finally:
            if connecting is not None and not done:
                connecting.fail(Disconnected("closed", "connecting failed"))
        self._link = link
        self._connections += 1
        self._outbox.attach(
            link,
            session_present=session_present,
            receive_maximum=self.server_limits.receive_maximum,
            max_packet_bytes=self.server_limits.max_packet_bytes or self._max_packet_bytes,
        )
        self._up.set()
        for callback in self.on_connect:
            self._loop.call_soon(callback, session_present)
        return link

    async def _greet(self, link: Link) -> bool:
        self._connack = self._loop.create_future()
        self._pipe = self._paho.pipe = _Pipe(link)
        self._paho.reconnect()
        try:
            connack = await _first(self._connack, link.lost)
        except Disconnected as error:
            if error.cause == "closed" and self._version == 5:
                hint = "before it had answered: does it speak MQTT 5? Some know 3.1.1 only, and hang up"
                raise Disconnected("closed", f"{error.detail}, {hint}") from None
            raise
        if connack.reason.is_failure:
            code = connack.reason.value
            raise Disconnected(f"connack:{code}", f"the broker refused the connection: {connack.reason}")
        self.server_limits = _limits(connack.properties)
        return connack.session_present

    def _library(
        self,
        username: str | None,
        password: str | None,
        clean_start: bool,
        session_expiry_s: int,
        will: Will | None,
        receive_maximum: int,
    ) -> _Paho:
        five = self._version == 5
        library = _Paho(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            clean_session=None if five else clean_start,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        library.next_packet_id = self._outbox.take_id
        if username is not None:
            library.username_pw_set(username, password)
        if will is not None:
            self._leave(library, will)
        properties = None
        if five:
            properties = _properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 0 if clean_start else session_expiry_s
            properties.ReceiveMaximum = receive_maximum
            properties.MaximumPacketSize = self._max_packet_bytes
        library.connect_async(
            str(self.address.socket or self.address.host),
            self.address.port,
            keepalive=self._told_keepalive_s,
            clean_start=clean_start,
            properties=properties,
        )
        library.on_connect = self._on_connack
        library.on_subscribe = self._on_suback
        library.on_disconnect = self._on_library_disconnect
        return library

    def leave_will(self, will: Will) -> None:
        """Change the last will, from the next connection on."""
        self._leave(self._paho, will)

    def _leave(self, library: _Paho, will: Will) -> None:
        properties = None
        if self._version == 5 and will.delay_s:
            properties = _properties(PacketTypes.WILLMESSAGE)
            properties.WillDelayInterval = will.delay_s
        library.will_set(will.topic, will.payload, will.qos, will.retain, properties)

    def _on_connack(self, _: Any, __: Any, flags: Any, reason: ReasonCode, properties: Properties | None) -> None:
        if self._connack is not None and not self._connack.done():
            self._connack.set_result(_Connack(flags.session_present, reason, properties))

    def _on_suback(self, _: Any, __: Any, packet_id: int, reasons: list[ReasonCode], ___: Any) -> None:
        waiting = self._subacks.pop(packet_id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(reasons)

    def _on_library_disconnect(self, _: Any, __: Any, flags: Any, reason: ReasonCode, ___: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            text = str(reason)
            if reason.value == 0x8E:
                text += f"; another program uses the client id {self.client_id!r}: give each its own"
            self._farewell = text, reason.value

    # -- subscriptions -------------------------------------------------------------------------------------------------

    def on_message(self, topic_filter: str, handler: Handler, qos: int = 1, *, as_published: bool = False) -> None:
        """Hand messages that match `topic_filter` to `handler`; subscribed on connecting.

        Call it before entering: a message from an earlier session that finds no handler is acknowledged and lost. To
        add one to a client that is connected already use `subscribe`. Filters of one client should not overlap: the
        broker then sends a message once for each. With `as_published` (MQTT 5), `Message.retain` of a fresh message
        says whether its sender asked the broker to keep it. A refusal is logged and kept in `last_error`.
        """
        self._subscriptions[topic_filter] = _Subscription(topic_filter, handler, qos, as_published)
        self._routes.clear()

    async def subscribe(self, topic_filter: str, handler: Handler, qos: int = 1) -> None:
        """As `on_message`, and wait until the broker has agreed, connected or not. Raises `SubscribeRefused`."""
        self.on_message(topic_filter, handler, qos)
        while True:
            await self._up.wait()
            link = self._link
            if link is None:
                continue
            try:
                refused = await self._subscribe_on(link, [self._subscriptions[topic_filter]])
            except Disconnected:
                continue
            if refused:
                del self._subscriptions[topic_filter]
                self._routes.clear()
                raise refused[0]
            return

    async def unsubscribe(self, topic_filter: str) -> None:
        """Stop receiving `topic_filter`. What the broker has sent already is acknowledged and dropped."""
        self._subscriptions.pop(topic_filter, None)
        self._routes.clear()
        if self._link is not None:
            self._paho.unsubscribe(topic_filter)

    async def _subscribe_all(self, link: Link) -> None:
        self.refused = []
        if self._subscriptions:
            for refused in await self._subscribe_on(link, list(self._subscriptions.values())):
                self.last_error = refused
                self.refused.append(refused)
                log.error("%s: %s; check the user name and the broker's access list", self.client_id, refused)
        self._subscribed_once = True

    async def _subscribe_on(self, link: Link, wanted: list[_Subscription]) -> list[SubscribeRefused]:
        refused: list[SubscribeRefused] = []
        for start in range(0, len(wanted), self._max_filters):
            refused += await self._subscribe_some(link, wanted[start : start + self._max_filters])
        return refused

    async def _subscribe_some(self, link: Link, wanted: list[_Subscription]) -> list[SubscribeRefused]:
        if self._version == 5:
            asked: Any = [
                (one.topic_filter, SubscribeOptions(qos=one.qos, retainAsPublished=one.as_published)) for one in wanted
            ]
        else:
            asked = [(one.topic_filter, one.qos) for one in wanted]
        _, packet_id = self._paho.subscribe(asked)
        if packet_id is None:
            raise Disconnected("closed", "the connection went before the subscription was sent")
        answer: asyncio.Future[list[ReasonCode]] = self._loop.create_future()
        self._subacks[packet_id] = answer
        try:
            reasons = await _first(answer, link.lost)
        finally:
            self._subacks.pop(packet_id, None)
        return [
            SubscribeRefused(one.topic_filter, reason.value, str(reason))
            for one, reason in zip(wanted, reasons, strict=False)
            if reason.is_failure
        ]

    # -- receiving -----------------------------------------------------------------------------------------------------

    def _received(self, link: Link, packets: list[Packet]) -> None:
        """All packets of one read. Handlers run in a callback of their own, so that theirs is the only blame."""
        inbox = self._inbox
        idle = not inbox
        if packets[0][0] != CONNACK and (self._connack is None or not self._connack.done()):
            raise Malformed("its first word is no answer to CONNECT")
        try:
            for header, body in packets:
                kind = header & 0xF0
                if kind == PUBLISH:
                    self._take_publish(link, header, body)
                elif kind == PUBACK:
                    self._outbox.puback(*decode_puback(body))
                elif kind != PINGRESP:
                    self._take_rare(link, header, body)
        finally:
            if idle and inbox:
                self._loop.call_soon(self._deliver)

    def _take_publish(self, link: Link, header: int, body: bytes) -> None:
        topic, payload, qos, retain, packet_id, packed = decode_publish(header, body, self._version)
        route = self._routes.get(topic)
        if route is None:
            route = self._route(topic)
        name, handler = route
        if packed:
            message = Message(name, payload, qos, retain, packet_id, link if qos else None, *decode_properties(packed))
        else:
            message = Message(name, payload, qos, retain, packet_id, link if qos else None, *NO_PROPERTIES)
        if handler is None:
            self._unhandled += 1
            message.ack()
        else:
            self._inbox.append((handler, message))

    def _route(self, topic: bytes) -> tuple[str, Handler | None]:
        try:
            name = topic.decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"the topic {topic!r} is no UTF-8") from error
        handler = next((one.handler for one in self._subscriptions.values() if one.matches(name)), None)
        if handler is None:
            log.warning("%s: nobody here wants messages on %r; they are dropped", self.client_id, name)
        if len(self._routes) >= KNOWN_TOPICS:
            self._routes.clear()
        self._routes[topic] = route = (name, handler)
        return route

    def _take_rare(self, link: Link, header: int, body: bytes) -> None:
        """A packet for the library. It trusts the peer more than we do: what it stumbles over is the peer's doing."""
        pipe = self._pipe
        if pipe is None or pipe.link is not link:
            raise Malformed("the other end spoke before it was greeted")
        if header == CONNACK and self._version == 5:
            body = bounded(body)
        pipe.inbound = join(header, body)
        try:
            self._paho.loop_read()
        except (ValueError, LookupError, TypeError, struct.error, MQTTException) as error:
            raise Malformed(f"packet 0x{header:02x}: {error}") from error
        if header == CONNACK and self._connack is not None and not self._connack.done():
            # The library closed the connection without telling: a refusal that it would rather work around.
            code = body[1] if len(body) > 1 else 0
            self._connack.set_exception(Disconnected(f"connack:{code}", "the broker refused the connection"))

    def _deliver(self) -> None:
        inbox = self._inbox
        while inbox:
            handler, argument = inbox.popleft()
            try:
                handler(argument)
            except BaseException as bug:
                # Not swallowed: it goes on to the event loop's exception handler. The rest is handled all the same.
                self._bugs += 1
                if inbox:
                    self._loop.call_soon(self._deliver)
                if isinstance(argument, Message):
                    argument.ack()
                    if self._on_bug is not None:
                        self._on_bug(argument.topic, bug)
                raise
        if self._link is not None:
            self._link.flush()

    # -- sending -------------------------------------------------------------------------------------------------------

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        expiry_s: int | None = None,
        response_topic: str | None = None,
        correlation: bytes | None = None,
        properties: dict[str, str] | None = None,
    ) -> None:
        """Send a message; returns when the broker has taken it (QoS 1). Waits while disconnected and while
        `max_in_flight` are out; the caller bounds the time. One that is cancelled before it left never leaves.

        Raises `PublishRejected`, `TooLarge`, `Disconnected` (expired, or the client was closed).
        """
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        item = self._outgoing(topic, payload, qos, retain, expiry_s, response_topic, correlation, properties)
        item.on_done = partial(_resolve, answer)
        if qos == 0:
            await self._up.wait()
        self._outbox.submit(item)
        try:
            await answer
        except asyncio.CancelledError:
            self._outbox.withdraw(item)
            raise

    def publish_soon(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        expiry_s: int | None = None,
        response_topic: str | None = None,
        correlation: bytes | None = None,
        properties: dict[str, str] | None = None,
        on_done: Done | None = None,
        resend: bool = True,
    ) -> None:
        """Send a message without waiting. Raises `BusFull` when `max_queued` messages wait already.

        Without `resend` it fails with `Disconnected` when the connection goes before the broker has taken it.
        `on_done` hears how it went. Without it, a failure is logged. QoS 0 while disconnected: dropped and counted.
        """
        self._outbox.check_room()
        item = self._outgoing(topic, payload, qos, retain, expiry_s, response_topic, correlation, properties)
        item.on_done = on_done
        item.resend = resend
        self._outbox.submit(item)

    async def drain(self) -> None:
        """Wait until everything that was given to this client has been taken by the broker or has failed."""
        await self._outbox.drain()

    def _outgoing(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        retain: bool,
        expiry_s: int | None,
        response_topic: str | None,
        correlation: bytes | None,
        properties: dict[str, str] | None,
    ) -> Outgoing:
        if self._closed:
            raise Disconnected("closed", "the client has been closed; nothing can be sent any more")
        if qos not in (0, 1):
            raise ValueError(f"QoS {qos} is not used on this bus; use 0 or 1")
        if not topic or "+" in topic or "#" in topic or "\0" in topic:
            raise ValueError(f"nothing can be published on {topic!r}: it is empty or has a wildcard")
        deadline = None if expiry_s is None else time.monotonic() + expiry_s
        return Outgoing(topic, payload, qos, retain, None, deadline, response_topic, correlation, properties)

    def _report(self, on_done: Done, error: BusError | None) -> None:
        if not self._inbox:
            self._loop.call_soon(self._deliver)
        self._inbox.append((on_done, error))


def _resolve(answer: asyncio.Future[None], error: BusError | None) -> None:
    if not answer.done():
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)


async def _first(answer: asyncio.Future[T], lost: asyncio.Future[Disconnected]) -> T:
    """`answer`'s result, or `Disconnected` when the connection went first."""
    pair: list[asyncio.Future[Any]] = [answer, lost]
    await asyncio.wait(pair, return_when=asyncio.FIRST_COMPLETED)
    if answer.done():
        return answer.result()
    raise lost.result()


def _properties(kind: int) -> Properties:
    return Properties(kind)  # type: ignore[no-untyped-call]


def _limits(properties: Properties | None) -> ServerLimits:
    def said(name: str, otherwise: Any) -> Any:
        return getattr(properties, name, otherwise)

    return ServerLimits(
        receive_maximum=said("ReceiveMaximum", UNLIMITED),
        max_packet_bytes=said("MaximumPacketSize", None),
        max_qos=said("MaximumQoS", 2),
        retain_available=bool(said("RetainAvailable", 1)),
        shared_subscriptions=bool(said("SharedSubscriptionAvailable", 1)),
        keepalive_s=said("ServerKeepAlive", None),
    )
