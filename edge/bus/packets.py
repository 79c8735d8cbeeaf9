"""The two MQTT packets of the hot path, PUBLISH and PUBACK, and how packets are cut out of a byte stream.

Strategy: no I/O, no clock. `Framer` takes bytes as they come and gives whole packets; `encode_*` and `decode_*` are one
function per packet and direction. The MQTT library decodes the same packets at about ten times the cost (an object with
a lock and a dictionary of properties each), which a till's `accepted` would have to wait for; everything that is rare
(CONNECT, SUBSCRIBE, DISCONNECT) is left to the library.

Source: OASIS MQTT Version 5.0, sections 2.1 (fixed header), 2.2.2 (properties), 3.3 (PUBLISH), 3.4 (PUBACK); MQTT
Version 3.1.1 is the same without properties and without a reason code. QoS 2 is not used on this bus.

    PUBLISH   0011 DQQR | remaining length | topic length (2) | topic | packet id (2, QoS 1)
              | properties length | properties | payload            D = duplicate, Q = QoS, R = retain
    PUBACK    0100 0000 | remaining length | packet id (2) | reason code | properties length | properties
"""

from __future__ import annotations

import struct
from typing import NamedTuple

CONNACK = 0x20
PUBLISH = 0x30
PUBACK = 0x40
PINGRESP = 0xD0
PING = b"\xc0\x00"

PUBACK_REASONS = {
    0x80: "unspecified error",
    0x83: "implementation specific error",
    0x87: "not authorized",
    0x90: "topic name invalid",
    0x91: "packet identifier in use",
    0x95: "packet too large",
    0x97: "quota exceeded",
    0x99: "payload format invalid",
}
"""MQTT 5, table 3-4: the codes of 0x80 and above."""

_U16 = struct.Struct("!H")
_U32 = struct.Struct("!I")
_PUBACK_PACKET = struct.Struct("!BBH")

# Property identifiers that a PUBLISH can carry (MQTT 5, table 2-4).
_PAYLOAD_FORMAT, _EXPIRY, _CONTENT_TYPE, _RESPONSE_TOPIC, _CORRELATION = 0x01, 0x02, 0x03, 0x08, 0x09
_SUBSCRIPTION_ID, _TOPIC_ALIAS, _USER = 0x0B, 0x23, 0x26


class Malformed(Exception):
    """The peer sent what is not MQTT, or more than was agreed. The connection cannot be used any further."""


Packet = tuple[int, bytes]
"""One whole packet: the first byte of the fixed header, and everything after the remaining length."""


def join(header: int, body: bytes) -> bytes:
    """A packet's bytes as they stood on the wire."""
    return b"%c%b%b" % (header, _encode_varint(len(body)), body)


class Framer:
    """Cuts packets out of a stream. `feed` returns those that are complete; the rest waits for more bytes."""

    def __init__(self, max_packet_bytes: int) -> None:
        self._max = max_packet_bytes
        self._rest = bytearray()
        self._need = 0

    def feed(self, data: bytes) -> list[Packet]:
        """Packets completed by `data`, in order. Raises `Malformed`."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return []
            data = bytes(self._rest)
        packets: list[Packet] = []
        at, end = 0, len(data)
        while end - at >= 2:
            length = data[at + 1]
            start = at + 2
            if length & 0x80:
                length, start = self._long_length(data, at)
                if start == 0:
                    break
            stop = start + length
            if stop - at > self._max:
                raise Malformed(f"a packet of {stop - at} bytes came; {self._max} were agreed")
            if stop > end:
                self._need = stop - at
                break
            packets.append((data[at], data[start:stop]))
            at = stop
        else:
            self._need = 2
        self._rest = bytearray(data[at:])
        return packets

    def _long_length(self, data: bytes, at: int) -> tuple[int, int]:
        """Remaining length of more than one byte and where the body starts; start 0 when bytes are still missing."""
        length = shift = 0
        for index in range(at + 1, at + 5):
            if index >= len(data):
                self._need = len(data) - at + 1
                return 0, 0
            length |= (data[index] & 0x7F) << shift
            shift += 7
            if not data[index] & 0x80:
                return length, index + 1
        raise Malformed("a remaining length of more than four bytes came")


class Publish(NamedTuple):
    """A received PUBLISH. `properties` are still packed: see `decode_properties`."""

    topic: bytes
    payload: bytes
    qos: int
    retain: bool
    packet_id: int
    properties: bytes


class PublishProperties(NamedTuple):
    """What a PUBLISH carries besides topic and payload; `expiry_s` is what is left of it."""

    response_topic: str | None = None
    correlation: bytes | None = None
    expiry_s: int | None = None
    user: tuple[tuple[str, str], ...] = ()


NO_PROPERTIES = PublishProperties()


def decode_publish(header: int, body: bytes, version: int) -> Publish:
    """A PUBLISH's parts. Raises `Malformed`."""
    qos = (header >> 1) & 0x03
    if qos > 1:
        raise Malformed("a message of QoS 2 came; nothing was subscribed above QoS 1")
    try:
        at = 2 + (body[0] << 8 | body[1])
        topic = body[2:at]
        packet_id = 0
        if qos:
            packet_id = body[at] << 8 | body[at + 1]
            at += 2
        properties = b""
        if version == 5:
            length, at = _varint(body, at)
            if length:
                properties = body[at : at + length]
                at += length
    except IndexError:
        raise Malformed("a PUBLISH ended too early") from None
    if at > len(body):
        raise Malformed("a PUBLISH ended too early")
    return Publish(topic, body[at:], qos, bool(header & 0x01), packet_id, properties)


