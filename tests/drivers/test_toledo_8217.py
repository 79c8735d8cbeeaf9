"""A virtual Toledo 8217 scale on a pty and the real driver at the other end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from drivers.catalog import build_driver, build_transport, read_device, read_transport
from drivers.errors import BadOption, DeviceLost, Garbled, NotReady
from drivers.events import Noise, ScaleStatus, Weight
from drivers.scales.scale_driver import ScaleDriver
from drivers.scales.toledo_8217 import Toledo8217, Toledo8217Options
from drivers.virtual.scales.toledo_8217 import VirtualToledo8217
from drivers.virtual.wire import PtyWire
from tests.drivers.rig import PATIENCE_S, Heard, running, until


@asynccontextmanager
async def scale_and_twin(
    path: Path, **options: str
) -> AsyncIterator[tuple[ScaleDriver, VirtualToledo8217, Heard, asyncio.Task[None]]]:
    twin, heard = VirtualToledo8217("scale-1", PtyWire(path), **options), Heard()
    await twin.open()

    def build(on_open: Callable[[], None]) -> ScaleDriver:
        transport = build_transport(read_transport("toledo-8217", "serial", {"path": str(path)}))
        driver = build_driver("toledo-8217", read_device("toledo-8217", {}), transport, heard, on_open)
        assert isinstance(driver, ScaleDriver)
        return driver

    try:
        async with running(build) as run:
            yield run.driver, twin, heard, run.task
    finally:
        await twin.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ttyscale-1"


async def test_weighs_as_the_scale_resolved_it_and_the_same_weight_twice(path: Path) -> None:
    async with scale_and_twin(path) as (scale, twin, _, _):
        twin.load("0.482")
        first, second = await scale.weigh(PATIENCE_S), await scale.weigh(PATIENCE_S)
        await twin.do("unload", {})
        empty = await scale.weigh(PATIENCE_S)
    assert [(w.value, w.unit, w.stable, w.net) for w in (first, second)] == [("0.482", "kg", True, False)] * 2
    assert first.raw == b"\x0200.482\r"
    assert first.captured_ns < second.captured_ns
    assert empty.value == "0.000"


async def test_pounds_and_a_line_that_shows_the_parity_bit(path: Path) -> None:
    async with scale_and_twin(path, unit="lb", capacity="30", parity="shown") as (scale, twin, _, _):
        await twin.do("load", {"lb": "1.06"})
        weight = await scale.weigh(PATIENCE_S)
    assert (weight.value, weight.unit) == ("1.06", "lb")


async def test_only_a_stable_weight_answers(path: Path) -> None:
    async with scale_and_twin(path) as (scale, twin, heard, _):
        twin.load("1.500", settle_ms=700)
        assert (await scale.weigh(PATIENCE_S)).value == "1.500"
        assert any(status.motion for status in heard.now(ScaleStatus))
        await twin.do("motion", {"on": True})
        with pytest.raises(NotReady, match="come to rest") as caught:
            await scale.weigh(0.5)
        assert caught.value.reason == "in_motion"


async def test_over_and_under_say_so(path: Path) -> None:
    async with scale_and_twin(path) as (scale, twin, _, _):
        await twin.do("over", {})
        with pytest.raises(NotReady) as caught:
            await scale.weigh(0.5)
        assert caught.value.reason == "over"
        await twin.do("under", {})
        with pytest.raises(NotReady) as caught:
            await scale.weigh(0.5)
        assert caught.value.reason == "under_zero"


async def test_zero_and_tare(path: Path) -> None:
    async with scale_and_twin(path) as (scale, twin, _, _):
        twin.load("0.010")
        status = await scale.zero(PATIENCE_S)
        assert status.centre_of_zero
        twin.load("0.260")
        assert (await scale.tare(PATIENCE_S)).net
        twin.load("0.760")
        weight = await scale.weigh(PATIENCE_S)
        assert (weight.value, weight.net) == ("0.500", True)
        assert (await scale.tare_value("0.100", "kg", PATIENCE_S)).net
        assert (await scale.weigh(PATIENCE_S)).value == "0.650"
        assert not (await scale.clear_tare(PATIENCE_S)).net
        assert (await scale.weigh(PATIENCE_S)).value == "0.750"


async def test_a_late_answer_is_never_taken_for_the_next_weight(path: Path) -> None:
    async with scale_and_twin(path) as (scale, twin, heard, _):
        twin.load("1.000")
        await twin.do("late", {"ms": 900})
        with pytest.raises(NotReady) as caught:
            await scale.weigh(0.3)
        assert caught.value.reason == "no_answer"
        twin.load("2.000")
        await twin.do("late", {"ms": 0})
        assert (await scale.weigh(PATIENCE_S)).value == "2.000"
        assert [weight.value for weight in heard.now(Weight)] == ["1.000", "2.000"]


async def test_split_frames_are_whole_and_silence_is_no_answer(path: Path) -> None:
    async with scale_and_twin(path) as (scale, twin, _, _):
        twin.load("3.141")
        await twin.do("split", {"on": True})
        assert (await scale.weigh(PATIENCE_S)).value == "3.141"
        await twin.do("silence", {"on": True})
        with pytest.raises(NotReady, match="check its power and cable") as caught:
            await scale.weigh(0.4)
        assert caught.value.reason == "no_answer"


async def test_rubbish_is_told_apart_from_silence_and_does_not_last(path: Path) -> None:
    async with scale_and_twin(path) as (scale, twin, heard, _):
        await twin.do("garble", {"on": True})
        with pytest.raises(Garbled, match="rubbish"):
            await scale.weigh(0.7)
        await twin.do("garble", {"on": False})
        assert await heard.of(Noise)
        twin.load("0.100")
        assert (await scale.weigh(PATIENCE_S)).value == "0.100"


async def test_a_pulled_cable_ends_a_weighing_at_once(path: Path) -> None:
    async with scale_and_twin(path) as (scale, twin, _, task):
        await twin.do("motion", {"on": True})
        weighing = asyncio.create_task(scale.weigh(PATIENCE_S), name="a weighing")
        await asyncio.sleep(0)
        await twin.do("cable", {"to": "pull"})
        with pytest.raises(DeviceLost):
            await weighing
        await asyncio.wait((task,))
        with pytest.raises(DeviceLost, match="not connected"):
            await scale.weigh(PATIENCE_S)


async def test_a_line_of_seven_bits_can_be_opened_again_and_again(path: Path) -> None:
    async with scale_and_twin(path) as (scale, twin, _, task):
        twin.load("0.250")
        for _ in range(3):
            assert (await scale.weigh(PATIENCE_S)).value == "0.250"
            task.cancel()
            await asyncio.wait((task,))
            task = asyncio.create_task(scale.run(), name="the driver again")
            await until(lambda: scale.is_open)
        task.cancel()
        await asyncio.wait((task,))


def test_a_tare_is_five_digits() -> None:
    assert Toledo8217().tare_value("0.125", "kg") == b"T00125\r"
    assert Toledo8217().tare_value("1.25", "lb") == b"T00125\r"
    for value, unit, told in (
        ("0.1255", "kg", "3 of them after the point"),
        ("100", "kg", "5 digits"),
        ("-1", "kg", "a decimal such as"),
        ("1", "g", "one of kg, lb"),
    ):
        with pytest.raises(BadOption, match=told):
            Toledo8217().tare_value(value, unit)  # type: ignore[arg-type]


@pytest.mark.parametrize("lost", range(7))
def test_a_frame_that_lost_a_byte_is_no_weight_where_the_unit_is_known(lost: int) -> None:
    frame = b"\x0212.345\r"
    scale = Toledo8217(Toledo8217Options(unit="kg"))
    events = [*scale.receive(frame[:lost] + frame[lost + 1 :]), *scale.receive(frame)]
    assert [event.value for event in events if isinstance(event, Weight)] == ["12.345"]
    assert [type(event) for event in events] == [Noise, Weight]
