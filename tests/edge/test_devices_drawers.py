"""Cash drawers: every opening is exactly one fact, whatever breaks in between."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from edge.bus.messages.replies import Code, ProblemError
from tests.edge.devices_rig import Counter, receipt, until

OPENED = "tillgate.drawer.opened.v1"
CLOSED = "tillgate.drawer.closed.v1"
SALE = {"operator_id": "ann", "receipt_number": "17"}


async def drawer_known(counter: Counter, open_: bool = False) -> None:
    await counter.ready()
    await until(lambda: counter.state("drawer-1")["detail"].get("open") is open_, "the drawer's state")


@pytest.mark.parametrize("open_when", ["high", "low"])
async def test_a_sale_opens_the_drawer_and_its_closing_is_told(tmp_path: Path, open_when: str) -> None:
    async with Counter(tmp_path, open_when=open_when) as counter:
        await drawer_known(counter)
        assert await counter.ask("drawer.state") == {"open": False, "device": "drawer-1"}
        result = await counter.ask("drawer.open", SALE, request="r-open")
        assert result == {"opened": True, "already_open": False, "device": "drawer-1"}
        assert await counter.facts(OPENED) == [
            {
                "device": "drawer-1",
                "lane": "lane-1",
                "request": "r-open",
                "operator_id": "ann",
                "operator_verified": False,
                "receipt_number": "17",
                "reason": None,
                "outcome": "seen",
                "shared_with": [],
            }
        ]
        assert (await counter.ask("drawer.state"))["open"] is True
        assert counter.state("drawer-1")["detail"] == {"open": True}
        await counter.printer.do("drawer", {"to": "closed"})
        (closed,) = await counter.until_facts(CLOSED, 1)
        assert closed["open_ms"] >= 0
        assert counter.printer.kicks == 1


async def test_an_opening_without_a_sale_needs_a_reason(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await drawer_known(counter)
        for parameters in ({"operator_id": "ann"}, {"operator_id": "ann", "reason": "  "}):
            assert (await counter.problem("drawer.open", parameters)).code is Code.BAD_MESSAGE
        assert counter.printer.kicks == 0
        await counter.ask("drawer.open", {"operator_id": "ann", "reason": "change for a customer"})
        assert [fact["reason"] for fact in await counter.facts(OPENED)] == ["change for a customer"]


async def test_a_drawer_that_is_open_is_not_opened_again(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await drawer_known(counter)
        await counter.ask("drawer.open", SALE)
        again = await counter.ask("drawer.open", SALE)
        assert again["already_open"] is True
        assert counter.printer.kicks == 1
        assert len(await counter.facts(OPENED)) == 1


async def test_a_drawer_opened_by_hand_is_a_fact_without_a_command(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await drawer_known(counter)
        await counter.printer.do("drawer", {"to": "open"})
        (fact,) = await counter.until_facts(OPENED, 1)
        assert (fact["request"], fact["outcome"], fact["lane"]) == (None, "seen", "lane-1")
        await counter.printer.do("drawer", {"to": "closed"})
        await counter.until_facts(CLOSED, 1)


@pytest.mark.parametrize("fault", [("paper", {"to": "out"}), ("cover", {"to": "open"}), ("error", {"to": "cutter"})])
async def test_a_drawer_opens_though_the_printer_cannot_print(tmp_path: Path, fault: tuple[str, dict]) -> None:
    async with Counter(tmp_path) as counter:
        await drawer_known(counter)
        await counter.printer.do(*fault)
        await counter.problem("print", receipt("Sale 1"))
        assert (await counter.ask("drawer.open", SALE))["opened"] is True
        assert len(await counter.facts(OPENED)) == 1


async def test_a_drawer_opens_while_receipts_are_printed(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await drawer_known(counter)
        printing = [asyncio.ensure_future(counter.ask("print", receipt(f"Sale {n}", lines=40))) for n in range(5)]
        assert (await counter.ask("drawer.open", SALE))["opened"] is True
        assert {(await job)["state"] for job in printing} == {"printed"}


async def test_openings_asked_for_at_once_are_one_after_the_other(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await drawer_known(counter)
        results = await asyncio.gather(*(counter.ask("drawer.open", SALE) for _ in range(4)))
        assert sorted(result["already_open"] for result in results) == [False, True, True, True]
        assert len(await counter.facts(OPENED)) == 1


async def test_a_drawer_that_stays_closed_is_no_opening(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        counter.printer._connectors = (1,)  # the drawer hangs on the other pin: the pulse does not reach it
        await drawer_known(counter)
        problem = await counter.problem("drawer.open", SALE, deadline_s=3)
        assert problem.code is Code.NOT_READY
        assert "stayed closed" in problem.detail
        assert await counter.facts(OPENED) == []


async def test_without_a_calibrated_contact_the_outcome_is_unknown(tmp_path: Path) -> None:
    async with Counter(tmp_path, open_when=None) as counter:
        await counter.ready()
        result = await counter.ask("drawer.open", SALE)
        assert result == {"opened": None, "already_open": False, "device": "drawer-1"}
        assert [fact["outcome"] for fact in await counter.facts(OPENED)] == ["unknown"]
        assert (await counter.ask("drawer.state"))["open"] is None
        status = counter.state("drawer-1")
        assert (status["state"], "tillgate devices calibrate drawer-1" in status["please"]) == ("unknown", True)


async def test_a_printer_that_is_gone_loses_the_drawer_and_nothing_is_opened(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await drawer_known(counter)
        await counter.printer.do("cable", {"to": "pull"})
        await until(lambda: counter.state("drawer-1")["state"] == "offline", "the loss")
        assert (await counter.problem("drawer.open", SALE)).code is Code.DEVICE_LOST
        assert (await counter.ask("drawer.state"))["open"] is None
        await counter.printer.do("cable", {"to": "plug"})
        await drawer_known(counter)
        assert (await counter.ask("drawer.open", SALE))["opened"] is True
        assert len(await counter.facts(OPENED)) == 1


async def test_a_printer_that_is_silent_gets_no_pulse(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await drawer_known(counter)
        await counter.printer.do("silence", {"on": True})
        assert (await counter.problem("drawer.open", SALE)).code is Code.DEVICE_LOST
        assert counter.printer.kicks == 0
        assert await counter.facts(OPENED) == []


async def test_opened_while_nobody_could_see(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await drawer_known(counter)
        await counter.printer.do("cable", {"to": "pull"})
        await until(lambda: counter.state("drawer-1")["state"] == "offline", "the loss")
        await counter.printer.do("drawer", {"to": "open"})
        await counter.printer.do("cable", {"to": "plug"})
        (fact,) = await counter.until_facts(OPENED, 1)
        assert fact["request"] is None


async def test_a_drawer_opens_though_everything_else_is_gone(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await drawer_known(counter)
        for twin in (counter.scale, counter.scanner):
            await twin.do("cable", {"to": "pull"})
        await until(lambda: counter.state("scale-1")["state"] == "offline", "the scale's loss")
        weighing = asyncio.ensure_future(counter.problem("scale.weigh"))
        assert (await counter.ask("drawer.open", SALE))["opened"] is True
        assert (await weighing).code is Code.DEVICE_LOST


# -- crashes -----------------------------------------------------------------------------------------------------------


async def test_a_restart_beside_an_open_drawer_adds_no_fact(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await drawer_known(counter)
        await counter.ask("drawer.open", SALE)
        await counter.stop()
        await counter.start()
        await drawer_known(counter, open_=True)
        await counter.printer.do("drawer", {"to": "closed"})
        (closed,) = await counter.until_facts(CLOSED, 1)
        assert closed["open_ms"] > 0
        assert len(await counter.facts(OPENED)) == 1


async def test_closed_while_the_gateway_was_away(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await drawer_known(counter)
        await counter.ask("drawer.open", SALE)
        await counter.stop()
        await counter.printer.do("drawer", {"to": "closed"})
        await counter.start()
        await counter.until_facts(CLOSED, 1)
        assert len(await counter.facts(OPENED)) == 1


async def crash_in_an_opening(counter: Counter) -> None:
    """End the gateway's life after the row is on disk and before the contact has been heard."""
    await counter.printer.do("late", {"ms": 400})  # the pulse arrives at once, what the printer says comes later
    asking = asyncio.ensure_future(counter.ask("drawer.open", SALE, request="r-open"))

    async def row() -> bool:
        return bool(await counter.store.fetch_all("SELECT 1 FROM drawer_openings"))

    while not await row():
        await asyncio.sleep(0.005)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    await counter.stop()
    await counter.printer.do("late", {"ms": 0})


