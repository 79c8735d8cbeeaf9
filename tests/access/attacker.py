"""An MQTT client that does as it is told, also what no honest one does: packets made by hand, over TLS or plain.

Written from the MQTT specifications and nothing of ours: 3.1.1 (OASIS, 29 October 2014) and 5.0 (OASIS, 7 March 2019),
sections 2.1-2.2 (fixed header, remaining length), 3.1 CONNECT, 3.2 CONNACK, 3.3 PUBLISH, 3.4 PUBACK, 3.8 SUBSCRIBE,
3.9 SUBACK, 3.14 DISCONNECT.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from edge.bus.address import TlsFiles

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = 1, 2, 3, 4, 8, 9, 12, 13, 14
WITHIN_S = 30.0
V5, V311 = 5, 4


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet that came: its type, the flags beside it, and what follows the fixed header."""

    kind: int
    flags: int
    body: bytes


class Gone(Exception):
    """The other end has closed the connection, or refused the handshake; the text says how."""


def packet(kind: int, flags: int, body: bytes) -> bytes:
    """A whole packet: 2.2."""
    length, size = bytearray(), len(body)
    while True:
        size, digit = size >> 7, size & 0x7F
        length.append(digit | (0x80 if size else 0))
        if not size:
            return bytes([kind << 4 | flags]) + bytes(length) + body


def text(value: str | bytes) -> bytes:
    """A string or binary data with its two bytes of length: 1.5.3."""
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(2) + raw


@dataclass(frozen=True, slots=True)
class Will:
    """A last will: 3.1.2.5."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True


class Attacker:
    """One connection. All that it sends is made here; `received` holds the PUBLISH packets that came while waiting."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, version: int = V5) -> None:
        self.reader, self.writer, self.version = reader, writer, version
        self.received: list[tuple[str, bytes]] = []
        self._number = 0

    # -- what is sent --------------------------------------------------------------------------------------------------

    async def connect(self, client_id: str = "x", username: str | None = None, will: Will | None = None) -> int:
        """CONNECT with a clean start; the code of the CONNACK, 0 for success. Raises Gone."""
        flags = 0x02 | (0x80 if username is not None else 0)
        if will is not None:
            flags |= 0x04 | will.qos << 3 | (0x20 if will.retain else 0)
        no_properties = b"\0" if self.version == V5 else b""
        body = text("MQTT") + bytes([self.version, flags]) + (60).to_bytes(2) + no_properties + text(client_id)
        if will is not None:
            body += no_properties + text(will.topic) + text(will.payload)
        if username is not None:
            body += text(username)
        await self.send(packet(CONNECT, 0, body))
        return (await self.expect(CONNACK)).body[1]

    def publication(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, properties: bytes = b""
    ) -> bytes:
        """A PUBLISH packet."""
        self._number = self._number % 65_535 + 1
        middle = self._number.to_bytes(2) if qos else b""
        if self.version == V5:
            middle += bytes([len(properties)]) + properties
        return packet(PUBLISH, qos << 1 | int(retain), text(topic) + middle + payload)

    async def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, properties: bytes = b""
    ) -> int:
        """PUBLISH; with QoS 1 the reason code of the PUBACK (0 in 3.1.1, which has none)."""
        await self.send(self.publication(topic, payload, qos=qos, retain=retain, properties=properties))
        if not qos:
            return 0
        answer = (await self.expect(PUBACK)).body
        return answer[2] if len(answer) > 2 else 0

    async def subscribe(self, topic_filter: str, qos: int = 1) -> int:
        """SUBSCRIBE; the code of the SUBACK: below 128 it was granted."""
        self._number = self._number % 65_535 + 1
        no_properties = b"\0" if self.version == V5 else b""
        await self.send(
            packet(SUBSCRIBE, 2, self._number.to_bytes(2) + no_properties + text(topic_filter) + bytes([qos]))
        )
        return (await self.expect(SUBACK)).body[-1]

    async def ping(self) -> None:
        """PINGREQ and its answer: the connection lives. Raises Gone."""
        await self.send(packet(PINGREQ, 0, b""))
        await self.expect(PINGRESP)

    async def send(self, data: bytes) -> None:
        """These bytes, whatever they are. Raises Gone."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except OSError as error:
            raise Gone(str(error)) from None

    # -- what comes ----------------------------------------------------------------------------------------------------

    async def expect(self, kind: int) -> Packet:
        """The next packet of this kind; publications before it are kept and acknowledged. Raises Gone."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                came = await self.read()
                if came.kind == kind:
                    return came
                if came.kind == DISCONNECT:
                    raise Gone(f"DISCONNECT {came.body.hex()}")

    async def read(self) -> Packet:
        """The next packet. Raises Gone."""
        try:
            first = (await self.reader.readexactly(1))[0]
            size = shift = 0
            while True:
                digit = (await self.reader.readexactly(1))[0]
                size |= (digit & 0x7F) << shift
                shift += 7
                if not digit & 0x80:
                    break
            body = await self.reader.readexactly(size)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Gone(str(error)) from None
        came = Packet(first >> 4, first & 0x0F, body)
        if came.kind == PUBLISH:
            await self._took(came)
        return came

    async def _took(self, came: Packet) -> None:
        size = int.from_bytes(came.body[:2])
        topic, rest = came.body[2 : 2 + size].decode(), came.body[2 + size :]
        if came.flags & 0x06:
            number, rest = rest[:2], rest[2:]
            await self.send(packet(PUBACK, 0, number))
        if self.version == V5:
            rest = rest[1 + rest[0] :]
        self.received.append((topic, rest))

    async def gone(self) -> str:
        """Wait until the other end closes; how it did."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                try:
                    came = await self.read()
                except Gone as error:
                    return str(error)
                if came.kind == DISCONNECT:
                    return f"DISCONNECT {came.body.hex()}"

    def drop(self) -> None:
        """Cut the connection without a word, so that a last will is published."""
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def attacker(
    where: int | Path, trust: ssl.SSLContext | TlsFiles | None = None, version: int = V5
) -> AsyncIterator[Attacker]:
    """A connection to a port of 127.0.0.1 or a unix socket, with TLS where `trust` is given; MQTT is up to the caller.

    Raises Gone when the handshake is refused. In TLS 1.3 a server judges the client's certificate after the client is
    done: that refusal comes with the first read (RFC 8446, 4.4.2.4 and 6.2).
    """
    context = anything_goes(trust) if isinstance(trust, TlsFiles) else trust
    try:
        if isinstance(where, Path):
            reader, writer = await asyncio.open_unix_connection(where)
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", where, ssl=context)
    except OSError as error:
        raise Gone(str(error)) from None
    try:
        yield Attacker(reader, writer, version)
    finally:
        writer.transport.abort()


def anything_goes(files: TlsFiles | None = None) -> ssl.SSLContext:
    """A client's TLS that asks nothing of the server, with this identity or none, of any version there is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if files is not None and files.certificate is not None:
        context.load_cert_chain(files.certificate, files.key)
    return context
