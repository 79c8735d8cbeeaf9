"""The long benchmarks, run small: they measure something, and print the one JSON object that they promise."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from bench.budget import worst_burst_bytes

ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 120.0


async def measured(name: str, *arguments: str) -> dict[str, Any]:
    """What ``./dev bench NAME --json`` prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"bench.{name}", "--json", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    async with asyncio.timeout(WITHIN_S):
        out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-3000:]
    report: dict[str, Any] = json.loads(out)
    assert report["name"] == name
    assert all(goal["met"] in (True, False) for goal in report["goals"])
    return report


async def test_what_is_accepted_survives_the_kill_that_a_mosquitto_bridge_does_not() -> None:
    others = ("mosquitto_bridge_every_change", "thingsboard_gateway_sqlite")
    without = [word for name in others for word in ("--without", name)]
    report = await measured("loss", "--rounds", "1", "--facts", "300", *without)

    ours, peer = report["figures"], report["peers"]["mosquitto_bridge_defaults"]
    assert 0 < ours["accepted"] <= ours["sent"]
    assert ours["accepted_then_lost"] == ours["duplicated"] == 0
    assert peer["accepted_then_lost"] == peer["accepted"] > 0


async def test_simulated_stores_are_recorded_and_confirmed_and_compared() -> None:
    report = await measured("hq", "--stores", "3", "--facts", "300", "--seconds", "1")

    ours = report["figures"]
    assert ours["3_missing"] == 0
    assert ours["3_flat_out_facts"] == 300
    assert ours["3_steady_confirm_p50_ms"] > 0
    assert report["peers"]["one INSERT and commit per message"]["3_flat_out_facts"] == 300


async def test_an_outage_is_drained_within_its_budget_and_everything_is_at_hq_once() -> None:
    report = await measured("outage", "--days", "0.002", "--live", "1")

    ours = report["figures"]
    assert ours["sales"] == 346
    assert ours["at_hq"] > ours["facts_before_live_ones"] > ours["sales"]
    assert ours["missing_at_hq"] == ours["twice_at_hq"] == 0
    assert ours["chain_hashes_at_hq_are_the_journals"] == "yes"
    for budget in ("second", "hour"):
        assert ours[f"budget_{budget}_worst_burst_bytes"] <= ours[f"budget_{budget}_allowed_burst_bytes"]


def test_a_burst_is_the_worst_window_above_the_rate() -> None:
    steady = [(1.0 * second, 100) for second in range(1, 10)]
    assert worst_burst_bytes(steady, 100) == 0
    assert worst_burst_bytes([*steady, (10.0, 150), (11.0, 120), (12.0, 50)], 100) == 70
    assert worst_burst_bytes([(1.0, 150), (5.0, 150)], 100) == 50, "a pause brings the tokens back"
    assert worst_burst_bytes([(1.0, 300), (2.0, 0), (3.0, 300)], 100) == 300
