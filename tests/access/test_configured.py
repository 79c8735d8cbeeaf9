"""Another configuration, key or authority than at the last start is in the audit; the same one is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from edge.access import configured
from edge.access.audit import Audit
from edge.access.configured import AUTHORITY, CONFIGURED_SCHEMAS, runs_with
from edge.bus.messages.facts import AuditAction, FactClass
from edge.config import load
from edge.journal.clock import Clock
from edge.journal.reader import Reader
from edge.journal.store import Store
from edge.seal import Keyring, MasterKey, write_secret
from edge.services.facts import Reporter

LANES = '[store]\nid = "S1"\n[[lanes]]\nid = "1"\n'


async def started(folder: Path, text: str, *authorities: str) -> list[dict[str, Any]]:
    """Start once with this file, then rotate to each further authority; all that was recorded so far."""
    file = folder / "store.toml"
    file.write_text(text)
    store = await Store.open(folder / "store.db", "S1", clock=Clock(), schemas=CONFIGURED_SCHEMAS)
    try:
        audit = Audit(Reporter(store, "S1"))
        await configured.note(store, audit, load(file))
        if authorities:
            await configured.note_trust(store, audit, authorities[0])
        for other in authorities[1:]:
            audit.record(AuditAction.AUTHORITY_ROTATED, subject=other, also=[runs_with(AUTHORITY, other)])
        await store.write([])
    finally:
        await store.close()
    reader = await Reader.open(folder / "store.db")
    try:
        return [orjson.loads(row.body)["data"] for row in await reader.tail(FactClass.OPERATION, 0)]
    finally:
        await reader.close()


async def test_what_was_changed_is_named_once(tmp_path: Path) -> None:
    assert await started(tmp_path, LANES) == []
    assert await started(tmp_path, "# a comment is no change\n" + LANES) == []
    (entry,) = await started(tmp_path, LANES + '[people]\noverrides = ["takeover"]\n[metrics]\nedge_port = 9441\n')
    assert (entry["action"], entry["subject"]) == ("configuration.changed", "store.toml")
    assert entry["detail"] == "[metrics], [people]"
    assert (
        len(await started(tmp_path, LANES + '[people]\noverrides = ["takeover"]\n[metrics]\nedge_port = 9441\n')) == 1
    )
    assert len(await started(tmp_path, LANES)) == 2


async def test_a_key_and_an_authority_are_recorded_once_whoever_made_or_replaced_them(tmp_path: Path) -> None:
    found = await started(tmp_path, LANES, "aa")
    key = Keyring.find(tmp_path).current.id
    assert {(one["action"], one["subject"]) for one in found} == {("key.made", key), ("authority.made", "aa")}
    assert len(await started(tmp_path, LANES, "aa", "bb")) == 3, "a rotation while it runs is recorded by itself"
    assert len(await started(tmp_path, LANES, "bb")) == 3, "and not again at the next start"
    write_secret(tmp_path / "seal.key", f"{MasterKey.new().line()}\n{Keyring.find(tmp_path).keys[0].line()}\n".encode())
    found = await started(tmp_path, LANES, "cc")
    told = {(one["action"], one["detail"]) for one in found[3:]}
    assert told == {("key.rotated", f"in place of {key}"), ("authority.rotated", "in place of bb")}
