"""Two drawers on one printer share one switch line: what is known, and what stays unknown."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.bus.messages.replies import Code
from edge.config import Device
from tests.edge.devices_rig import Counter, until

OPENED = "tillgate.drawer.opened.v1"
CLOSED = "tillgate.drawer.closed.v1"
FIRST = {"device": "drawer-1", "operator_id": "ann", "receipt_number": "17"}
SECOND = FIRST | {"device": "drawer-2"}


class Two(Counter):
    """drawer-1 on pin 2, drawer-2 on pin 5 of printer-1; both belong to lane-1."""

    second_open_when = "high"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, printer={"drawer_pins": "2+5"})

    def devices(self) -> list[Device]:
        options = {"printer": "printer-1", "pin": 5, "open_when": self.second_open_when}
        return [
            *super().devices(),
            Device(id="drawer-2", protocol="printer-drawer", lanes=("lane-1",), options=options),
        ]

    def open_pins(self) -> list[int]:
        pins: list[int] = self.printer.state()["open_pins"]
        return pins

    async def states(self, first: bool | None, second: bool | None) -> None:
        """Wait until this is known of the two."""
        await until(
            lambda: [self.drawers._drawers[name].level for name in ("drawer-1", "drawer-2")] == [first, second],
            f"{first}, {second}",
        )

    async def both_closed(self) -> None:
        await self.ready()
        await self.states(False, False)


@pytest.mark.parametrize(("asked", "pin", "known"), [(FIRST, 2, (True, None)), (SECOND, 5, (None, True))])
async def test_the_commanded_one_is_seen_to_open(
    tmp_path: Path, asked: dict[str, str], pin: int, known: tuple[bool | None, bool | None]
) -> None:
    async with Two(tmp_path) as counter:
        await counter.both_closed()
        assert (await counter.ask("drawer.open", asked))["opened"] is True
        assert counter.open_pins() == [pin]
        await counter.states(*known)
        (fact,) = await counter.facts(OPENED)
        assert (fact["device"], fact["outcome"]) == (asked["device"], "seen")
        again = await counter.ask("drawer.open", asked)
        assert again["already_open"] is True
        await counter.printer.do("drawer", {"to": "closed", "pin": pin})
        (closed,) = await counter.until_facts(CLOSED, 1)
        assert closed["device"] == asked["device"]
        await counter.states(False, False)


async def test_what_the_second_one_does_meanwhile_is_unknown(tmp_path: Path) -> None:
    async with Two(tmp_path) as counter:
        await counter.both_closed()
        await counter.ask("drawer.open", FIRST)
        answer = await counter.ask("drawer.open", SECOND)
        assert answer == {"opened": None, "already_open": False, "device": "drawer-2"}
        assert counter.open_pins() == [2, 5]
        assert [(fact["device"], fact["outcome"]) for fact in await counter.facts(OPENED)] == [
            ("drawer-1", "seen"),
            ("drawer-2", "unknown"),
        ]
        await counter.states(True, None)
        await counter.printer.do("drawer", {"to": "closed", "pin": 2})  # the other still holds the line
        await counter.printer.do("drawer", {"to": "closed", "pin": 5})
        (closed,) = await counter.until_facts(CLOSED, 1)
        assert closed["device"] == "drawer-1"
        await counter.states(False, False)


async def test_by_hand_it_may_have_been_either(tmp_path: Path) -> None:
    async with Two(tmp_path) as counter:
        await counter.both_closed()
        await counter.printer.do("drawer", {"to": "open", "pin": 5})
        (fact,) = await counter.until_facts(OPENED, 1)
        assert (fact["request"], {fact["device"], *fact["shared_with"]}) == (None, {"drawer-1", "drawer-2"})
        await counter.states(None, None)
        await counter.stop()
        await counter.start()
        await counter.ready()
        await counter.states(None, None)
        assert len(await counter.facts(OPENED)) == 1
        await counter.printer.do("drawer", {"to": "closed", "pin": 5})
        await counter.until_facts(CLOSED, 1)
        await counter.states(False, False)


async def test_one_that_stayed_closed_is_not_mistaken_for_the_other(tmp_path: Path) -> None:
    async with Two(tmp_path) as counter:
        counter.printer._connectors = (1,)  # the drawer on pin 2 is locked
        await counter.both_closed()
        problem = await counter.problem("drawer.open", FIRST, deadline_s=3)
        assert problem.code is Code.NOT_READY
        assert (await counter.ask("drawer.open", SECOND))["opened"] is True
        facts = {fact["device"]: fact["outcome"] for fact in await counter.until_facts(OPENED, 2)}
        assert facts == {"drawer-1": "unknown", "drawer-2": "seen"}


async def test_both_at_once_are_one_after_the_other(tmp_path: Path) -> None:
    async with Two(tmp_path) as counter:
        await counter.both_closed()
        first, second = counter.ask("drawer.open", FIRST), counter.ask("drawer.open", SECOND)
        assert (await first)["opened"] is True
        assert (await second)["opened"] is None
        assert counter.printer.kicks == 2


async def test_two_meanings_of_one_line_are_none(tmp_path: Path) -> None:
    async with Two(tmp_path) as counter:
        await counter.stop()
        counter.second_open_when = "low"
        await counter.start()
        await counter.ready()
        await counter.states(None, None)
        assert (await counter.ask("drawer.open", FIRST))["opened"] is None
