"""MQTT packets as the specification has them, written without a look at ours: what a broker sends to the fuzzer's prey.

Source: OASIS MQTT Version 5.0, sections 2.1.4 (variable byte integer), 2.2.2.2 (property identifiers), 3.3 (PUBLISH).
"""

from __future__ import annotations

from random import Random

PAYLOAD_FORMAT, EXPIRY, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION, SUBSCRIPTION, ALIAS, USER = (
    1, 2, 3, 8, 9, 11, 35, 38,
)  # fmt: skip


def packet(header: int, body: bytes) -> bytes:
    """A whole packet."""
    return bytes((header,)) + variable(len(body)) + body


def variable(number: int) -> bytes:
    """A variable byte integer: seven bits a byte, the lowest first, the eighth bit says that there is more."""
    out = b""
    while True:
        number, seven = divmod(number, 128)
        out += bytes((seven | (0x80 if number else 0),))
        if not number:
            return out


def text(value: str | bytes) -> bytes:
    """A text or binary with its length in two bytes before it."""
    data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    return len(data).to_bytes(2, "big") + data


def publish(
    topic: str | bytes, payload: bytes, *, qos: int = 1, retain: bool = False, number: int = 7, properties: bytes = b""
) -> bytes:
    """A PUBLISH of MQTT 5."""
    body = text(topic) + (number.to_bytes(2, "big") if qos else b"") + variable(len(properties)) + properties + payload
    return packet(0x30 | qos << 1 | retain, body)


def properties(random: Random, lane: str, other: str) -> bytes:
    """What a till may send along: nothing, as a rule; a place for the answer, its own or another's; a short life."""
    if random.random() < 0.5:
        return b""
    out = b""
    if random.random() < 0.4:
        out += bytes((EXPIRY,)) + random.choice((0, 1, 1, 2)).to_bytes(4, "big")
    if random.random() < 0.5:
        where = random.choice((
            f"tg/v1/lanes/{lane}/replies", f"tg/v1/lanes/{lane}/replies/7", f"tg/v1/lanes/{other}/replies", "#", "",
            f"tg/v1/lanes/{lane}/../{other}", f"tg/v1/lanes/{lane}/+", f"tg/v1/lanes/{lane}/\0", "tg/v1/gateway/status",
            f"tg/v1/lanes/{lane}/facts", f"tg/v1/lanes/{lane}/requests/drawer.open",
            f"tg/v1/lanes/{lane}/{'a' * 65_000}",
        ))  # fmt: skip
        out += bytes((RESPONSE_TOPIC,)) + text(where)
    if random.random() < 0.5:
        out += bytes((CORRELATION,)) + text(random.randbytes(random.choice((0, 8, 300))))
    if random.random() < 0.2:
        out += bytes((USER,)) + text("a") + text("b" * random.choice((0, 3, 1000)))
    if random.random() < 0.2:
        out += bytes((PAYLOAD_FORMAT, random.choice((0, 1)), CONTENT_TYPE)) + text("application/json")
    return out
