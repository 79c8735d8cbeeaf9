"""MQTT 5.0 and 3.1.1 as a broker reads and writes it, from the OASIS documents alone.

Nothing of the product's own packet code is used here: what two readings of the document disagree on shows in a test.

Source: OASIS MQTT Version 5.0 (2019) and 3.1.1 (2014); section numbers below are those of 5.0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(8, 16)

# 2.2.2.2, table 2-4: identifier -> (name, type)
PROPERTIES = {
    0x01: ("payload_format", "byte"),
    0x02: ("message_expiry", "four"),
    0x03: ("content_type", "text"),
    0x08: ("response_topic", "text"),
    0x09: ("correlation", "binary"),
    0x0B: ("subscription_id", "varint"),
    0x11: ("session_expiry", "four"),
    0x12: ("assigned_client_id", "text"),
    0x13: ("server_keep_alive", "two"),
    0x15: ("auth_method", "text"),
    0x16: ("auth_data", "binary"),
    0x17: ("request_problem", "byte"),
    0x18: ("will_delay", "four"),
    0x19: ("request_response", "byte"),
    0x1A: ("response_information", "text"),
    0x1C: ("server_reference", "text"),
    0x1F: ("reason_string", "text"),
    0x21: ("receive_maximum", "two"),
    0x22: ("topic_alias_maximum", "two"),
    0x23: ("topic_alias", "two"),
    0x24: ("maximum_qos", "byte"),
    0x25: ("retain_available", "byte"),
    0x26: ("user", "pair"),
    0x27: ("maximum_packet_size", "four"),
    0x28: ("wildcard_available", "byte"),
    0x29: ("subscription_ids_available", "byte"),
    0x2A: ("shared_available", "byte"),
}
IDENTIFIERS = {name: (identifier, kind) for identifier, (name, kind) in PROPERTIES.items()}
BYTES_OF = {"byte": 1, "two": 2, "four": 4}

Properties = dict[str, Any]


class Wrong(Exception):
    """The client has sent what the document forbids."""


@dataclass(slots=True)
class Connect:
    """3.1. `version` 5 or 4 (3.1.1)."""

    version: int
    client_id: str
    clean: bool
    keep_alive_s: int
    properties: Properties
    will: Publish | None
    username: str | None
    password: bytes | None


@dataclass(slots=True)
class Publish:
    """3.3. `size` is that of the whole packet as it came."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    properties: Properties = field(default_factory=dict)
    size: int = 0


