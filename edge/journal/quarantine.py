"""The quarantine table: bad input with its reason, bounded in rows and bytes.

Strategy: the very same thing from the same place counts up its row instead of making another, so that a till in a loop
costs one row. When there is too much, the oldest rows go; how many messages went stays counted (the table's triggers
keep the totals). The payload is sealed; the reason is in plain and says what would be right, not what was found.
"""

from __future__ import annotations

import hashlib

from edge.journal.entries import Statement
from edge.journal.sealing import Place
from edge.seal import Seal, Unsealable

MAX_ROWS = 10_000
MAX_BYTES = 32 * 1024 * 1024
PAYLOAD_BYTES = 64 * 1024
"""So much of a payload is kept; its true size stands beside it."""
PLACE = Place("quarantine", ("fingerprint",), "payload", "quarantine")
_EVICTED_AT_ONCE = 16


def keep(
    seal: Seal, at: str, *, origin: str, lane: str | None, code: str, reason: str, payload: bytes
) -> list[Statement]:
    """The statements that keep one bad message. `at`: UTC, RFC 3339; `origin`: topic or device; `code`: stable."""
    fingerprint = hashlib.sha256("\0".join((origin, lane or "", code, "")).encode(errors="replace") + payload).digest()
    kept = PLACE.sealed(seal, (fingerprint,), payload[:PAYLOAD_BYTES])
    return [
        (
            "INSERT INTO quarantine"
            " (received_at, last_at, origin, lane, code, reason, payload, size_bytes, fingerprint, count)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1)"
            " ON CONFLICT (fingerprint) DO UPDATE SET count = count + 1, last_at = excluded.last_at",
            (at, at, _text(origin), lane, code, _text(_without_value(reason)), kept, len(payload), fingerprint),
        ),
        (
            "DELETE FROM quarantine WHERE id IN (SELECT id FROM quarantine ORDER BY id LIMIT ?)"
            " AND (SELECT kept_rows > ? OR kept_bytes > ? FROM quarantine_totals)",
            (_EVICTED_AT_ONCE, MAX_ROWS, MAX_BYTES),
        ),
    ]


def opened(seal: Seal, fingerprint: bytes, stored: bytes) -> bytes:
    """The payload of a row; as it lies there when its key is missing, or it was changed."""
    try:
        return PLACE.plain(seal, (fingerprint,), stored, lets_plain=True)  # people look at it, nothing acts on it
    except Unsealable:
        return stored


def _without_value(reason: str) -> str:
    """The reason without what was found: that stands in the payload, which is sealed."""
    return reason.partition(" (found ")[0]


def _text(value: str) -> str:
    """The text with what UTF-8 cannot carry replaced, and not longer than 2,000 characters."""
    return value[:2_000].encode(errors="replace").decode()
