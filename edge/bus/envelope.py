"""The CloudEvents 1.0 envelope around every fact, and the ids and times that go into it.

Strategy: a fact is parsed once (`parse`), checked once, and from then on travels as the same dictionary. `canonical`
gives the one byte form that digests and hashes are taken over: JSON, UTF-8, keys sorted, no white space.

Source: CloudEvents 1.0.2, section "Required Attributes" and the "Sequence" extension; RFC 9562, section 5.7 (UUIDv7).
"""

from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import orjson

SPEC_VERSION = "1.0"
SEQUENCE_DIGITS = 10
CONTENT_TYPE = "application/json"

Event = dict[str, Any]


def new_id() -> str:
    """A UUIDv7: 48 bits of Unix milliseconds, then random bits; sorts by time of making (RFC 9562, section 5.7)."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def now_utc() -> str:
    """The wall clock in UTC with milliseconds, as RFC 3339: ``2026-05-04T09:30:00.000Z``."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def lane_source(store: str, lane: str) -> str:
    return f"/stores/{store}/lanes/{lane}"


def gateway_source(store: str) -> str:
    return f"/stores/{store}/gateway"


def build(
    type_: str, source: str, data: dict[str, Any], *, sequence: int | None = None, id_: str | None = None
) -> Event:
    """A CloudEvent. `sequence` is the lane's own counter (from 1); the gateway's own facts carry none."""
    event: Event = {
        "specversion": SPEC_VERSION,
        "id": id_ or new_id(),
        "source": source,
        "type": type_,
        "time": now_utc(),
        "datacontenttype": CONTENT_TYPE,
        "data": data,
    }
    if sequence is not None:
        event["sequence"] = f"{sequence:0{SEQUENCE_DIGITS}d}"
    return event


def parse(payload: bytes) -> Event:
    """JSON bytes to an event dictionary; ValueError with a readable reason when it is not one JSON object."""
    try:
        event = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(event, dict):
        raise ValueError("not a JSON object")
    return event


def canonical(event: Event) -> bytes:
    """The byte form that digests are taken over: keys sorted, no white space, UTF-8."""
    return orjson.dumps(event, option=orjson.OPT_SORT_KEYS)