class Reader:
    """Reads the fields of one packet, in order."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise Wrong("the packet ends too early")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
            shift += 7
            if shift > 21:
                raise Wrong("a variable byte integer of more than four bytes")

    def binary(self) -> bytes:
        return self.take(self.number(2))

    def text(self) -> str:
        try:
            return self.binary().decode()
        except UnicodeDecodeError as error:
            raise Wrong("a string that is not UTF-8") from error

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def properties(self) -> Properties:
        inner = Reader(self.take(self.varint()))
        found: Properties = {}
        while inner.left:
            identifier = inner.varint()
            if identifier not in PROPERTIES:
                raise Wrong(f"property 0x{identifier:02x} does not exist")
            name, kind = PROPERTIES[identifier]
            if kind == "pair":
                found.setdefault(name, []).append((inner.text(), inner.text()))
                continue
            if name in found:
                raise Wrong(f"property {name} twice")
            if kind in BYTES_OF:
                found[name] = inner.number(BYTES_OF[kind])
            else:
                found[name] = {"varint": inner.varint, "text": inner.text, "binary": inner.binary}[kind]()
        return found


def read_connect(body: bytes) -> Connect:
    data = Reader(body)
    if data.text() != "MQTT":
        raise Wrong("the protocol is not MQTT")
    version, flags, keep_alive_s = data.number(1), data.number(1), data.number(2)
    if version not in (4, 5) or flags & 1:
        raise Wrong(f"version {version}, flags 0x{flags:02x}")
    properties = data.properties() if version == 5 else {}
    client_id = data.text()
    will = None
    if flags & 0x04:
        will_properties = data.properties() if version == 5 else {}
        will = Publish(data.text(), data.binary(), flags >> 3 & 3, bool(flags & 0x20), properties=will_properties)
    username = data.text() if flags & 0x80 else None
    password = data.binary() if flags & 0x40 else None
    return Connect(version, client_id, bool(flags & 2), keep_alive_s, properties, will, username, password)


def read_publish(flags: int, body: bytes, version: int, size: int) -> Publish:
    data = Reader(body)
    qos = flags >> 1 & 3
    topic = data.text()
    packet_id = data.number(2) if qos else 0
    properties = data.properties() if version == 5 else {}
    if qos == 3 or not topic or "+" in topic or "#" in topic or (qos and not packet_id) or (flags & 8 and not qos):
        raise Wrong(f"a PUBLISH with QoS {qos}, id {packet_id} on {topic!r}")
    return Publish(topic, data.rest(), qos, bool(flags & 1), bool(flags & 8), packet_id, properties, size)


def read_subscribe(body: bytes, version: int) -> tuple[int, list[tuple[str, int]]]:
    """Packet id and (filter, options) of each."""
    data = Reader(body)
    packet_id = data.number(2)
    if version == 5:
        data.properties()
    filters: list[tuple[str, int]] = []
    while data.left:
        filters.append((data.text(), data.number(1)))
    if not filters or not packet_id:
        raise Wrong("a SUBSCRIBE without filters or without an id")
    return packet_id, filters


def read_unsubscribe(body: bytes, version: int) -> tuple[int, list[str]]:
    data = Reader(body)
    packet_id = data.number(2)
    if version == 5:
        data.properties()
    filters: list[str] = []
    while data.left:
        filters.append(data.text())
    return packet_id, filters


# -- writing -----------------------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, byte = divmod(value, 128)
        out.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(out)


def text(value: str) -> bytes:
    raw = value.encode()
    return len(raw).to_bytes(2, "big") + raw


def properties(found: Properties) -> bytes:
    out = b""
    for name, value in found.items():
        identifier, kind = IDENTIFIERS[name]
        if kind == "pair":
            out += b"".join(bytes([identifier]) + text(key) + text(of) for key, of in value)
            continue
        out += bytes([identifier])
        if kind in BYTES_OF:
            out += int(value).to_bytes(BYTES_OF[kind], "big")
        elif kind == "varint":
            out += varint(value)
        elif kind == "text":
            out += text(value)
        else:
            out += len(value).to_bytes(2, "big") + value
    return varint(len(out)) + out


def packet(kind: int, flags: int, body: bytes) -> bytes:
    return bytes([kind << 4 | flags]) + varint(len(body)) + body


def connack(version: int, present: bool, code: int, found: Properties) -> bytes:
    body = bytes([present, code])
    return packet(CONNACK, 0, body + properties(found) if version == 5 else body)


def publish(message: Publish, version: int, packet_id: int, *, dup: bool, retain: bool, qos: int) -> bytes:
    body = text(message.topic)
    if qos:
        body += packet_id.to_bytes(2, "big")
    if version == 5:
        body += properties(message.properties)
    return packet(PUBLISH, dup << 3 | qos << 1 | retain, body + message.payload)


def acknowledge(kind: int, version: int, packet_id: int, code: int = 0) -> bytes:
    """PUBACK and its kin. A code of 0 may be left out (3.4.2.1), and 3.1.1 knows none."""
    body = packet_id.to_bytes(2, "big")
    return packet(kind, 0, body + bytes([code, 0]) if version == 5 and code else body)


def suback(kind: int, version: int, packet_id: int, codes: list[int]) -> bytes:
    """SUBACK; UNSUBACK, which in 3.1.1 has no codes."""
    body = packet_id.to_bytes(2, "big")
    if version == 5:
        return packet(kind, 0, body + b"\0" + bytes(codes))
    return packet(kind, 0, body + bytes(0x80 if code >= 0x80 else code for code in codes) * (kind == SUBACK))


def disconnect(code: int) -> bytes:
    return packet(DISCONNECT, 0, bytes([code, 0]))


# -- topics (4.7) ------------------------------------------------------------------------------------------------------


def matches(topic_filter: str, topic: str) -> bool:
    """4.7.1; a topic that begins with $ is matched by no filter that begins with a wildcard."""
    if topic.startswith("$") and topic_filter[:1] in ("+", "#"):
        return False
    wanted, given = topic_filter.split("/"), topic.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(given) or level not in ("+", given[index]):
            return False
    return len(wanted) == len(given)


def sound_filter(topic_filter: str) -> bool:
    """Whether wildcards stand where they may."""
    levels = topic_filter.split("/")
    if levels[0] == "$share" and (len(levels) < 3 or not levels[1] or set(levels[1]) & set("+#")):
        return False
    for index, level in enumerate(levels):
        if ("#" in level and (level != "#" or index != len(levels) - 1)) or ("+" in level and level != "+"):
            return False
    return bool(topic_filter)
