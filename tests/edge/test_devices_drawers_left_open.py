"""A drawer that is left open is told of once per opening, and a person is asked to close it."""

from __future__ import annotations

from pathlib import Path

from edge.journal.clock import Clock
from tests.edge.devices_rig import Counter, until

LEFT_OPEN = "tillgate.drawer.left_open.v1"
OPENED = "tillgate.drawer.opened.v1"
CLOSED = "tillgate.drawer.closed.v1"
SALE = {"operator_id": "ann", "receipt_number": "17"}
SOON = {"left_open_s": 1}


async def drawer_known(counter: Counter, open_: bool = False) -> None:
    await counter.ready()
    await until(lambda: counter.state("drawer-1")["detail"].get("open") is open_, "the drawer's state")


async def test_left_open_is_told_once_and_a_person_is_asked(tmp_path: Path) -> None:
    async with Counter(tmp_path, drawer=SOON) as counter:
        await drawer_known(counter)
        await counter.ask("drawer.open", SALE, request="r-open")
        (fact,) = await counter.until_facts(LEFT_OPEN, 1)
        assert (fact["device"], fact["lane"], fact["request"]) == ("drawer-1", "lane-1", "r-open")
        assert fact["open_ms"] >= 1000
        status = counter.state("drawer-1")
        assert (status["state"], status["detail"]) == ("ready", {"open": True, "left_open": True})
        assert status["please"] == "Close drawer-1: it was left open"
        await counter.printer.do("paper", {"to": "near_end"})  # the contact says the same again
        await counter.printer.do("drawer", {"to": "closed"})
        await counter.until_facts(CLOSED, 1)
        assert counter.state("drawer-1")["please"] == ""
        await counter.printer.do("drawer", {"to": "open"})  # another opening, by hand
        facts = await counter.until_facts(LEFT_OPEN, 2)
        assert facts[1]["request"] is None


async def test_closed_in_time_is_not_left_open(tmp_path: Path) -> None:
    async with Counter(tmp_path, drawer={"left_open_s": 3600}) as counter:
        await drawer_known(counter)
        drawer = counter.drawers._drawers["drawer-1"]
        assert drawer._patience is None
        await counter.ask("drawer.open", SALE)
        assert drawer._patience is not None
        await counter.printer.do("drawer", {"to": "closed"})
        await counter.until_facts(CLOSED, 1)
        assert drawer._patience is None
        assert await counter.facts(LEFT_OPEN) == []


async def test_left_open_across_restarts_is_told_once(tmp_path: Path) -> None:
    boot_ms = [1_000_000]
    clock = Clock(mono_ms=lambda: boot_ms[0], boot="one")
    async with Counter(tmp_path, drawer={"left_open_s": 3600}) as counter:
        await counter.stop()
        await counter.start(clock)
        await drawer_known(counter)
        await counter.ask("drawer.open", SALE, request="r-open")
        assert await counter.facts(LEFT_OPEN) == []
        await counter.stop()
        boot_ms[0] += 3_601_000  # an hour later the gateway comes back
        await counter.start(clock)
        (fact,) = await counter.until_facts(LEFT_OPEN, 1)
        assert (fact["request"], fact["open_ms"]) == ("r-open", 3_601_000)
        await counter.stop()
        boot_ms[0] += 3_601_000
        await counter.start(clock)
        await drawer_known(counter, open_=True)
        assert counter.state("drawer-1")["please"] == "Close drawer-1: it was left open"
        assert len(await counter.facts(LEFT_OPEN)) == 1
        assert len(await counter.facts(OPENED)) == 1


async def test_left_open_after_a_reboot_does_not_say_how_long(tmp_path: Path) -> None:
    async with Counter(tmp_path, drawer=SOON) as counter:
        await counter.stop()
        await counter.start(Clock(boot="one", mono_ms=lambda: 5))  # time stands still: nothing is left open yet
        await drawer_known(counter)
        await counter.printer.do("drawer", {"to": "open"})
        await counter.until_facts(OPENED, 1)
        await counter.stop()
        await counter.start(Clock(boot="two", mono_ms=lambda: 7))
        (fact,) = await counter.until_facts(LEFT_OPEN, 1)
        assert fact["open_ms"] is None


async def test_out_of_sight_is_told_when_it_is_seen_again(tmp_path: Path) -> None:
    boot_ms = [1_000_000]
    async with Counter(tmp_path, drawer={"left_open_s": 3600}) as counter:
        await counter.stop()
        await counter.start(Clock(mono_ms=lambda: boot_ms[0], boot="one"))
        await drawer_known(counter)
        await counter.ask("drawer.open", SALE)
        await counter.printer.do("cable", {"to": "pull"})
        await until(lambda: counter.state("drawer-1")["state"] == "offline", "the loss")
        counter.drawers._drawers["drawer-1"]._left_open()  # its time is over while nobody can see it
        boot_ms[0] += 3_600_000
        assert await counter.facts(LEFT_OPEN) == []
        await counter.printer.do("cable", {"to": "plug"})
        await counter.until_facts(LEFT_OPEN, 1)


async def test_never_where_it_is_switched_off(tmp_path: Path) -> None:
    async with Counter(tmp_path, drawer={"left_open_s": 0}) as counter:
        await drawer_known(counter)
        await counter.ask("drawer.open", SALE)
        assert counter.drawers._drawers["drawer-1"]._patience is None
