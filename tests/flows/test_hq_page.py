"""docs/hq.md, the page of HQ engineers: its commands are run as they stand, beside the store of `./dev run`."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from edge.bus import topics
from edge.bus.client import Address, Client, Message
from tests.flows.conftest import ROOT, WITHIN_S, run

PAGE = (ROOT / "docs" / "hq.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"<!-- hq: (.*?) -->\n```sh\n(.*?)```", PAGE, re.DOTALL))

FINISHED = "tillgate.command.finished.v1"


async def answers(folder: Path, count: int) -> list[dict[str, Any]]:
    """What HQ's database has of the answers, once there are so many."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            with closing(sqlite3.connect(f"file:{folder}/.store/hq.db?mode=ro", uri=True)) as db:
                rows = db.execute(
                    "SELECT body FROM facts WHERE type = 'tillgate.command.finished.v1' ORDER BY seq"
                ).fetchall()
            if len(rows) >= count:
                return [json.loads(row[0])["data"] for row in rows]
            await asyncio.sleep(0.1)


async def test_the_page_commands_the_demo_store_and_tells_it_something(beside_a_store: Path) -> None:
    shown: list[list[str]] = []

    def heard(message: Message) -> None:
        shown.append([one["text"] for one in json.loads(message.payload)["notices"]])
        message.ack()

    port = int((beside_a_store / ".store" / "bus.port").read_text())
    till = Client(Address(host="127.0.0.1", port=port), client_id="watcher", username="mine", clean_start=True)
    till.on_message(topics.store_subject("notices"), heard)
    async with till:
        await run(BLOCKS["command"], beside_a_store)
        done = {answer["operation"]: answer for answer in await answers(beside_a_store, 2)}
        assert done["status.report"]["result"]["gateway"]["state"] == "serving"
        assert "printer-mine" in [device["device"] for device in done["status.report"]["result"]["devices"]]
        assert done["device.test"]["result"]["state"] == "printed"
        await run(BLOCKS["notice"], beside_a_store)
        async with asyncio.timeout(WITHIN_S):
            while not shown or not shown[-1]:
                await asyncio.sleep(0.05)
        assert shown[-1] == ["Card terminals are served tonight from 22:00."]
        await run(BLOCKS["withdraw"], beside_a_store)
        async with asyncio.timeout(WITHIN_S):
            while shown[-1]:
                await asyncio.sleep(0.05)
