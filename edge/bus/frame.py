r"""How a binary body travels with its header in one MQTT payload: uplink batches and downlink messages.

    TG1 {"epoch":"...","first":1,"last":40,...}\n<body>

Strategy: the header is one line of JSON after a four-byte mark, so a person can read it in any MQTT tool, and it stays
with the body through brokers and protocol versions (MQTT 3.1.1) that carry no user properties.
"""

from __future__ import annotations

from typing import Any

import orjson

MARK = b"TG1 "
MAX_HEADER_BYTES = 4096

Header = dict[str, Any]


class BadFrame(ValueError):
    """The payload is not a frame; the text says what was found instead."""


def pack(header: Header, body: bytes) -> bytes:
    return MARK + orjson.dumps(header) + b"\n" + body


def unpack(payload: bytes) -> tuple[Header, bytes]:
    """Header and body; BadFrame when the mark, the header line or its JSON is missing."""
    if not payload.startswith(MARK):
        raise BadFrame(f"no {MARK.decode().strip()} mark: starts with {payload[:8]!r}")
    end = payload.find(b"\n", 0, MAX_HEADER_BYTES)
    if end < 0:
        raise BadFrame(f"no end of header within {MAX_HEADER_BYTES} bytes")
    try:
        header = orjson.loads(payload[len(MARK) : end])
    except orjson.JSONDecodeError as error:
        raise BadFrame(f"header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise BadFrame("header is not a JSON object")
    return header, payload[end + 1 :]
