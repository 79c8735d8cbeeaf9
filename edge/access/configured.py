"""Recording that the gateway runs with another configuration, key or authority than the last time.

Strategy: a digest of each table of the configuration is kept; at a start those that differ are named. What stood in
them is not kept: the configuration has a history of its own where it is managed. Of the key that seals and of the
authority the id is kept, in the transaction that records it: each is recorded once, whoever made or replaced it.
"""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from edge.access.audit import Audit
from edge.bus.messages.facts import AuditAction
from edge.config import StoreConfig
from edge.journal.store import Statement, Store

CONFIGURED_SCHEMA = """
CREATE TABLE IF NOT EXISTS configured (
    section TEXT PRIMARY KEY,
    digest  BLOB NOT NULL
) STRICT, WITHOUT ROWID;
"""
RUNS_WITH_SCHEMA = """
CREATE TABLE runs_with (
    what TEXT PRIMARY KEY,               -- seal key, authority
    id   TEXT NOT NULL                   -- the key's id; the authority's fingerprint
) STRICT, WITHOUT ROWID;
"""
CONFIGURED_SCHEMAS = (("configured-1", CONFIGURED_SCHEMA), ("runs-with-1", RUNS_WITH_SCHEMA))
KEY = "seal key"
AUTHORITY = "authority"
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


async def note_trust(store: Store, audit: Audit, authority: str | None) -> None:
    """Record the key that seals and the authority (its fingerprint, None: there is none) where they are new here."""
    before = dict(await store.fetch_all("SELECT what, id FROM runs_with"))
    for what, now, made, replaced in (
        (KEY, store.keyring.current.id, AuditAction.KEY_MADE, AuditAction.KEY_ROTATED),
        (AUTHORITY, authority, AuditAction.AUTHORITY_MADE, AuditAction.AUTHORITY_ROTATED),
    ):
        if now is None or now == before.get(what):
            continue
        if what in before:
            audit.record(replaced, subject=now, detail=f"in place of {before[what]}", also=[runs_with(what, now)])
        else:
            audit.record(made, subject=now, also=[runs_with(what, now)])


def runs_with(what: str, id_: str) -> Statement:
    """Remember that this is known of: it is being recorded."""
    return "INSERT INTO runs_with(what, id) VALUES (?1, ?2) ON CONFLICT (what) DO UPDATE SET id = ?2", (what, id_)


def _digest(value: Any) -> bytes:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).digest()
