"""One run: everything up, the plan carried out under load, everything well again, quiet, stopped, counted."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults import plan as plans
from tests.faults import sabotage
from tests.faults.chaos import Chaos
from tests.faults.headquarters import ROOT
from tests.faults.plan import Action
from tests.faults.site import Site
from tests.faults.verdict import Verdict, judge

QUIET_WITHIN_S = 180.0
TELL_EVERY_S = 5.0

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Lived:
    """A run that is over: what there is to count, and what is known beside it."""

    evidence: dict[str, Any]
    unfinished: list[str]
    behind: int | None
    facts: dict[str, Any]

    def judge(self) -> Verdict:
        """Count. Blocking."""
        verdict = judge(self.evidence)
        verdict.check("every till could end, everything answered", self.unfinished)
        verdict.check(
            "HQ got everything in the end", [] if self.behind == 0 else [f"{self.behind} facts are not at HQ"]
        )
        return verdict


@contextlib.asynccontextmanager
async def lived(folder: Path, plan: Sequence[Action], tell: Tell, *, cloud: str = "") -> AsyncIterator[Lived]:
    """Live the plan in `folder`; within the block everything has been stopped but HQ's database."""
    started = time.monotonic()
    tell("starting PostgreSQL, two brokers, two receivers, edge, bridge and the tills")
    async with Site(folder, cloud=cloud) as site:
        tell(f"facts arrive at HQ; {len(plan)} actions follow")
        chaos = Chaos(site, plan, folder / "actions.jsonl")
        watch = asyncio.create_task(_progress(site, chaos, len(plan), tell), name="progress")
        began = time.monotonic()
        try:
            await chaos.run()
            chaos_s = time.monotonic() - began
            tell(f"all is well again after {chaos_s:.0f} s; the tills finish")
            unfinished = await site.finish_tills()
            tell("everything is answered; HQ gets the rest" if not unfinished else f"not answered: {unfinished}")
            quiet_at = time.monotonic()
            await site.settle(QUIET_WITHIN_S)
            behind = await site.stop_store(QUIET_WITHIN_S)
        finally:
            watch.cancel()
        tell(f"quiet after {time.monotonic() - quiet_at:.1f} s, {behind} facts behind; counting")
        facts = {
            "seconds": round(time.monotonic() - started, 1),
            "chaos_seconds": round(chaos_s, 1),
            "kills": dict(sorted(site.kills.items())),
            "actions": dict(sorted(chaos.done.items())),
            "acknowledgements": {
                name: {"held": one.held, "lost": one.dropped, "doubled": one.repeated}
                for name, one in ((name, site.meddling(name)) for name in ("down", "up", "hq"))
            },
            "network": {
                "cuts": site.wan.cuts,
                "cut_s": round(site.wan.cut_s, 1),
                "connections": site.wan.connections_made,
            },
            "hq_line": {
                "cuts": site.hq_line.cuts,
                "cut_s": round(site.hq_line.cut_s, 1),
                "connections": site.hq_line.connections_made,
            },
            "tracebacks": site.tracebacks(),
            "failed_disk_calls": site.shim.failed,
            "ended_by_themselves": site.ended_by_themselves,
        }
        yield Lived(site.evidence(), unfinished, behind, facts)


async def run(
    folder: Path, seed: int, kills: int, duration_s: float, tell: Tell, *, sabotaged: str | None = None
) -> dict[str, Any]:
    """Live the plan of `seed`, count, and return the result; with `sabotaged` a promise is broken in between."""
    plan = plans.make(seed, kills, duration_s)
    async with lived(folder, plan, tell, cloud=sabotage.CONFIGURED.get(sabotaged or "", "")) as life:
        if sabotaged in sabotage.KINDS:
            sabotage.KINDS[sabotaged](life.evidence)
        verdict = await asyncio.to_thread(life.judge)
    return {
        "name": "faults",
        "seed": seed,
        "commit": commit(),
        "network_compressed": round(plans.flapping(duration_s), 1),
        **life.facts,
        **verdict.as_json(),
        "table": verdict.table(),
        "plan": [action.as_json() for action in plan],
    }


def report(result: dict[str, Any]) -> str:
    """The result for a person."""
    kills = ", ".join(f"{name} {count}" for name, count in result["kills"].items())
    network, acks = result["network"], result["acknowledgements"]
    down, up, hq = (", ".join(map(str, acks[way].values())) for way in ("down", "up", "hq"))
    line = result["hq_line"]
    lines = [
        f"seed     {result['seed']}, commit {result['commit']}",
        f"time     {result['seconds']} s, {result['chaos_seconds']} s of it chaos",
        f"kills    {sum(result['kills'].values())}: {kills}",
        f"network  {network['cuts']} cuts, {network['cut_s']} s cut, {network['connections']} connections;"
        f" time compressed {result['network_compressed']} times",
        f"hq line  {line['cuts']} cuts, {line['cut_s']} s cut, {line['connections']} connections",
        f"disk     {result['failed_disk_calls']} calls failed",
        f"acks     held, lost, doubled: to the bridge {down}; from it {up}; from receivers {hq}",
    ]
    if bugs := result["tracebacks"]:
        lines.append(f"tracebacks in logs: {', '.join(f'{name} {count}' for name, count in bugs.items())}")
    if own := result["ended_by_themselves"]:
        names = sorted({f"{one['process']} with status {one['status']}" for one in own})
        lines.append(f"ended by themselves, {len(own)} times: {', '.join(names)}")
    return "\n".join([*lines, "", result["table"], "", "GOOD" if result["good"] else "NOT GOOD"])


async def _progress(site: Site, chaos: Chaos, actions: int, tell: Tell) -> None:
    while True:
        await asyncio.sleep(TELL_EVERY_S)
        _, heads = await asyncio.to_thread(site.in_journal)
        at_hq = await asyncio.to_thread(site.hq.recorded)
        done, kills = sum(chaos.done.values()), site.kills.total()
        tell(
            f"{done} of {actions} actions, {kills} kills; journal {sum(heads.values())}, HQ {at_hq or '?'};"
            f" last: {chaos.now}"
        )


def commit() -> str:
    """What is being tried."""
    said = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return said.stdout.strip() or "unknown"
