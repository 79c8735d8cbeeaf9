"""Another configuration than at the last start is in the audit; the same one is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from edge.access import configured
from edge.access.audit import Audit
from edge.access.configured import CONFIGURED_SCHEMA
from edge.bus.messages.facts import FactClass
from edge.config import load
from edge.journal.clock import Clock
from edge.journal.reader import Reader
from edge.journal.store import Store
from edge.services.facts import Reporter

LANES = '[store]\nid = "S1"\n[[lanes]]\nid = "1"\n'


async def started(folder: Path, text: str) -> list[dict[str, Any]]:
    """Start once with this file; all that was recorded so far."""
    file = folder / "store.toml"
    file.write_text(text)
    store = await Store.open(folder / "store.db", "S1", clock=Clock(), schemas=[("configured-1", CONFIGURED_SCHEMA)])
    try:
        await configured.note(store, Audit(Reporter(store, "S1")), load(file))
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
