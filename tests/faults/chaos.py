"""Carries the plan out: each action at its time, with a line in the log for each."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

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
        self._disk_failed = False
        self._started = 0.0

    async def run(self) -> None:
        """Do everything, each at its time; returns when all is done and the site is well again."""
        self._started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for action in self._plan:
                await asyncio.sleep(max(0.0, action.at_ms / 1_000 - self._elapsed_s()))
                if action.domain == "kill":
                    group.create_task(self._kill(action), name=f"kill {action.target}")
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

    async def _do(self, action: Action) -> None:
        site = self._site
        match action.domain, action.what:
            case "network", "cut":
                await site.wan.cut(cast(Direction, action.target))
            case "network", "reset":
                site.wan.reset()
            case "network", "forget":
                site.wan.forget()
            case "network", "refuse":
                await site.wan.refuse()
                site.wan.reset()
            case "network", "thin":
                site.wan.shape(up_kbit=action.value, down_kbit=action.value)
            case "network", "far":
                site.wan.shape(rtt_ms=action.value)
            case "network", "restore":
                site.wan.shape(rtt_ms=0, up_kbit=0, down_kbit=0)
                await site.wan.restore()
            case "disk", "full":
                site.shim.fill(action.value)
            case "disk", "io error":
                site.shim.io_error()
                self._disk_failed = True
            case "disk", "well again":
                failed, self._disk_failed = self._disk_failed, False
                site.shim.io_error(False)
                site.shim.free()
                if failed:  # the technician whom edge asks for
                    site.processes["edge"].restart()
            case "acks", "hold":
                site.acks.of(action.target).holding = True
            case "acks", "release":
                site.acks.release(action.target)
            case "acks", "drop":
                site.acks.of(action.target).to_drop += action.value
            case "acks", "repeat":
                site.acks.of(action.target).to_repeat += action.value
            case "clock", "jump":
                site.shim.jump(action.value)
            case "clock", "unsynced":
                site.shim.synced(False)
            case "clock", "well again":
                site.shim.jump(0)
                site.shim.synced(True)
            case unknown:
                raise ValueError(f"the plan holds {unknown}, which nobody here can do")
