"""`tillgate status` asks the running gateway, and says so when nobody answers."""

from __future__ import annotations

import asyncio
import json
import sys

from bench.gateway import Gateway
from tests.flows.plain_till import PlainTill


async def status(running: Gateway, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge.cli", "status", "--config", str(running.config.file), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_status_of_a_store_without_hq(running: Gateway, till: PlainTill) -> None:
    assert (await till.fact(till.sale(1)))["ok"]
    async with asyncio.timeout(30):
        while True:  # the status follows the commit within about a second
            code, out, _ = await status(running, "--json")
            found = json.loads(out)
            if found["gateway"]["backlog"]["transaction"]["facts"] == 1:
                break
    assert code == 1, "no link to HQ: running, with something wrong"
    assert found["gateway"]["state"] == "serving"
    assert found["gateway"]["link"] == "unknown"
    assert found["gateway"]["safe_to_switch_off"] is False
    assert "never evicted" in found["promises"]["critical"]
    code, text, _ = await status(running)
    assert "transaction" in text
    assert "on disk before accepted" in text


async def test_nobody_answers(running: Gateway) -> None:
    for process in running.processes.values():
        process.terminate()
        await process.wait()
    code, out, err = await status(running)
    assert (code, out) == (2, "")
    assert "is it running" in err
