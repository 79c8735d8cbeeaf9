"""Bad input is kept with its reason; a flood of it is counted, not written."""

from __future__ import annotations

import asyncio
from pathlib import Path

from edge.journal.clock import Clock
from edge.journal.store import Store
from edge.services.quarantine import KEPT_IN_A_WHILE, Quarantine


async def test_a_flood_from_one_origin_is_counted_and_hides_no_other(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "store.db", "S1", clock=Clock())
    quarantine = Quarantine(store)
    for number in range(5_000):
        quarantine.keep("scanner-1", "1", "scanner.garbled", f"rubbish {number}", b"\xff%d" % number)
    quarantine.keep("tg/v1/lanes/2/facts", "2", "bad_message", "not JSON", b"{")
    async with asyncio.timeout(20):
        while not await store.fetch_all("SELECT 1 FROM quarantine WHERE code = 'bad_message'"):
            await asyncio.sleep(0.05)
    rows = await store.fetch_all("SELECT origin, count(*) FROM quarantine GROUP BY origin ORDER BY origin")
    assert rows == [("scanner-1", KEPT_IN_A_WHILE), ("tg/v1/lanes/2/facts", 1)]
    assert quarantine.count == 5_001
    await store.close()
