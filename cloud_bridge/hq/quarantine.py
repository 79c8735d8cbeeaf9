"""What came and is not taken: kept whole in the table ``rejected``, with its reason, up to a bound."""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from cloud_bridge.hq import schema

KEPT_PAYLOAD_BYTES = 256 * 1024
KEPT_REJECTED = 10_000
"""What comes beyond it is counted on the last row, not kept."""


def keep(db: Connection, topic: str, payload: bytes, reason: str, now: str, *, alarm: bool) -> None:
    """Keep a message that cannot be recorded, with its `reason`; `alarm`: a person must look. The same again counts."""
    fingerprint = hashlib.sha256(topic.encode() + b"\0" + payload).hexdigest()
    kept = db.execute(select(func.count()).select_from(schema.rejected)).scalar() or 0
    if kept >= KEPT_REJECTED:
        last = select(func.max(schema.rejected.c.id)).scalar_subquery()
        again = update(schema.rejected).where(schema.rejected.c.id == last)
        db.execute(again.values(times=schema.rejected.c.times + 1, last_at=now))
        return
    insert: Any = sqlite.insert if db.dialect.name == "sqlite" else postgresql.insert
    statement = insert(schema.rejected).values(
        at=now,
        last_at=now,
        topic=topic[:1024],
        reason=reason[:2000],
        payload=payload[:KEPT_PAYLOAD_BYTES],
        size_bytes=len(payload),
        fingerprint=fingerprint,
        times=1,
        alarm=alarm,
    )
    db.execute(
        statement.on_conflict_do_update(
            index_elements=["fingerprint"], set_={"times": schema.rejected.c.times + 1, "last_at": now}
        )
    )
