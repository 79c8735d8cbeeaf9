"""A cloud broker for tests: it routes between real clients, keeps every limit of its row, and can be told to misbehave.

Strategy: one task reads each connection, packet by packet; everything else happens in calls. What a limit forbids is
noted in `broken` and costs the connection, with the reason code the document gives where MQTT 5 has one. How a client
is treated is its `Manners` (`tests/cloud_bridge/stand_in_manners.py` has the bad ones); HQ's clients are treated well
unless a test says otherwise.

Not here, because neither end uses it: QoS 2, AUTH, topic aliases, subscription identifiers.

Source: OASIS MQTT 5.0 and 3.1.1, by section; limits: `tests/cloud_bridge/stand_in_limits.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

from tests.cloud_bridge import stand_in_packets as mqtt
from tests.cloud_bridge.stand_in_limits import Broken, Limits, Meter
from tests.cloud_bridge.stand_in_packets import Connect, Publish, Wrong

ACK_AFTER_S = 0.005
"""An acknowledgement takes its time, as on a real line: else no client would ever have two publishes out."""


@dataclass(slots=True, eq=False)
class Session:
    """What the broker knows of one client id (4.1)."""

    client_id: str
    filters: dict[str, int] = field(default_factory=dict)
    queue: deque[tuple[Publish, int, float | None]] = field(default_factory=deque)
    """Message, QoS, and when it expires."""
    out: dict[int, tuple[Publish, int, float | None]] = field(default_factory=dict)
    """Delivered with QoS 1 and not yet acknowledged."""
    last_id: int = 0
    link: Connection | None = None
    expiry_s: float = 0.0
    ends: asyncio.TimerHandle | None = None
    will: asyncio.TimerHandle | None = None


class Manners:
    """How one client is treated: as the document says. What is bad is made by overriding."""

    def connack(self, connect: Connect) -> tuple[int, mqtt.Properties] | None:
        """Reason code (of MQTT 5, translated for 3.1.1) and properties beyond those of the limits; None: no answer."""
        return 0, {}

    def connected(self, link: Connection) -> None:
        """The client has been let in."""

    def publish(self, link: Connection, message: Publish) -> None:
        """The client has published `message`."""
        link.broker.route(message)
        link.puback_soon(message)

    def deliver(self, link: Connection, message: Publish) -> bool:
        """Whether `message` may go to this client now; False: it is lost."""
        return True

    def subscribed(self, link: Connection, topic_filter: str, granted: int) -> int:
        """What SUBACK says of one filter."""
        return granted


class Connection:
    """One client's connection."""

    def __init__(self, broker: StandIn, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.broker = broker
        self.manners = Manners()
        self.session = Session("")
        self.connect: Connect
        self.unacked: dict[int, int] = {}
        """Packet id -> size of what this client has published and has no PUBACK for."""
        self.flowing = asyncio.Event()
        self.flowing.set()
        """Cleared: nothing is read any more, and nothing answered; the connection stays open."""
        self._reader, self._writer = reader, writer
        self._meter = Meter(broker.limits)
        self._loop = asyncio.get_running_loop()

    @property
    def client_id(self) -> str:
        return self.session.client_id

    @property
    def version(self) -> int:
        return self.connect.version

    # -- out -----------------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if not self._writer.is_closing() and self.flowing.is_set():
            self._writer.write(data)

    def puback_soon(self, message: Publish, code: int = 0, *, after_s: float | None = None) -> None:
        """Acknowledge a publish of QoS 1 after a while."""
        if message.qos:
            pause = self.broker.ack_after_s if after_s is None else after_s
            self._loop.call_later(pause, self.puback, message.packet_id, code)

    def puback(self, packet_id: int, code: int = 0) -> None:
        self.unacked.pop(packet_id, None)
        self.write(mqtt.acknowledge(mqtt.PUBACK, self.version, packet_id, code))

    def end(self, code: int | None = None) -> None:
        """Close, with a DISCONNECT that says why where the client's version knows one."""
        if code is not None and self.version == 5:
            self.write(mqtt.disconnect(code))
        self._writer.close()

    def reset(self) -> None:
        """Close without a word."""
        self._writer.transport.abort()

    def broke(self, limit: str, detail: str, code: int | None = None) -> None:
        """The client broke a limit: note it and end the connection."""
        self.broker.broken.append(Broken(self.client_id, limit, detail))
        self.end(code)

    # -- in ------------------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        graceful = False
        try:
            kind, flags, body = await self._packet()
            if kind != mqtt.CONNECT:
                raise Wrong("the first packet is no CONNECT")
            self.connect = mqtt.read_connect(body)
            if not self._welcome():
                return
            while not graceful:
                async with asyncio.timeout(self._patience_s()):
                    kind, flags, body = await self._packet()
                await self.flowing.wait()
                graceful = self._take(kind, flags, body)
        except TimeoutError:
            self.broker.broken.append(Broken(self.client_id, "keep_alive", "nothing came for 1.5 times its keep-alive"))
            self.end(0x8D)
        except Wrong as error:
            self.broker.broken.append(Broken(self.client_id, "protocol", str(error)))
            self._writer.close()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            self._writer.close()
            if self.session.link is self:
                self.broker.gone(self, graceful)

    async def _packet(self) -> tuple[int, int, bytes]:
        """Kind, flags and body of the next packet."""
        first = (await self._reader.readexactly(1))[0]
        length = shift = 0
        while True:
            byte = (await self._reader.readexactly(1))[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        size = 1 + shift // 7 + length
        most = self.broker.limits.packet_bytes
        if most is not None and size > most and first >> 4 != mqtt.CONNECT:
            self.broke("packet_bytes", f"{size} bytes", 0x95)
            raise asyncio.IncompleteReadError(b"", length)
        return first >> 4, first & 0x0F, await self._reader.readexactly(length)

    def _patience_s(self) -> float | None:
        """3.1.2.10: one and a half times the keep-alive."""
        asked = self.broker.said_keep_alive(self) or self.connect.keep_alive_s
        return 1.5 * max(asked, self.broker.limits.keep_alive_s[0]) if asked else None

    def _welcome(self) -> bool:
        """Answer CONNECT; whether the client is in."""
        connect, broker, limits = self.connect, self.broker, self.broker.limits
        given = not connect.client_id and (connect.clean or connect.version == 5)
        if given:  # 3.1.3.1
            connect.client_id = f"assigned-{len(broker.attempts)}"
        self.session.client_id = connect.client_id
        self.manners = broker.manners_of(connect.client_id)
        broker.attempts.append((connect.client_id, self._loop.time()))
        answer = self.manners.connack(connect)
        if answer is None:
            self.flowing.clear()
            return True  # silent for ever: what is sent is not read
        code, said = answer
        code = code or broker.unwelcome(connect)
        if code:
            if connect.version == 4:  # 3.1.1, table 3.1
                code = {0x84: 1, 0x85: 2, 0x88: 3, 0x89: 3, 0x97: 3, 0x9F: 3, 0x86: 4}.get(code, 5)
            self.write(mqtt.connack(connect.version, False, code, {}))
            return False
        found: mqtt.Properties = {"assigned_client_id": connect.client_id} if given else {}
        if limits.receive_maximum is not None:
            found["receive_maximum"] = limits.receive_maximum
        if limits.packet_bytes is not None:
            found["maximum_packet_size"] = limits.packet_bytes
        if limits.maximum_qos < 2:
            found["maximum_qos"] = limits.maximum_qos
        if not limits.retained:
            found["retain_available"] = 0
        if not limits.shared:
            found["shared_available"] = 0
        present = broker.admit(self)
        self.write(mqtt.connack(connect.version, present, 0, found | said))
        self.manners.connected(self)
        self.pump(again=True)
        return True

    def _take(self, kind: int, flags: int, body: bytes) -> bool:
        """One packet; whether it was the good-bye."""
        if kind == mqtt.PUBLISH:
            self._published(mqtt.read_publish(flags, body, self.version, len(body) + 2))
        elif kind == mqtt.PUBACK:
            self.session.out.pop(int.from_bytes(body[:2], "big"), None)
            self.pump()
        elif kind == mqtt.SUBSCRIBE:
            self._subscribe(*mqtt.read_subscribe(body, self.version))
        elif kind == mqtt.UNSUBSCRIBE:
            packet_id, filters = mqtt.read_unsubscribe(body, self.version)
            codes = [0 if self.session.filters.pop(one, None) is not None else 0x11 for one in filters]
            self.write(mqtt.suback(mqtt.UNSUBACK, self.version, packet_id, codes))
        elif kind == mqtt.PINGREQ:
            self.broker.pings += 1
            self.write(mqtt.packet(mqtt.PINGRESP, 0, b""))
        elif kind == mqtt.DISCONNECT:
            return not body or body[0] != 0x04
        else:
            raise Wrong(f"a packet of kind {kind}")
        return False

    def _published(self, message: Publish) -> None:
        limits, now = self.broker.limits, self._loop.time()
        if message.qos > limits.maximum_qos:
            return self.broke("maximum_qos", f"QoS {message.qos}", 0x9B)
        if message.retain and (
            not limits.retained or len(message.payload) > (limits.retained_bytes or len(message.payload))
        ):
            return self.broke("retained", message.topic, 0x9A)
        slashes = message.topic.count("/")
        if len(message.topic.encode()) > limits.topic_bytes or slashes > (limits.topic_slashes or slashes):
            return self.broke("topic", message.topic, 0x90)
        if message.qos:
            if message.packet_id in self.unacked and not message.dup:
                raise Wrong(f"packet id {message.packet_id} is in use")
            self.unacked[message.packet_id] = message.size
            if len(self.unacked) > (self.broker.said_receive_maximum(self) or 0xFFFF):
                return self.broke("receive_maximum", f"{len(self.unacked)} unacknowledged", 0x93)
            in_flight = sum(self.unacked.values())
            if limits.in_flight_bytes is not None and in_flight > limits.in_flight_bytes:
                return self.broke("in_flight_bytes", f"{in_flight} bytes unacknowledged", 0x97)
        if not self._meter.within("bytes in", limits.bytes_per_s, message.size, now):
            return self.broke("bytes_per_s", f"{message.size} bytes too many", 0x97)
        if not self._meter.within("in", limits.publishes_per_s, 1, now):
            if limits.discards_above_rate:
                self.broker.broken.append(Broken(self.client_id, "publishes_per_s", message.topic))
                return None
            return self.broke("publishes_per_s", message.topic, 0x96)
        self.broker.received.append((self.client_id, message))
        self.manners.publish(self, message)
        return None

    def _subscribe(self, packet_id: int, filters: list[tuple[str, int]]) -> None:
        limits = self.broker.limits
        if len(filters) > (limits.filters_per_subscribe or len(filters)):
            return self.broke("filters_per_subscribe", f"{len(filters)} filters", 0x97)
        codes, fresh = [], []
        for topic_filter, options in filters:
            shared = topic_filter.startswith("$share/")
            plain = topic_filter.split("/", 2)[2] if shared and topic_filter.count("/") > 1 else topic_filter
            if not mqtt.sound_filter(topic_filter):
                code = 0x8F
            elif shared and not self.broker.said(self, "shared_available", limits.shared):
                code = 0x9E
            elif set(plain) & set("+#") and not self.broker.said(self, "wildcard_available", 1):
                code = 0xA2
            else:
                code = self.manners.subscribed(self, topic_filter, min(options & 3, limits.maximum_qos, 1))
            slashes = plain.count("/")
            if len(plain.encode()) > limits.topic_bytes or slashes > (limits.topic_slashes or slashes):
                return self.broke("topic", topic_filter, 0x8F)
            codes.append(code)
            if code < 0x80:
                if topic_filter not in self.session.filters:
                    fresh.append((topic_filter, code))
                self.session.filters[topic_filter] = code
        if len(self.session.filters) > (limits.subscriptions or len(self.session.filters)):
            return self.broke("subscriptions", f"{len(self.session.filters)} of them", 0x97)
        self.broker.subscribes.append((self.client_id, len(filters)))
        self.write(mqtt.suback(mqtt.SUBACK, self.version, packet_id, codes))
        for topic_filter, qos in fresh:
            if not topic_filter.startswith("$share/"):  # 3.8.4: retained messages go to plain subscriptions only
                for message in [
                    kept for name, kept in self.broker.retained.items() if mqtt.matches(topic_filter, name)
                ]:
                    self.broker.hand(self.session, replace(message, retain=True), qos)
        return None

    # -- to this client ------------------------------------------------------------------------------------------------

    def pump(self, *, again: bool = False) -> None:
        """Deliver what waits, within the client's Receive Maximum (4.9); `again`: first what it never acknowledged."""
        session, now = self.session, self._loop.time()
        if again:
            for packet_id, (message, _, _) in list(session.out.items()):
                self.write(mqtt.publish(message, self.version, packet_id, dup=True, retain=message.retain, qos=1))
        window = self.connect.properties.get("receive_maximum", 0xFFFF)
        while session.queue and (len(session.out) < window or not session.queue[0][1]):
            message, qos, expires = session.queue.popleft()
            if expires is not None and expires <= now:
                continue
            if expires is not None:  # 3.3.2.3.3: what is left of it
                left = {"message_expiry": max(1, round(expires - now))}
                message = replace(message, properties=message.properties | left)
            if not self.manners.deliver(self, message):
                continue
            packet_id = 0
            if qos:
                packet_id = session.last_id = next(
                    one for one in (*range(session.last_id + 1, 65_536), *range(1, 65_536)) if one not in session.out
                )
            data = mqtt.publish(message, self.version, packet_id, dup=False, retain=message.retain, qos=qos)
            if len(data) > self.connect.properties.get("maximum_packet_size", len(data)):
                continue  # 3.1.2.11.4: as if it had been delivered
            if qos:
                session.out[packet_id] = (message, qos, expires)
            if not self._meter.within("out", self.broker.limits.publishes_per_s, 1, now):
                self.broker.broken.append(Broken(self.client_id, "publishes_per_s out", message.topic))
            self.write(data)


class StandIn:
    """The broker. Enter it with ``async with``; `port` is where it listens."""

    def __init__(self, limits: Limits | None = None, *, ack_after_s: float = ACK_AFTER_S) -> None:
        self.port = 0
        self.limits = limits or Limits()
        self.ack_after_s = ack_after_s
        self.broken: list[Broken] = []
        self.attempts: list[tuple[str, float]] = []
        """Every CONNECT: client id and when (event loop's time)."""
        self.received: list[tuple[str, Publish]] = []
        """Every publish that came, in order."""
        self.subscribes: list[tuple[str, int]] = []
        self.pings = 0
        self.retained: dict[str, Publish] = {}
        self._manners: dict[str, Manners] = {}
        self._said: dict[str, mqtt.Properties] = {}
        self._sessions: dict[str, Session] = {}
        self._turn: dict[str, int] = {}
        self._links: dict[Connection, asyncio.Task[None] | None] = {}
        self._server: asyncio.Server | None = None
        self._tls: ssl.SSLContext | None = None
        self._last_connect: dict[str, float] = {}

    # -- running -------------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[StandIn]:
        self._tls = tls
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    async def start(self) -> None:
        """Listen; on the same port as before when it was stopped."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and every connection, and forget all sessions, as a broker without persistence does."""
        if self._server is not None:
            self._server.close()
        tasks = [task for task in self._links.values() if task is not None]
        for link, task in list(self._links.items()):
            link.reset()
            if task is not None:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in self._sessions.values():
            for timer in (session.ends, session.will):
                if timer is not None:
                    timer.cancel()
        self._sessions.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Connection(self, reader, writer)
        self._links[link] = asyncio.current_task()
        try:
            await link.serve()
        finally:
            del self._links[link]

    # -- how clients are treated ---------------------------------------------------------------------------------------

    def treat(self, client_id: str, manners: Manners) -> None:
        """Treat this client so, from now on."""
        self._manners[client_id] = manners
        if (link := self.link(client_id)) is not None:
            link.manners = manners

    def manners_of(self, client_id: str) -> Manners:
        return self._manners.get(client_id) or Manners()

    def link(self, client_id: str) -> Connection | None:
        """The client's connection."""
        session = self._sessions.get(client_id)
        return session.link if session else None

    def said(self, link: Connection, name: str, otherwise: Any) -> Any:
        """What CONNACK told this client."""
        answer = link.manners.connack(link.connect)
        return (answer[1] if answer else {}).get(name, otherwise)

    def said_receive_maximum(self, link: Connection) -> int | None:
        told = self.said(link, "receive_maximum", self.limits.receive_maximum)
        return None if told is None else int(told)

    def said_keep_alive(self, link: Connection) -> int:
        return int(self.said(link, "server_keep_alive", 0))

    def unwelcome(self, connect: Connect) -> int:
        """The reason code that this CONNECT gets because of a limit; 0: none."""
        limits, now, who = self.limits, asyncio.get_running_loop().time(), connect.client_id
        last = self._last_connect.get(who)
        self._last_connect[who] = now
        if last is not None and now - last < limits.connect_gap_s:
            self.broken.append(Broken(who, "connect_gap_s", f"{now - last:.2f} s after the last"))
            return 0x9F
        if not who or len(who.encode()) > limits.client_id_bytes:
            self.broken.append(Broken(who, "client_id_bytes", who))
            return 0x85
        if connect.keep_alive_s > limits.keep_alive_s[1]:
            self.broken.append(Broken(who, "keep_alive_s", f"{connect.keep_alive_s} s"))
            return 0x83
        if connect.will is not None and connect.will.retain and not limits.retained:
            self.broken.append(Broken(who, "retained", "the will"))
            return 0x9A
        return 0

    # -- sessions (3.1.2.4, 3.1.2.11.2) --------------------------------------------------------------------------------

    def admit(self, link: Connection) -> bool:
        """Give `link` its session; whether there was one."""
        connect = link.connect
        session = self._sessions.get(connect.client_id)
        if session is not None:
            for timer in (session.ends, session.will):
                if timer is not None:
                    timer.cancel()
            session.ends = session.will = None
            if session.link is not None:
                taken, session.link = session.link, None
                taken.end(0x8E)
        present = session is not None and not connect.clean
        if session is None or connect.clean:
            session = self._sessions[connect.client_id] = Session(connect.client_id)
        asked = connect.properties.get("session_expiry", 0) if connect.version == 5 else 0 if connect.clean else 1e9
        session.expiry_s = min(asked, self.limits.session_s)
        session.link, link.session = link, session
        return present

    def gone(self, link: Connection, graceful: bool) -> None:
        """A connection has ended."""
        session, loop = link.session, asyncio.get_running_loop()
        session.link = None
        if link.connect.will is not None and not graceful:
            delay_s = link.connect.will.properties.pop("will_delay", 0)
            session.will = loop.call_later(min(delay_s, session.expiry_s), self.route, link.connect.will)
        if session.expiry_s:
            session.ends = loop.call_later(session.expiry_s, self._sessions.pop, session.client_id, None)
        else:
            self._sessions.pop(session.client_id, None)

    # -- routing (3.3.4, 4.8.2) ----------------------------------------------------------------------------------------

    def route(self, message: Publish) -> int:
        """Hand `message` to everybody who wants it; how many that were."""
        if message.retain:
            if message.payload:
                self.retained[message.topic] = message
            else:
                self.retained.pop(message.topic, None)
        plain = replace(message, retain=False, dup=False)
        groups: dict[str, list[tuple[Session, int]]] = {}
        handed = 0
        for session in list(self._sessions.values()):
            best = -1
            for topic_filter, qos in session.filters.items():
                if topic_filter.startswith("$share/"):
                    if mqtt.matches(topic_filter.split("/", 2)[2], message.topic):
                        groups.setdefault(topic_filter, []).append((session, qos))
                elif mqtt.matches(topic_filter, message.topic):
                    best = max(best, qos)
            if best >= 0:
                self.hand(session, plain, best)
                handed += 1
        for name, members in groups.items():
            there = [one for one in members if one[0].link is not None] or members
            turn = self._turn[name] = self._turn.get(name, 0) + 1
            session, qos = there[turn % len(there)]
            self.hand(session, plain, qos)
            handed += 1
        return handed

    def hand(self, session: Session, message: Publish, qos: int) -> None:
        """Queue `message` for one session, and deliver what may be delivered."""
        qos = min(qos, message.qos)
        if session.link is None:
            if not qos:
                return
            limits = self.limits
            size = sum(len(one.payload) for one, _, _ in session.queue) + len(message.payload)
            if len(session.queue) >= (limits.queued or 1 << 30) or size > (limits.queued_bytes or 1 << 40):
                self.broken.append(Broken(session.client_id, "queued", f"{len(session.queue)} messages"))
                if limits.overflow_ends_session:
                    self._sessions.pop(session.client_id, None)
                return
        expiry_s = message.properties.get("message_expiry")
        expires = None if expiry_s is None else asyncio.get_running_loop().time() + expiry_s
        session.queue.append((message, qos, expires))
        if session.link is not None:
            session.link.pump()
