"""The README's own till: its commands are run as they stand, against the store of `./dev run`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.flows.conftest import WITHIN_S, run

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"<!-- till: .*? -->\n```sh\n(.*?)```", README, re.DOTALL)


class Heard:
    """What `mosquitto_sub -v` printed: topic and object of each line, as they come."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, Any]] = []

    async def read(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            topic, _, payload = line.decode().strip().partition(" ")
            if "/requests/" in topic or topic.endswith("/facts"):
                continue  # our own, as we pasted it: over several lines
            with contextlib.suppress(json.JSONDecodeError):
                self.lines.append((topic, json.loads(payload)))

    async def until(self, what: str, holds: Callable[[str, Any], bool]) -> Any:
        async with asyncio.timeout(WITHIN_S):
            while True:
                for topic, found in self.lines:
                    if holds(topic, found):
                        return found
                await asyncio.sleep(0.05)
        raise AssertionError(what)

    async def reply(self, to: str) -> Any:
        return await self.until(to, lambda topic, found: topic.endswith("/mine/replies") and found["to"] == to)


async def test_the_till_of_the_readme_scans_weighs_prints_and_sells(beside_a_store: Path) -> None:
    watch, shop, sell, receipt = BLOCKS
    heard = Heard()
    sub = await asyncio.create_subprocess_exec(
        "sh", "-c", watch.replace("mosquitto_sub", "exec mosquitto_sub"),
        cwd=beside_a_store, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert sub.stdout is not None
    reading = asyncio.create_task(heard.read(sub.stdout))
    try:
        await heard.until("the gateway's status", lambda topic, _: topic == "tg/v1/gateway/status")
        await run(shop, beside_a_store)
        scan = await heard.until("the scan", lambda topic, _: topic.endswith("/mine/scans"))
        assert (scan["text"], scan["symbology"]) == ("4091180200119", "]E0")
        assert (await heard.reply("r1"))["result"]["price_minor"] == 129
        assert (await heard.reply("r2"))["result"]["value"] == "0.482"
        # The blocks build on each other: a shell that is left open has PORT and ask() from the one before.
        ground = "\n".join(line for line in shop.splitlines() if line.startswith(("PORT=", "ask()")))
        await run(f"{ground}\n{sell}", beside_a_store)
        assert (await heard.reply("my-first-sale"))["result"]["accepted"] is True
        await run(f"{ground}\n{receipt}", beside_a_store)
        assert (await heard.reply("r3"))["result"]["state"] == "printed"
        assert (await heard.reply("r4"))["ok"], "the drawer is open"
    finally:
        sub.terminate()
        await sub.wait()
        await reading
    paper = (beside_a_store / ".store/devices/printer-mine/paper.jsonl").read_text(encoding="utf-8")
    assert "EUR 1.29" in paper
    with sqlite3.connect(f"file:{beside_a_store}/.store/store.db?mode=ro", uri=True) as db:
        kept = db.execute("SELECT type FROM facts WHERE lane = 'mine'").fetchall()
    assert kept == [("tillgate.sale.completed.v1",)]