def decode_properties(packed: bytes) -> PublishProperties:
    """The properties of a PUBLISH. Raises `Malformed` for an unknown one: its length cannot be known."""
    response_topic: str | None = None
    correlation: bytes | None = None
    expiry_s: int | None = None
    user: list[tuple[str, str]] = []
    at = 0
    try:
        while at < len(packed):
            kind = packed[at]
            at += 1
            if kind == _EXPIRY:
                (expiry_s,) = _U32.unpack_from(packed, at)
                at += 4
            elif kind == _RESPONSE_TOPIC:
                text, at = _binary(packed, at)
                response_topic = text.decode()
            elif kind == _CORRELATION:
                correlation, at = _binary(packed, at)
            elif kind == _USER:
                name, at = _binary(packed, at)
                value, at = _binary(packed, at)
                user.append((name.decode(), value.decode()))
            elif kind == _CONTENT_TYPE:
                _, at = _binary(packed, at)
            elif kind == _PAYLOAD_FORMAT:
                at += 1
            elif kind == _SUBSCRIPTION_ID:
                _, at = _varint(packed, at)
            elif kind == _TOPIC_ALIAS:
                raise Malformed("a topic alias came; none were agreed")
            else:
                raise Malformed(f"an unknown property 0x{kind:02x} came in a PUBLISH")
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise Malformed(f"the properties of a PUBLISH are damaged: {error}") from error
    return PublishProperties(response_topic, correlation, expiry_s, tuple(user))


def encode_publish(
    topic: bytes, payload: bytes, *, qos: int, retain: bool, duplicate: bool, packet_id: int, properties: bytes | None
) -> bytes:
    """A PUBLISH. `properties` from `encode_properties`; None for MQTT 3.1.1, which has none."""
    header = PUBLISH | (duplicate << 3) | (qos << 1) | retain
    parts = _U16.pack(len(topic)) + topic
    if qos:
        parts += _U16.pack(packet_id)
    if properties is not None:
        parts += properties
    length = len(parts) + len(payload)
    if length < 0x80:
        return b"%c%c%b%b" % (header, length, parts, payload)
    return b"%c%b%b%b" % (header, _encode_varint(length), parts, payload)


def encode_properties(
    expiry_s: int | None,
    response_topic: str | None,
    correlation: bytes | None,
    user: dict[str, str] | None,
) -> bytes:
    """The property section of an MQTT 5 PUBLISH with its length in front."""
    packed = b""
    if expiry_s is not None:
        packed += b"\x02" + _U32.pack(expiry_s)
    if response_topic is not None:
        packed += b"\x08" + _packed_binary(response_topic.encode())
    if correlation is not None:
        packed += b"\x09" + _packed_binary(correlation)
    if user:
        for name, value in user.items():
            packed += b"\x26" + _packed_binary(name.encode()) + _packed_binary(value.encode())
    return _encode_varint(len(packed)) + packed


def encode_puback(packet_id: int) -> bytes:
    """A PUBACK that says success."""
    return _PUBACK_PACKET.pack(PUBACK, 2, packet_id)


def decode_puback(body: bytes) -> tuple[int, int]:
    """(packet id, reason code) of a PUBACK; the code is 0 when it is left out. Raises `Malformed`."""
    if len(body) < 2:
        raise Malformed("a PUBACK ended too early")
    return body[0] << 8 | body[1], body[2] if len(body) > 2 else 0


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = data[at]
    if value < 0x80:
        return value, at + 1
    value &= 0x7F
    for shift in (7, 14, 21):
        at += 1
        value |= (data[at] & 0x7F) << shift
        if data[at] < 0x80:
            return value, at + 1
    raise Malformed("a length of more than four bytes came")


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _binary(data: bytes, at: int) -> tuple[bytes, int]:
    stop = at + 2 + (data[at] << 8 | data[at + 1])
    if stop > len(data):
        raise IndexError("cut off")
    return data[at + 2 : stop], stop


def _packed_binary(value: bytes) -> bytes:
    if len(value) > 0xFFFF:
        raise ValueError(f"{len(value)} bytes do not fit into an MQTT property; at most 65535 do")
    return _U16.pack(len(value)) + value
