"""What a store's journal holds of its own operation: audit entries, strangers, and the like."""

from __future__ import annotations

from typing import Any

import orjson

from edge.bus.messages.facts import FactClass
from edge.journal.reader import Reader
from edge.journal.store import Store

AUDIT = "tillgate.audit.recorded.v1"


async def recorded(store: Store, type_: str = AUDIT) -> list[dict[str, Any]]:
    """The data of every fact of this type, oldest first, all that is on its way included."""
    await store.write([])
    reader = await Reader.open(store.path)
    try:
        rows = await reader.tail(FactClass.OPERATION, 0, 100_000)
    finally:
        await reader.close()
    return [orjson.loads(row.body)["data"] for row in rows if row.type == type_]
