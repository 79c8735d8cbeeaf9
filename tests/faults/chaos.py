"""Carries the plan out: each action at its time, with a line in the log for each."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

from demo.wan import Wan
from tests.faults.acks import Meddling
from tests.faults.plan import Action
from tests.faults.site import Site

Direction = Literal["up", "down", "both"]


class Chaos:
    """One run of a plan on a site. `log_file` gets a line of JSON per action: the plan's offset and the real one."""

    def __init__(self, site: Site, plan: Sequence[Action], log_file: Path) -> None:
        self.done: Counter[str] = Counter()
        self.now = ""
        self._site = site
        self._plan = plan
        self._log_file = log_file
        self._tills = 0
        self._versions = 0
        self._started = 0.0

    async def run(self) -> None:
        """Do everything, each at its time; returns when all is done and the site is well again."""
        self._started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for action in self._plan:
                await asyncio.sleep(max(0.0, action.at_ms / 1_000 - self._elapsed_s()))
                if action.domain == "kill":
                    group.create_task(self._kill(action), name=f"kill {action.target}")
                elif action.domain == "office":
                    group.create_task(self._office(action), name=f"office {action.what}")
                else:
                    await self._do(action)
                    self._note(action)
        await self._site.heal()

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def _note(self, action: Action, *, done: bool = True) -> None:
        self.now = " ".join(str(part) for part in (action.domain, action.what, action.target) if part)
        self.done[f"{action.domain}: {action.what}"] += done
        line = {"at_s": round(self._elapsed_s(), 3), "done": done, **action.as_json()}
        with self._log_file.open("a") as log:
            log.write(json.dumps(line) + "\n")

    async def _kill(self, action: Action) -> None:
        target = action.target
        if target == "till":
            self._tills += 1
            target = f"till-{self._site.tills[self._tills % len(self._site.tills)].lane}"
        if action.what == "starting":
            done = await self._site.kill_starting(target, action.value)
        else:
            done = await self._site.kill(target)
        self._note(action, done=done)

    async def _office(self, action: Action) -> None:
        """Not done: HQ's own database was away. What is in it counts as sent."""
        hq = self._site.hq
        if action.what == "prices":
            self._versions += 1
            done = await hq.publish_prices(f"v{self._versions}")
        else:
            operation = ["status.report"] if action.what == "command" else ["device.identify", "--device", "nothing"]
            done = await hq.command(*operation)
        self._note(action, done=done)

    async def _do(self, action: Action) -> None:
        site = self._site
        match action.domain, action.what:
            case "network", what:
                await _disturb(site.wan, what, action)
            case "hq line", what:
                await _disturb(site.hq_line, what, action)
            case "disk", "full":
                site.shim.fill(action.value)
            case "disk", "io error":
                site.shim.io_error()
            case "disk", "well again":
                site.shim.io_error(False)
                site.shim.free()
            case "acks", what:
                _meddle(site.meddling(action.target), what, action.value)
            case "clock", "jump":
                site.shim.jump(action.value)
            case "clock", "unsynced":
                site.shim.synced(False)
            case "clock", "well again":
                site.shim.jump(0)
                site.shim.synced(True)
            case unknown:
                raise ValueError(f"the plan holds {unknown}, which nobody here can do")


async def _disturb(wan: Wan, what: str, action: Action) -> None:
    match what:
        case "cut":
            await wan.cut(cast(Direction, action.target))
        case "reset":
            wan.reset()
        case "forget":
            wan.forget()
        case "refuse":
            await wan.refuse()
            wan.reset()
        case "thin":
            wan.shape(up_kbit=action.value, down_kbit=action.value)
        case "far":
            wan.shape(rtt_ms=action.value)
        case "restore":
            wan.shape(rtt_ms=0, up_kbit=0, down_kbit=0)
            await wan.restore()
        case unknown:
            raise ValueError(f"the plan holds {unknown!r} for a network, which nobody here can do")


def _meddle(meddling: Meddling, what: str, count: int) -> None:
    match what:
        case "hold":
            meddling.holding = True
        case "release":
            meddling.release()
        case "drop":
            meddling.to_drop += count
        case "repeat":
            meddling.to_repeat += count
        case unknown:
            raise ValueError(f"the plan holds {unknown!r} for acknowledgements, which nobody here can do")
