"""Failover: a job that has certainly not started comes out of another printer, and of no other."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from edge.bus.messages.replies import Code, ProblemError
from tests.edge.devices_rig import Counter, receipt, until

FINISHED = "tillgate.print.finished.v1"
SECOND = "paper-2"


@pytest.mark.parametrize(
    ("what", "wrong", "right"),
    [("power", "off", "on"), ("paper", "out", "ok"), ("cover", "open", "closed"), ("cable", "pull", "plug")],
)
async def test_the_till_is_told_on_which_printer_it_came_out(tmp_path: Path, what: str, wrong: str, right: str) -> None:
    async with Counter(tmp_path, failover_after_s=0.2) as counter:
        await counter.ready()
        await counter.printer.do(what, {"to": wrong})
        await until(lambda: counter.state("printer-1")["state"] in ("not_ready", "offline"), "the status")
        result = await counter.ask("print", {"job": "a-1"} | receipt("Sale 1"))
        assert result["state"] == "printed"
        assert (result["device"], result["instead_of"]) == ("printer-2", "printer-1")
        assert await counter.ask("print.state", {"job": "a-1"}) == result
        await counter.printer.do(what, {"to": right})
        await until(lambda: counter.state("printer-1")["state"] == "ready", "the status")
        again = await counter.ask("print", {"job": "a-2"} | receipt("Sale 2"))
        assert again["device"] == "printer-1"
        assert (counter.on_paper("Sale 1"), counter.on_paper("Sale 1", SECOND)) == (0, 1)
        assert (counter.on_paper("Sale 2"), counter.on_paper("Sale 2", SECOND)) == (1, 0)
        assert [fact["device"] for fact in await counter.facts(FINISHED)] == ["printer-2", "printer-1"]


async def test_a_job_that_may_have_started_stays_and_those_behind_it_go(tmp_path: Path) -> None:
    async with Counter(tmp_path, failover_after_s=0.2) as counter:
        await counter.ready()
        await counter.printer.do("paper", {"to": "out", "after_lines": 3})
        first = asyncio.ensure_future(counter.ask("print", {"job": "a-1"} | receipt("Sale 1", lines=10)))
        await until(lambda: counter.state("printer-1")["state"] == "not_ready", "the status")
        result = await counter.ask("print", {"job": "a-2"} | receipt("Sale 2"))
        assert (result["state"], result["device"]) == ("printed", "printer-2")
        assert not first.done()
        await counter.printer.do("paper", {"to": "ok"})
        assert (await first)["device"] == "printer-1"
        assert (counter.on_paper("Sale 1"), counter.on_paper("Sale 1", SECOND)) == (1, 0)
        assert (counter.on_paper("Sale 2"), counter.on_paper("Sale 2", SECOND)) == (0, 1)


async def test_with_no_printer_fit_the_job_waits_and_comes_out_of_the_first_that_is(tmp_path: Path) -> None:
    async with Counter(tmp_path, failover_after_s=0.2) as counter:
        await counter.ready()
        for twin in (counter.printer, counter.second):
            await twin.do("paper", {"to": "out"})
        for device in ("printer-1", "printer-2"):
            await until(lambda device=device: counter.state(device)["state"] == "not_ready", "the status")
        problem = await counter.problem("print", {"job": "a-1"} | receipt("Sale 1"))
        assert (problem.code, problem.detail[:9]) == (Code.NOT_READY, "paper_out")
        await counter.second.do("paper", {"to": "ok"})
        (fact,) = await counter.until_facts(FINISHED, 1)
        assert fact["device"] == "printer-2"


async def test_one_dead_printer_never_blocks_another(tmp_path: Path) -> None:
    """pos-addons#682: one dead printer blocks the rest."""
    async with Counter(tmp_path, failover_after_s=3600) as counter:
        await counter.ready()
        await counter.printer.do("power", {"to": "off"})
        await until(lambda: counter.state("printer-1")["state"] == "offline", "the status")
        problem = await counter.problem("print", {"job": "a-1"} | receipt("Sale 1"), deadline_s=1.0)
        assert problem.code is Code.DEVICE_LOST
        result = await counter.ask("print", {"job": "b-1"} | receipt("Sale 2"), lane="lane-2")
        assert (result["state"], result["device"]) == ("printed", "printer-2")
        assert (await counter.ask("print.state", {"job": "a-1"}))["state"] == "queued"


async def test_nothing_on_both_though_the_gateway_ends_at_any_moment(tmp_path: Path) -> None:
    """Each life of the gateway ends somewhere between a job's arrival and its end, the move included."""
    dice = random.Random()
    async with Counter(tmp_path, failover_after_s=0.05) as counter:
        for number in range(12):
            await until(lambda: counter.registry.all("printer")[1].state == "ready", "the second printer")
            await counter.printer.do("power", {"to": "off" if number % 2 else "on"})
            asking = asyncio.ensure_future(counter.ask("print", {"job": f"j-{number}"} | receipt(f"Sale {number}.")))
            await asyncio.sleep(dice.uniform(0.0, 0.3))
            await counter.stop()
            asking.cancel()
            await counter.start()
        await counter.printer.do("power", {"to": "on"})
        await until(lambda: not counter.printing.busy, "the end of all jobs")
        for number in range(12):
            both = [counter.on_paper(f"Sale {number}.", folder) for folder in ("paper", SECOND)]
            try:
                state = (await counter.ask("print.state", {"job": f"j-{number}"}))["state"]
            except ProblemError:
                state = "never"  # the gateway ended before the job was on disk
            assert sum(both) == {"printed": 1, "never": 0}.get(state, sum(both)), (number, state, both)
            assert sum(both) <= 1, (number, state, both)