async def test_a_crash_in_an_opening_that_the_contact_still_tells_of(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await drawer_known(counter)
        await crash_in_an_opening(counter)
        await counter.printer.do("drawer", {"to": "open"})  # the pulse had left
        await counter.start()
        result = await counter.ask("drawer.open", SALE, request="r-open", recover=True)
        assert result == {"opened": True, "already_open": False, "device": "drawer-1"}
        (fact,) = await counter.until_facts(OPENED, 1)
        assert (fact["request"], fact["outcome"]) == ("r-open", "seen")


async def test_a_crash_in_an_opening_that_nobody_can_tell_of(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await drawer_known(counter)
        await crash_in_an_opening(counter)
        await counter.printer.do("drawer", {"to": "closed"})
        await counter.start()
        with pytest.raises(ProblemError) as problem:
            await counter.ask("drawer.open", SALE, request="r-open", recover=True)
        assert problem.value.code is Code.UNKNOWN_OUTCOME
        (fact,) = await counter.until_facts(OPENED, 1)
        assert (fact["request"], fact["outcome"]) == ("r-open", "unknown")
        kicks = counter.printer.kicks
        # The cashier looks, finds it closed, and asks again under a new id.
        assert (await counter.ask("drawer.open", SALE, request="r-again"))["opened"] is True
        assert counter.printer.kicks == kicks + 1


async def test_a_request_that_never_began_is_not_done_late(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await drawer_known(counter)
        with pytest.raises(ProblemError) as problem:
            await counter.ask("drawer.open", SALE, request="r-open", recover=True)
        assert problem.value.code is Code.TIMED_OUT
        assert counter.printer.kicks == 0


async def test_the_link_lost_in_an_opening(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await drawer_known(counter)
        await counter.printer.do("late", {"ms": 300})
        asking = asyncio.ensure_future(counter.problem("drawer.open", SALE))
        await until(lambda: counter.drawers._drawers["drawer-1"].pending, "the row")
        await until(lambda: counter.printer.kicks, "the pulse")
        await counter.printer.do("cable", {"to": "pull"})
        assert (await asking).code is Code.UNKNOWN_OUTCOME
        await counter.printer.do("late", {"ms": 0})
        await counter.printer.do("cable", {"to": "plug"})
        (fact,) = await counter.until_facts(OPENED, 1)
        assert fact["outcome"] == "seen"  # it stood open when the link came back


async def test_a_full_disk_hides_no_opening(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await drawer_known(counter)
        counter.free_bytes = 0
        assert (await counter.ask("drawer.open", SALE, request="r-open"))["opened"] is True
        assert (await counter.ask("print", {"job": "a-1"} | receipt("Sale 1")))["state"] == "printed"
        assert await counter.facts(OPENED) == []
        assert (await counter.ask("print.state", {"job": "a-1"}))["state"] == "printed"
        await counter.stop()
        counter.free_bytes = 10**12
        await counter.start()
        # Its row had stayed on disk: the next life finds it, and the contact still says open.
        (fact,) = await counter.until_facts(OPENED, 1)
        assert (fact["request"], fact["outcome"]) == ("r-open", "seen")
