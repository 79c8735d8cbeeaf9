"""Recording that the gateway runs with another configuration than the last time.

Strategy: a digest of each table of the configuration is kept; at a start those that differ are named. What stood in
them is not kept: the configuration has a history of its own where it is managed.
"""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from edge.access.audit import Audit
from edge.bus.messages.facts import AuditAction
from edge.config import StoreConfig
from edge.journal.store import Store

CONFIGURED_SCHEMA = """
CREATE TABLE IF NOT EXISTS configured (
    section TEXT PRIMARY KEY,
    digest  BLOB NOT NULL
) STRICT, WITHOUT ROWID;
"""
_NOT_THE_FILES = {"file", "from_hq"}
"""Where it was read from, and what HQ has set, which is recorded when it comes."""


async def note(store: Store, audit: Audit, config: StoreConfig) -> None:
    """Record what is another than at the last start; at the first there is nothing to compare with."""
    before = dict(await store.fetch_all("SELECT section, digest FROM configured"))
    now = {name: _digest(value) for name, value in config.model_dump(mode="json", exclude=_NOT_THE_FILES).items()}
    changed = sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
    if not changed:
        return
    statements = [
        ("DELETE FROM configured", ()),
        *(("INSERT INTO configured(section, digest) VALUES (?, ?)", row) for row in now.items()),
    ]
    if not before:
        store.write(statements, urgent=False)
        return
    named = ", ".join(f"[{name}]" for name in changed)
    audit.record(AuditAction.CONFIGURATION_CHANGED, subject=config.file.name, detail=named, also=statements)


def _digest(value: Any) -> bytes:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).digest()
