"""A virtual Magellan on a single cable and the real driver at the other end: scans and weights on one line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drivers.catalog import build_driver, build_transport, read_device, read_transport
from drivers.errors import BadOption, DeviceLost, NotReady
from drivers.events import Noise, ScaleStatus, Scan, Weight
from drivers.scanners.magellan_driver import MagellanDriver
from drivers.virtual.magellan import VirtualMagellan
from drivers.virtual.wire import PtyWire
from tests.drivers.rig import PATIENCE_S, Heard, Running, running


def magellan_at(path: Path, heard: Heard, **options: object) -> Callable[[Callable[[], None]], MagellanDriver]:
    def build(on_open: Callable[[], None]) -> MagellanDriver:
        transport = build_transport(read_transport("magellan", "serial", {"path": str(path)}))
        driver = build_driver("magellan", read_device("magellan", options), transport, heard, on_open)
        assert isinstance(driver, MagellanDriver)
        driver.protocol.command_gap_ms = 20  # a twin needs no pause
        return driver

    return build


@asynccontextmanager
async def magellan_and_twin(
    path: Path, options: dict[str, Any] | None = None, **twin_options: Any
) -> AsyncIterator[tuple[Running, VirtualMagellan, Heard]]:
    twin, heard = VirtualMagellan("magellan-1", PtyWire(path), **twin_options), Heard()
    await twin.open()
    try:
        async with running(magellan_at(path, heard, **(options or {}))) as run:
            yield run, twin, heard
    finally:
        await twin.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ttymagellan-1"


@pytest.mark.parametrize(
    ("options", "twin", "load", "unit"),
    [
        ({}, {}, "0.482", "kg"),
        ({}, {"unit": "lb", "capacity": "30"}, "1.06", "lb"),
        ({"form": "stx", "unit": "kg"}, {"form": "stx"}, "12.005", "kg"),
    ],
)
async def test_scans_and_weighs_on_one_line(
    path: Path, options: dict[str, Any], twin: dict[str, Any], load: str, unit: str
) -> None:
    async with magellan_and_twin(path, options, **twin) as (run, magellan, heard):
        magellan.load(load)
        magellan.scan("4006381333931")
        weight = await run.driver.scale.weigh(PATIENCE_S)
        magellan.scan("036000291452")
        magellan.scan("WITH S", "A0")
        magellan.scan("0104006381333931\x1d21AB", "d2")
        scans = await heard.of(Scan, 4)
    assert (weight.value, weight.unit, weight.stable, weight.net) == (load, unit, True, None)
    assert [(scan.text, scan.aim) for scan in scans] == [
        ("4006381333931", "E0"),
        ("036000291452", "E0"),
        ("WITH S", "A0"),
        ("0104006381333931\x1d21AB", "d2"),
    ]
    assert not heard.now(Noise)


async def test_a_weighing_survives_scans_and_no_scan_waits_for_it(path: Path) -> None:
    async with magellan_and_twin(path) as (run, twin, heard):
        twin.load("1.500")
        await twin.do("motion", {"on": True})
        weighing = asyncio.create_task(run.driver.scale.weigh(PATIENCE_S), name="a weighing")
        await heard.of(ScaleStatus)
        for number in range(20):
            twin.scan(f"40063813{number:05d}")
            if number % 5 == 0:
                await heard.of(Scan, number + 1)  # delivered while the scale still moves
                assert not weighing.done()
        await heard.of(Scan, 20)
        await twin.do("motion", {"on": False})
        assert (await weighing).value == "1.500"
    assert [scan.text for scan in heard.now(Scan)] == [f"40063813{number:05d}" for number in range(20)]


@pytest.mark.parametrize(
    ("action", "arguments", "reason"),
    [
        ("motion", {"on": True}, "in_motion"),
        ("over", {}, "over"),
        ("under", {}, "under_zero"),
        ("unload", {}, "below_minimum"),
        ("silence", {"on": True}, "no_answer"),
    ],
)
async def test_what_keeps_it_from_weighing_has_a_reason(
    path: Path, action: str, arguments: dict[str, Any], reason: str
) -> None:
    async with magellan_and_twin(path) as (run, twin, _):
        twin.load("1.000")
        await twin.do(action, arguments)
        with pytest.raises(NotReady) as caught:
            await run.driver.scale.weigh(0.8)
        assert caught.value.reason == reason


async def test_it_is_neither_zeroed_nor_tared_over_the_cable(path: Path) -> None:
    async with magellan_and_twin(path) as (run, _, _):
        for command in (run.driver.scale.zero, run.driver.scale.tare, run.driver.scale.clear_tare):
            with pytest.raises(NotReady) as caught:
                await command()
            assert caught.value.reason == "unsupported"


async def test_a_garbled_label_does_not_end_a_weighing(path: Path) -> None:
    async with magellan_and_twin(path) as (run, twin, heard):
        twin.load("0.750")
        await twin.do("motion", {"on": True})
        reading = asyncio.create_task(run.driver.scale.weigh(PATIENCE_S), name="a weighing")
        await heard.of(ScaleStatus)
        await twin.do("scan", {"raw": "53 30 38 46 01 0d"})
        await heard.of(Noise)
        await twin.do("motion", {"on": False})
        assert (await reading).value == "0.750"


async def test_split_and_late_bytes_make_the_same_messages(path: Path) -> None:
    async with magellan_and_twin(path) as (run, twin, heard):
        twin.load("3.141")
        await twin.do("split", {"on": True})
        await twin.do("late", {"ms": 20})
        twin.scan("4006381333931")
        assert (await run.driver.scale.weigh(PATIENCE_S)).value == "3.141"
        assert (await heard.of(Scan))[0].text == "4006381333931"


async def test_a_late_answer_is_never_taken_for_the_next_weight(path: Path) -> None:
    async with magellan_and_twin(path) as (run, twin, _):
        twin.load("1.000")
        await twin.do("late", {"ms": 900})
        with pytest.raises(NotReady):
            await run.driver.scale.weigh(0.3)
        twin.load("2.000")
        await twin.do("late", {"ms": 0})
        assert (await run.driver.scale.weigh(PATIENCE_S)).value == "2.000"


async def test_a_label_that_stops_in_the_middle_is_noise_and_the_next_one_is_whole(path: Path) -> None:
    async with magellan_and_twin(path) as (_, twin, heard):
        await twin.do("cut_scan", {"text": "4006381333931"})
        assert (await heard.of(Noise))[0].code == "cut_off"
        twin.scan("5449000000996")
        assert [scan.text for scan in await heard.of(Scan)] == ["5449000000996"]


async def test_a_pulled_cable_ends_both(path: Path) -> None:
    async with magellan_and_twin(path) as (run, twin, heard):
        await twin.do("motion", {"on": True})
        weighing = asyncio.create_task(run.driver.scale.weigh(PATIENCE_S), name="a weighing")
        await heard.of(ScaleStatus)
        await twin.do("cable", {"to": "pull"})
        with pytest.raises(DeviceLost):
            await weighing
        assert isinstance(await run.ended(), DeviceLost)
        with pytest.raises(DeviceLost, match="not connected"):
            await run.driver.scale.weigh(PATIENCE_S)
        await twin.do("cable", {"to": "plug"})
        await twin.do("motion", {"on": False})
        twin.load("0.250")
        async with running(magellan_at(path, heard)) as again:
            assert (await again.driver.scale.weigh(PATIENCE_S)).value == "0.250"
    assert heard.now(Weight)


def test_it_is_set_up_as_a_scanner_with_seven_bits() -> None:
    line = read_transport("magellan", "serial", {"path": "/dev/ttyS0"})
    assert (line.baud, line.data_bits, line.parity, line.stop_bits) == (9600, 7, "odd", 1)
    assert read_device("magellan-scale", {"scanner": "scanner-1"}).scanner == "scanner-1"
    with pytest.raises(BadOption, match="form: is 'ncr'"):
        read_device("magellan", {"form": "ncr"})
