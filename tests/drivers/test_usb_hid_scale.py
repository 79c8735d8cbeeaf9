"""A virtual USB HID scale on a report socket and the real driver at the other end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drivers.catalog import build_driver, build_transport, read_device, read_transport
from drivers.errors import DeviceLost, Garbled, NotReady, WrongDevice
from drivers.events import Weight
from drivers.hid import HidDevice, parse
from drivers.scales.scale_driver import ScaleDriver
from drivers.scales.usb_hid_scale import UsbHidScale
from drivers.virtual.hid_scanner import VirtualHidScanner
from drivers.virtual.report_wire import ReportWire
from drivers.virtual.scales.usb_hid_scale import VirtualUsbHidScale
from tests.drivers.rig import PATIENCE_S, Heard, Running, running
from tests.drivers.test_hid import BARE_SCANNER, PITNEY_BOWES


def scale_at(path: Path, heard: Heard) -> Callable[[Callable[[], None]], ScaleDriver]:
    def build(on_open: Callable[[], None]) -> ScaleDriver:
        transport = build_transport(read_transport("usb-hid-scale", "report-socket", {"path": str(path)}))
        driver = build_driver("usb-hid-scale", read_device("usb-hid-scale", {}), transport, heard, on_open)
        assert isinstance(driver, ScaleDriver)
        return driver

    return build


@asynccontextmanager
async def scale_and_twin(
    path: Path, **options: Any
) -> AsyncIterator[tuple[ScaleDriver, VirtualUsbHidScale, Heard, Running]]:
    twin, heard = VirtualUsbHidScale("scale-1", ReportWire(path), **options), Heard()
    await twin.open()
    try:
        async with running(scale_at(path, heard)) as run:
            yield run.driver, twin, heard, run
    finally:
        await twin.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scale-1.reports"


@pytest.mark.parametrize(
    ("unit", "load", "capacity"),
    [("kg", "0.482", "15"), ("g", "482", "5000"), ("lb", "1.06", "30"), ("oz", "645.2", "900")],
)
async def test_weighs_as_the_scale_resolved_it_in_its_unit(path: Path, unit: str, load: str, capacity: str) -> None:
    async with scale_and_twin(path, unit=unit, capacity=capacity) as (scale, twin, _, _):
        twin.load(load)
        first, second = await scale.weigh(PATIENCE_S), await scale.weigh(PATIENCE_S)
        await twin.do("unload", {})
        empty = await scale.weigh(PATIENCE_S)
    assert [(one.value, one.unit, one.stable, one.net) for one in (first, second)] == [(load, unit, True, None)] * 2
    assert len(first.raw) == 6
    assert float(empty.value) == 0


async def test_a_report_that_waits_to_be_read_is_no_answer_to_a_later_question(path: Path) -> None:
    async with scale_and_twin(path) as (scale, twin, heard, _):
        for number in range(1, 6):
            await heard.of(Weight, len(heard.now(Weight)) + 1)
            twin.tick()  # what was on the plate before
            twin.load(f"0.00{number}")
            assert (await scale.weigh(PATIENCE_S)).value == f"0.00{number}"


async def test_only_a_stable_weight_answers(path: Path) -> None:
    async with scale_and_twin(path) as (scale, twin, heard, _):
        twin.load("1.500", settle_ms=500)
        assert (await scale.weigh(PATIENCE_S)).value == "1.500"
        assert any(not weight.stable for weight in heard.now(Weight))
        await twin.do("motion", {"on": True})
        with pytest.raises(NotReady) as caught:
            await scale.weigh(1.0)
        assert caught.value.reason == "in_motion"


@pytest.mark.parametrize(
    ("action", "arguments", "reason"),
    [
        ("over", {}, "over"),
        ("under", {}, "under_zero"),
        ("fault", {"to": "fault"}, "device_fault"),
        ("fault", {"to": "calibrate"}, "needs_calibration"),
        ("fault", {"to": "rezero"}, "needs_zero"),
        ("silence", {"on": True}, "no_answer"),
    ],
)
async def test_what_keeps_it_from_weighing_has_a_reason(
    path: Path, action: str, arguments: dict[str, Any], reason: str
) -> None:
    async with scale_and_twin(path) as (scale, twin, _, _):
        await twin.do(action, arguments)
        with pytest.raises(NotReady) as caught:
            await scale.weigh(1.0)
        assert caught.value.reason == reason


async def test_it_is_zeroed_by_its_control_report_and_has_no_tare(path: Path) -> None:
    async with scale_and_twin(path) as (scale, twin, _, _):
        twin.load("0.010")
        assert (await scale.zero(PATIENCE_S)).centre_of_zero
        twin.load("0.260")
        assert (await scale.weigh(PATIENCE_S)).value == "0.250"
        with pytest.raises(NotReady) as caught:
            await scale.tare()
        assert caught.value.reason == "unsupported"


async def test_rubbish_is_no_weight_and_does_not_last(path: Path) -> None:
    async with scale_and_twin(path) as (scale, twin, _, _):
        twin.load("0.100")
        await twin.do("garble", {"on": True})
        with pytest.raises(Garbled):
            await scale.weigh(1.0)
        await twin.do("garble", {"on": False})
        await twin.do("split", {"on": True})
        assert (await scale.weigh(PATIENCE_S)).value == "0.100"


async def test_a_pulled_cable_ends_a_weighing_at_once(path: Path) -> None:
    async with scale_and_twin(path) as (scale, twin, heard, run):
        await twin.do("motion", {"on": True})
        await heard.of(Weight)
        weighing = asyncio.create_task(scale.weigh(PATIENCE_S), name="a weighing")
        await asyncio.sleep(0)
        await twin.do("cable", {"to": "pull"})
        with pytest.raises(DeviceLost):
            await weighing
        assert isinstance(await run.ended(), DeviceLost)
        await twin.do("cable", {"to": "plug"})
        await twin.do("motion", {"on": False})
        twin.load("0.250")
        async with running(scale_at(path, heard)) as again:
            assert (await again.driver.weigh(PATIENCE_S)).value == "0.250"


async def test_a_scanner_is_no_scale(path: Path) -> None:
    twin = VirtualHidScanner("scanner-1", ReportWire(path))
    await twin.open()
    with pytest.raises(WrongDevice, match=r"is a bar code scanner .* where a USB HID scale is configured"):
        async with running(scale_at(path, Heard())):
            pass
    await twin.close()


def test_places_and_zero_come_from_the_descriptor() -> None:
    protocol = UsbHidScale()
    assert protocol.zero() is None
    protocol.describe(HidDevice(0x0D8F, 0x0200, parse(PITNEY_BOWES)))
    assert protocol.zero() == b"\x02\x02"
    (weight,) = protocol.receive(bytes.fromhex("03 04 0c fe 6a 00"))
    assert isinstance(weight, Weight)
    assert (weight.value, weight.unit) == ("1.06", "lb")
    with pytest.raises(WrongDevice):
        protocol.describe(HidDevice(1, 1, parse(BARE_SCANNER)))
