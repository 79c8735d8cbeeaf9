"""Customer displays at a counter: what a till shows stands there, also after a cable or a printer was away."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from drivers.displays.base import DisplayOptions
from drivers.displays.escpos_display import EscposDisplay, EscposDisplayOptions
from drivers.virtual.displays.display import VirtualCd5220Display
from drivers.virtual.wire import PtyWire
from edge.bus.messages.replies import Code
from edge.bus.messages.requests import DisplayShow
from edge.config import Device
from edge.devices.display_lines import lines_of
from edge.money import amount_text
from tests.edge.devices_rig import Counter, receipt, until

IDLE = ["Welcome", "to our shop"]
ITEM = {"template": "item", "text": "Milk", "quantity": "2", "unit_price_minor": 99, "amount_minor": 198}


class Pole(Counter):
    """A counter with display-1 on a line of its own, and display-2 behind the printer for lane-2."""

    def __init__(self, directory: Path, *, baud: int = 9600, **options: Any) -> None:
        super().__init__(directory, printer={"display": "escpos"})
        self.baud = baud
        self.options = {"idle": IDLE, "code_page": "cp858"} | options
        self.pole = VirtualCd5220Display("display-1", PtyWire(directory / "ttydisplay"), page="cp858")
        self.twins.append(self.pole)

    def devices(self) -> list[Device]:
        line = {"kind": "serial", "path": self.pole.wire.address, "baud": self.baud}
        return [
            *super().devices(),
            Device(id="display-1", protocol="cd5220-display", lanes=("lane-1",), transport=line, options=self.options),
            Device(
                id="display-2",
                protocol="printer-display",
                lanes=("lane-2",),
                options={"printer": "printer-1"} | self.options,
            ),
        ]

    async def reads(self, *lines: str, behind: bool = False) -> None:
        """Wait until a customer reads these lines."""
        screen = self.printer.screen if behind else self.pole.screen
        assert screen is not None
        await until(lambda: screen.lines() == list(lines), f"{lines} on {screen.lines()}")


def shown(parameters: dict[str, Any], currency: str = "EUR", **options: Any) -> tuple[str, ...]:
    chosen: DisplayOptions = EscposDisplayOptions(**options)
    lines = lines_of(DisplayShow.model_validate(parameters), chosen, currency)
    return EscposDisplay(chosen).picture(lines).lines


# -- what a customer reads ---------------------------------------------------------------------------------------------


def test_an_item_and_a_total() -> None:
    assert shown(ITEM) == ("Milk", "2 x 0.99        1.98")
    apples = {"template": "item", "text": "Apples", "quantity": "0.482", "unit": "kg", "amount_minor": 144}
    assert shown(apples | {"unit_price_minor": 299}) == ("Apples", "0.482 kg x 2.99 1.44")
    assert shown(apples, decimal_point=",") == ("Apples", "0,482 kg        1,44")
    assert shown({"template": "total", "total_minor": 1234}) == ("Total          12.34", "")
    paid = {
        "template": "total",
        "text": "Summe",
        "total_minor": 1734,
        "change_text": "Zur\u00fcck",
        "change_minor": 266,
    }
    assert shown(paid, decimal_point=",") == ("Summe          17,34", "Zur\u00fcck          2,66")
    assert shown({"template": "idle"}, idle=("Hello",)) == ("Hello", "")


def test_no_number_is_ever_cut() -> None:
    long = ITEM | {"text": "A very long name of an item", "quantity": "12", "unit_price_minor": 123456}
    assert shown(long | {"amount_minor": 1481472}) == ("A very long name of", "12          14814.72")
    assert shown(long | {"quantity": "123456789", "amount_minor": 10**12}) == (
        "A very long name of",
        "      10000000000.00",
    )
    assert shown({"template": "total", "text": "The sum of everything", "total_minor": 5}) == (
        "The sum of ever 0.05",
        "",
    )
    with pytest.raises(ValueError, match="does not fit"):
        shown({"template": "total", "total_minor": 10**15}, columns=16)


def test_money_in_other_currencies() -> None:
    assert shown(ITEM, "JPY") == ("Milk", "2 x 99           198")
    assert [amount_text(minor, "KWD") for minor in (0, 5, -1234)] == ["0.000", "0.005", "-1.234"]
    assert amount_text(-5, "EUR", ",") == "-0,05"


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"lines": ["a"], "template": "idle"},
        {"lines": []},
        {"lines": ["1", "2", "3", "4", "5"]},
        {"template": "item", "text": "Milk"},
        {"template": "total"},
        {"template": "item", "text": "Milk", "amount_minor": 1, "quantity": "-1"},
    ],
)
def test_what_cannot_be_shown_is_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        DisplayShow.model_validate(parameters)


# -- at the counter ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", ["lane-1", "lane-2"])
async def test_a_till_shows_and_the_idle_text_comes_back(tmp_path: Path, lane: str) -> None:
    behind, device = lane == "lane-2", "display-2" if lane == "lane-2" else "display-1"
    async with Pole(tmp_path) as counter:
        await counter.reads(*IDLE, behind=behind)
        answer = await counter.ask("display.show", ITEM, lane=lane)
        assert answer == {"shown": True, "lines": ["Milk", "2 x 0.99        1.98"], "replaced": "", "device": device}
        await counter.reads("Milk", "2 x 0.99        1.98", behind=behind)
        answer = await counter.ask("display.show", {"lines": ["\u725b\u4e73 5 \u20ac"], "for_ms": 1}, lane=lane)
        assert (answer["lines"], answer["replaced"]) == (["?? 5 \u20ac", ""], "\u725b\u4e73")
        await counter.reads(*IDLE, behind=behind)
        await counter.ask("display.show", ITEM, lane=lane)
        await counter.ask("display.show", {"template": "idle"}, lane=lane)
        await counter.reads(*IDLE, behind=behind)
        assert counter.state(device)["state"] == "unknown"  # nothing tells that it is on


async def test_without_a_show_the_idle_text_comes_back(tmp_path: Path) -> None:
    async with Pole(tmp_path, idle_after_s=1) as counter:
        await counter.ready()
        await counter.ask("display.show", {"lines": ["Thank you"], "for_ms": 3_600_000})
        await counter.ask("display.show", ITEM)  # its own time counts, not that of the picture before
        await counter.reads(*IDLE)


async def test_after_a_replug_the_present_picture_is_shown(tmp_path: Path) -> None:
    async with Pole(tmp_path) as counter:
        await counter.reads(*IDLE)
        await counter.ask("display.show", {"lines": ["before"]})
        await counter.pole.do("cable", {"to": "pull"})
        await until(lambda: counter.state("display-1")["state"] == "offline", "the loss")
        assert "display-1" in counter.state("display-1")["please"]
        assert (await counter.problem("display.show", {"lines": ["meanwhile"]})).code is Code.DEVICE_LOST
        await counter.pole.do("power", {"to": "cycle"})
        await counter.pole.do("cable", {"to": "plug"})
        await counter.reads("meanwhile", "")


async def test_a_display_that_lost_its_settings_is_right_with_the_next_customer(tmp_path: Path) -> None:
    async with Pole(tmp_path, brightness=2) as counter:
        await counter.reads(*IDLE)
        await counter.pole.do("power", {"to": "cycle"})
        assert counter.pole.screen.brightness == 4
        await counter.ask("display.show", {"template": "idle"})
        await counter.reads(*IDLE)
        assert counter.pole.screen.brightness == 2


async def test_after_a_restart_of_the_gateway_the_idle_text_is_shown(tmp_path: Path) -> None:
    async with Pole(tmp_path) as counter:
        await counter.reads(*IDLE)
        await counter.ask("display.show", {"lines": ["a sale"]})
        await counter.reads("a sale", "")
        await counter.stop()
        await counter.start()
        await counter.reads(*IDLE)


async def test_a_slow_display_shows_the_newest(tmp_path: Path) -> None:
    async with Pole(tmp_path, baud=2400) as counter:
        await counter.reads(*IDLE)
        before = counter.pole.screen.bytes_received
        asking = [counter.ask("display.show", {"lines": [f"Item {number}"]}) for number in range(30)]
        answers = await asyncio.gather(*asking)
        assert answers[-1]["shown"]
        await counter.reads("Item 29", "")
        sent = counter.pole.screen.bytes_received - before
        assert sent == sum(answer["shown"] for answer in answers) * 48  # two lines of string mode each
        assert sent <= 3 * 48


async def test_receipts_and_pictures_through_one_printer(tmp_path: Path) -> None:
    async with Pole(tmp_path) as counter:
        await counter.ready()
        for number in range(20):
            show = counter.ask("display.show", {"lines": [f"Customer {number}"]}, lane="lane-2")
            job, answer = await asyncio.gather(counter.ask("print", receipt(f"Sale {number}")), show)
            assert (job["state"], answer["shown"]) == ("printed", True)
        await counter.reads("Customer 19", "", behind=True)
        assert [text.split() for text in counter.receipts()] == [["Sale", str(number)] for number in range(20)]


async def test_a_printer_without_paper_keeps_the_display_until_it_has_some(tmp_path: Path) -> None:
    async with Pole(tmp_path) as counter:
        await counter.ready()
        await counter.reads(*IDLE, behind=True)
        await counter.printer.do("paper", {"to": "out"})
        await until(lambda: counter.state("printer-1")["state"] == "not_ready", "no paper")
        problem = await counter.problem("display.show", {"lines": ["your total"]}, lane="lane-2")
        assert (problem.code, problem.detail.split(":")[0]) == (Code.NOT_READY, "paper_out")
        assert counter.state("display-2")["state"] == "not_ready"
        assert counter.state("display-2")["please"] == "Put in a new roll"
        await counter.printer.do("paper", {"to": "ok"})
        await counter.reads("your total", "", behind=True)
        assert counter.state("display-2")["state"] == "unknown"
        await counter.printer.do("cable", {"to": "pull"})
        await until(lambda: counter.state("display-2")["state"] == "offline", "the loss")
        assert "printer-1" in counter.state("display-2")["please"]
        await counter.printer.do("cable", {"to": "plug"})
        await until(lambda: counter.state("display-2")["state"] == "unknown", "its way back")


async def test_a_number_that_does_not_fit_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async with Pole(tmp_path, columns=16) as counter:
        await counter.ready()
        problem = await counter.problem("display.show", {"template": "total", "total_minor": 10**15})
        assert (problem.code, "does not fit" in problem.detail) == (Code.BAD_MESSAGE, True)
        assert counter.displays._faces["display-1"]._lines == tuple(IDLE)


async def test_a_lane_without_a_display(tmp_path: Path) -> None:
    async with Pole(tmp_path) as counter:
        assert (await counter.problem("display.show", ITEM, lane="lane-3")).code is Code.NOT_FOUND
        assert (await counter.problem("display.show", ITEM | {"device": "display-2"})).code is Code.NOT_YOURS


async def test_a_printer_that_lost_its_power_brings_its_display_back(tmp_path: Path) -> None:
    async with Pole(tmp_path) as counter:
        await counter.ready()
        await counter.ask("display.show", {"lines": ["your total"]}, lane="lane-2")
        await counter.reads("your total", "", behind=True)
        await counter.printer.do("power", {"to": "cycle", "after_bytes": 10})  # in the middle of the next picture
        showing = asyncio.ensure_future(counter.ask("display.show", {"lines": ["your change"]}, lane="lane-2"))
        await asyncio.wait((showing,))
        showing.exception()  # its bytes may have left before the power went, or not: both may be told
        await counter.reads("your change", "", behind=True)
        assert (await counter.ask("print", receipt("Sale 1")))["state"] == "printed"
        assert counter.on_paper("Sale 1") == 1
