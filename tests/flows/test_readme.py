"""The README's own till: its commands are run as they stand, against the store of `./dev run`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"<!-- till: .*? -->\n```sh\n(.*?)```", README, re.DOTALL)
WITHIN_S = 90


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


@pytest.fixture
async def beside_a_store(tmp_path: Path) -> AsyncIterator[Path]:
    """A folder where README's commands work: `.store` of a running demo store, and `./dev device`."""
    store = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "demo", "--plain", "--lanes", "1", "--state", str(tmp_path / ".store"),
        cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert store.stdout is not None
    control = tmp_path / ".store" / "devices" / "control.sock"
    script = tmp_path / "dev"
    script.write_text(
        f'#!/bin/sh\n[ "$1" = device ] || exit 2\nshift\ncd {ROOT}\n'
        f'exec {sys.executable} -m drivers.virtual.by_hand --control {control} "$@"\n'
    )
    script.chmod(0o755)
    try:
        async with asyncio.timeout(WITHIN_S):
            while b"scale-mine: ready" not in (line := await store.stdout.readline()):
                assert line, "the demo store ended"
        yield tmp_path
    finally:
        store.terminate()
        await store.communicate()


async def run(commands: str, folder: Path) -> None:
    """Run a block in a shell of its own, as somebody pastes it."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    done = await asyncio.create_subprocess_exec(
        "sh", "-eu", "-c", commands, cwd=folder, env={**os.environ, "PATH": path}, stdout=asyncio.subprocess.DEVNULL
    )
    assert await done.wait() == 0, commands


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
