"""What HQ's commands do: the rows of `COMMANDS`, each by the service that does the same for a person at the box."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from edge.bus.messages.base import Message
from edge.bus.messages.commands import COMMANDS, OneDevice
from edge.bus.messages.replies import Code, ProblemError
from edge.bus.messages.statuses import DeviceStatus, GatewayStatus
from edge.services.commands import Run
from edge.services.requests import Asked
from edge.services.technician import Service

PROBLEMS_TOLD = 20
VERIFY = ("nice", sys.executable, "-m", "edge.cli", "journal", "verify", "--json")
"""In a process of its own: walking a year of facts must not make a scan wait for the interpreter."""


def hq_commands(
    journal: Path,
    status: Callable[[], Awaitable[GatewayStatus]],
    devices: Callable[[], Sequence[DeviceStatus]],
    technician: Mapping[str, Service],
) -> Mapping[str, Run]:
    """The handlers of every operation; `technician` are the services of the technician's desk."""

    async def report(_: str, parameters: Message) -> dict[str, Any]:
        """The whole status: ``{"gateway": {...}, "devices": [...]}``."""
        now = await status()
        return {
            "gateway": now.model_dump(mode="json"),
            "devices": [device.model_dump(mode="json") for device in devices()],
        }

    async def at_the_desk(operation: str, id_: str, parameters: OneDevice) -> dict[str, Any]:
        service = technician[operation]
        asked = Asked("hq", id_, asyncio.get_running_loop().time() + COMMANDS[operation].within_s)
        return await service.handler(asked, service.parameters.model_validate(parameters.model_dump()))

    async def identify(id_: str, parameters: OneDevice) -> dict[str, Any]:
        return await at_the_desk("device.identify", id_, parameters)

    async def test(id_: str, parameters: OneDevice) -> dict[str, Any]:
        if any(one.device == parameters.device and one.category == "drawer" for one in devices()):
            raise ProblemError(Code.NOT_YOURS, "a cash drawer is opened only by somebody who stands before it")
        return await at_the_desk("device.test", id_, parameters)

    async def verify(_: str, parameters: Message) -> dict[str, Any]:
        """What `tillgate journal verify` finds, per class; of the problems the first few."""
        return _summary(await _verified(journal))

    return {"status.report": report, "device.identify": identify, "device.test": test, "journal.verify": verify}


async def _verified(journal: Path) -> dict[str, Any]:
    from edge.children import DIE_WITH_PARENT

    process = await asyncio.create_subprocess_exec(
        *DIE_WITH_PARENT, *VERIFY, str(journal), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, complaint = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    if process.returncode not in (0, 1):
        raise ProblemError(Code.FAULTED, f"the journal was not verified: {complaint.decode(errors='replace')[-500:]}")
    found: dict[str, Any] = orjson.loads(out)
    return found


def _summary(found: dict[str, Any]) -> dict[str, Any]:
    """The report of `tillgate journal verify --json`, short enough for a fact."""
    problems = [*found["problems"]]
    for name, one in found["classes"].items():
        problems += [f"{name}: {text}" for text in one["problems"]]
    kept = ("base", "first", "last", "count", "conflicts")
    return {
        "ok": found["ok"],
        "epoch": found["epoch"],
        "classes": {name: {key: one[key] for key in kept} for name, one in found["classes"].items()},
        "lane_gaps": len(found["lane_gaps"]),
        "tombstones": found["tombstones"],
        "salvaged": found["salvaged"],
        "problems": problems[:PROBLEMS_TOLD],
        "more_problems": max(0, len(problems) - PROBLEMS_TOLD),
    }
