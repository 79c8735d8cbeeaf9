"""A CONNACK made fit for the MQTT library, which turns away brokers that the document allows.

The library refuses a Maximum Packet Size above 268,435,455 as malformed, although any four bytes but zero are allowed
and some brokers say 268,435,460, the size of the largest packet there can be.

Source: OASIS MQTT Version 5.0, sections 2.2.2.2 (property types), 3.2.2.3.6 (Maximum Packet Size).
"""

from __future__ import annotations

LIBRARY_BEARS_BYTES = 268_435_455
MAXIMUM_PACKET_SIZE = 0x27

_LENGTHS = {0x24: 1, 0x25: 1, 0x28: 1, 0x29: 1, 0x2A: 1, 0x13: 2, 0x21: 2, 0x22: 2, 0x11: 4, MAXIMUM_PACKET_SIZE: 4}
_TEXTS = {0x12: 1, 0x15: 1, 0x16: 1, 0x1A: 1, 0x1C: 1, 0x1F: 1, 0x26: 2}
"""How many texts (or binaries), each with its length in front, the property holds."""


def bounded(body: bytes) -> bytes:
    """The body of an MQTT 5 CONNACK with a Maximum Packet Size that the library bears. What is damaged stays so."""
    at = 2
    while at < len(body) and body[at] & 0x80:  # the length of all properties
        at += 1
    at += 1
    while at < len(body):
        kind = body[at]
        at += 1
        if kind == MAXIMUM_PACKET_SIZE and int.from_bytes(body[at : at + 4], "big") > LIBRARY_BEARS_BYTES:
            return body[:at] + LIBRARY_BEARS_BYTES.to_bytes(4, "big") + body[at + 4 :]
        if kind in _LENGTHS:
            at += _LENGTHS[kind]
        elif kind in _TEXTS:
            for _ in range(_TEXTS[kind]):
                at += 2 + int.from_bytes(body[at : at + 2], "big")
        else:
            break
    return body
