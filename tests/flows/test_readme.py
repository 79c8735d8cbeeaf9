"""The README's own till: its commands are run as they stand, against the store of `./dev run`."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
import os
import re
import sqlite3
import sys
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


async def test_the_till_of_the_readme_enrols_and_sees_its_first_scan(beside_a_store: Path) -> None:
    """The blocks as they stand, the code read off the first terminal and typed into the second."""
    invite, till, scan = re.findall(r"<!-- enrol: .*? -->\n```sh\n(.*?)```", README, re.DOTALL)
    (beside_a_store / ".venv").symlink_to(Path(sys.executable).parents[1])
    async with Terminal(beside_a_store, invite) as first, Terminal(beside_a_store, till) as second:
        code = await first.said(r"^ +([0-9A-Z]{4}(?:-[0-9A-Z]{4}){4})$")
        await second.type(f"{code.lower()}\n")
        await first.said("lane mine has enrolled")
        await second.said("this is lane mine of store S0001 now")
        await second.said("scan something")
        await run(scan, beside_a_store)
        await second.said("4091180200119")


class Terminal:
    """A shell in which a block of the page runs. `said` waits until it has printed something."""

    def __init__(self, folder: Path, commands: str) -> None:
        self._folder = folder
        self._commands = commands
        self._printed = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    async def __aenter__(self) -> Terminal:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self._shell = await asyncio.create_subprocess_exec(
            "sh", "-eu", "-c", f"exec {self._commands.strip()}", cwd=self._folder, env=env,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._shell.returncode is None:
            self._shell.terminate()
        await self._shell.communicate()

    async def type(self, text: str) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.write(text.encode())
        await self._shell.stdin.drain()

    async def said(self, pattern: str) -> str:
        assert self._shell.stdout is not None
        async with asyncio.timeout(WITHIN_S):
            while not (found := re.search(pattern, self._printed, re.MULTILINE)):
                data = await self._shell.stdout.read(4096)
                assert data, f"ended without {pattern!r}: {self._printed}"
                self._printed += self._decoder.decode(data)  # a read may end within a letter
        return found[found.re.groups]
