"""Every scale kind against its virtual twin on a pty: one row per kind and form, the same questions to all.

A row says what of a scale's behaviour is its own. Tests of what only one kind has stand in a file named after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from drivers.capture import new_protocol
from drivers.catalog import DEVICES
from drivers.errors import BadOption, NotReady
from drivers.events import Noise, ScaleStatus, Unit, Weight
from drivers.scales.base import ScaleProtocol
from drivers.scales.scale_driver import ScaleDriver
from drivers.virtual.scales.base import VirtualScale
from tests.drivers.rig import PATIENCE_S, Heard, scale_on_a_pty

SAYS = {"motion": "in_motion", "over": "over", "under": "under_zero", "silence": "no_answer"}


@dataclass(frozen=True)
class Row:
    """One kind of scale, in one of its forms."""

    kind: str
    form: str = ""
    value: str = "0.482"
    """What is put on the plate, and what must come out, digit for digit."""
    unit: Unit = "kg"
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the driver."""
    twin: Mapping[str, Any] = field(default_factory=dict)
    """Of the twin."""
    zeroes: bool = False
    tares: bool | None = False
    """None: there is such a command in the protocol, which this scale refuses."""
    clears: bool = False
    tare_value: str | None = None
    """A known tare, where the protocol takes one."""
    tells_net: bool = True
    """Whether a weight comes with the word that a tare was taken off, or was not."""
    tells_tare: bool = False
    """Whether a net weight comes with the tare that was taken off."""
    repeats: bool = True
    """False: says nothing while the weight is unchanged."""
    weighs_nothing: bool = True
    """False: an empty plate has no weight."""
    in_steps: bool = False
    """It is asked in several steps: a late first answer leads to a weight of that later moment."""
    says: Mapping[str, str] = field(default_factory=dict)
    """The reasons of NotReady where they differ from `SAYS`; "": it cannot get there, or cannot tell."""

    def __str__(self) -> str:
        return f"{self.kind}-{self.form}" if self.form else self.kind


ICL_SAYS = {"motion": "no_weight", "over": "out_of_range", "under": "out_of_range"}
DIALOG: dict[str, Any] = {"twin": {"repeats": True}, "tells_net": False, "in_steps": True, "weighs_nothing": False}
ROWS = [
    Row("toledo-8217", zeroes=True, tares=True, clears=True, tare_value="0.125"),
    Row(
        "toledo-8217",
        "lb",
        value="1.06",
        unit="lb",
        twin={"unit": "lb", "capacity": "30", "parity": "shown"},
        zeroes=True,
        tares=True,
        clears=True,
        tare_value="0.25",
    ),
    Row("toledo-8213", value="1.48", options={"unit": "kg"}, zeroes=True),
    Row(
        "toledo-8213",
        "sasi",
        value="12.06",
        unit="lb",
        options={"unit": "lb", "form": "sasi"},
        twin={"unit": "lb", "capacity": "30", "form": "sasi", "parity": "shown"},
    ),
    Row(
        "toledo-8213",
        "g",
        value="482",
        unit="g",
        options={"unit": "g"},
        twin={"unit": "g", "capacity": "6000"},
        zeroes=True,
    ),
    Row("nci-scp-01", zeroes=True, tares=True),
    Row(
        "nci-scp-01",
        "oz",
        value="12.5",
        unit="oz",
        twin={"unit": "oz", "capacity": "480", "status": 4, "parity": "odd"},
        zeroes=True,
        tares=True,
    ),
    Row("nci-scp-01", "ecr", twin={"form": "ecr", "parity": "even"}, zeroes=True, tares=None),
    Row("sma-scp-0499", zeroes=True, tares=True, clears=True, tare_value="0.125"),
    Row(
        "sma-scp-0499",
        "g",
        value="5025",
        unit="g",
        twin={"unit": "g", "capacity": "15000"},
        zeroes=True,
        tares=True,
        clears=True,
        tare_value="120",
    ),
    Row("mt-sics", zeroes=True, tares=True, clears=True, tare_value="0.125", tells_net=False),
    Row(
        "mt-sics",
        "g",
        value="482.5",
        unit="g",
        twin={"unit": "g", "capacity": "6000", "resolution": "0.1"},
        zeroes=True,
        tares=True,
        clears=True,
        tare_value="12.5",
        tells_net=False,
    ),
    Row("adam-azextra", tells_net=False, repeats=False, says=dict.fromkeys(SAYS, "unchanged")),
    Row("adam-azextra", "full", twin={"label": "full"}, repeats=False, says=dict.fromkeys(SAYS, "unchanged")),
    Row("adam-cpwplus", zeroes=True, tares=True, tells_net=False, says={"over": "no_answer"}),
    Row(
        "adam-cpwplus",
        "continuous",
        value="1.06",
        unit="lb",
        options={"output": "continuous"},
        twin={"unit": "lb", "capacity": "30", "output": "continuous"},
        zeroes=True,
        tares=True,
        says={"over": "no_weight"},
    ),
    Row("digi-ds-425", options={"unit": "kg"}, says={"over": "no_answer"}),
    Row(
        "digi-ds-425",
        "bare",
        options={"unit": "lb"},
        value="1.06",
        unit="lb",
        twin={"unit": "lb", "header": False},
        says={"over": "no_answer"},
    ),
    Row("kern", tares=True, tells_net=False, says={"over": "no_weight"}),
    Row(
        "kern",
        "kfb",
        value="482",
        unit="g",
        options={"form": "kfb"},
        twin={"form": "kfb", "unit": "g", "capacity": "6000"},
        zeroes=True,
        tares=True,
        says={"over": "no_answer"},
    ),
    Row("dini-argeo", twin={"address": "01"}, zeroes=True, tares=True, clears=True, tare_value="0.125"),
    Row(
        "dini-argeo",
        "extended",
        options={"form": "extended"},
        zeroes=True,
        tares=True,
        clears=True,
        tare_value="0.125",
        tells_tare=True,
    ),
    Row("samsung-ecr", tells_net=False, in_steps=True),
    Row(
        "samsung-ecr",
        "lb",
        value="1.06",
        unit="lb",
        twin={"unit": "lb", "capacity": "30"},
        tells_net=False,
        in_steps=True,
    ),
    Row("icl", tells_net=False, in_steps=True, says=ICL_SAYS),
    Row(
        "icl",
        "lb",
        value="1.06",
        unit="lb",
        twin={"unit": "lb", "capacity": "30", "confirm": "cr"},
        tells_net=False,
        in_steps=True,
        says=ICL_SAYS,
    ),
    Row("cas-22"),
    Row("cas-22", "g", value="482", unit="g", twin={"unit": "g", "capacity": "6000"}),
    Row("cas-10", options={"unit": "kg"}, tells_net=False, says={"motion": "", "over": ""}),
    Row("dialog-02", **DIALOG),
    Row("dialog-04", options={"unit_price": "000199"}, **DIALOG),
    Row("dialog-06", **DIALOG),
    Row(
        "dialog-06",
        "lb-checked",
        value="1.06",
        unit="lb",
        options={"polynomial": 0x11021},
        **{**DIALOG, "twin": {"unit": "lb", "capacity": "30", "repeats": True, "polynomial": 0x11021}},
    ),
    Row("dibal", tells_net=False, says=dict.fromkeys(("motion", "over", "under"), "no_weight")),
]
rows = pytest.mark.parametrize("row", ROWS, ids=str)


def is_asked(row: Row) -> bool:
    """Whether there is a question at all; other scales send by themselves."""
    if row.kind not in DEVICES:
        return False  # a step was left out, and a test of its own says which
    protocol = new_protocol(row.kind, row.options)
    assert isinstance(protocol, ScaleProtocol)
    return bool(protocol.weigh())


def scale_and_twin(row: Row, path: Path) -> AbstractAsyncContextManager[tuple[ScaleDriver, VirtualScale, Heard]]:
    return scale_on_a_pty(row.kind, path, row.options, row.twin)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ttyscale-1"


def test_every_scale_with_a_line_has_a_row() -> None:
    kinds = {name for name, kind in DEVICES.items() if kind.category == "scale" and "serial" in kind.transports}
    assert kinds <= {row.kind for row in ROWS}


@rows
async def test_weighs_as_the_scale_resolved_it_and_the_same_weight_twice(row: Row, path: Path) -> None:
    async with scale_and_twin(row, path) as (scale, twin, heard):
        twin.load(row.value)
        first = await scale.weigh(PATIENCE_S)
        if row.repeats:
            second = await scale.weigh(PATIENCE_S)
            assert (second.value, second.raw) == (first.value, first.raw)
            assert second.captured_ns > first.captured_ns
            twin.load("0")
            if row.weighs_nothing:
                assert Decimal((await scale.weigh(PATIENCE_S)).value) == 0
            else:
                with pytest.raises(NotReady) as caught:
                    await scale.weigh(0.4)
                assert caught.value.reason == "below_minimum"
        else:
            with pytest.raises(NotReady) as caught:
                await scale.weigh(0.3)
            assert caught.value.reason == "unchanged"
        assert (first.value, first.unit, first.stable) == (row.value, row.unit, True)
        assert (first.net, first.tare) == (False if row.tells_net else None, None)
        assert first.raw
        assert not heard.now(Noise)


@rows
async def test_only_a_stable_weight_answers(row: Row, path: Path) -> None:
    async with scale_and_twin(row, path) as (scale, twin, heard):
        twin.load(row.value, settle_ms=150)
        assert (await scale.weigh(PATIENCE_S)).value == row.value
        assert all(weight.value == row.value for weight in heard.now(Weight) if weight.stable)


@rows
async def test_what_keeps_it_from_weighing_is_named(row: Row, path: Path) -> None:
    async def reason(what: str) -> str:
        async with scale_and_twin(row, path.with_name(f"tty{what}")) as (scale, twin, _):
            if what in ("motion", "silence"):
                twin.load(row.value)
                await twin.do(what, {"on": True})
            else:
                await twin.do(what, {})
            with pytest.raises(NotReady) as caught:
                await scale.weigh(0.4)
            return caught.value.reason

    expected = {what: name for what, name in {**SAYS, **row.says}.items() if name}
    assert dict(zip(expected, await asyncio.gather(*map(reason, expected)), strict=True)) == expected


@rows
async def test_split_answers_are_whole(row: Row, path: Path) -> None:
    async with scale_and_twin(row, path) as (scale, twin, heard):
        await twin.do("split", {"on": True})
        twin.load(row.value)
        assert (await scale.weigh(PATIENCE_S)).value == row.value
        assert not heard.now(Noise)


@rows
async def test_zero(row: Row, path: Path) -> None:
    async with scale_and_twin(row, path) as (scale, twin, _):
        twin.load(str(twin.plate.resolution * 10))
        if not row.zeroes:
            with pytest.raises(NotReady) as caught:
                await scale.zero(PATIENCE_S)
            assert caught.value.reason == "unsupported"
            return
        status = await scale.zero(PATIENCE_S)
        assert (status.centre_of_zero, status.reason) == (True, None)
        assert twin.plate.gross == 0
        await twin.do("motion", {"on": True})
        twin.load(row.value)
        status = await refused(scale.zero)
        assert not status.centre_of_zero


@rows
async def test_tare(row: Row, path: Path) -> None:
    async with scale_and_twin(row, path) as (scale, twin, _):
        box = row.value
        both = str(Decimal(box) * 2)
        twin.load(box)
        if row.tares is False:
            with pytest.raises(NotReady) as caught:
                await scale.tare(PATIENCE_S)
            assert caught.value.reason == "unsupported"
        elif row.tares is None:
            assert (await scale.tare(PATIENCE_S)).reason == "refused"
        else:
            assert (await scale.tare(PATIENCE_S)).net
            twin.load(both)
            weight = await scale.weigh(PATIENCE_S)
            assert (weight.value, weight.net) == (row.value, True if row.tells_net else None)
            assert weight.tare == (box if row.tells_tare else None)
        if not row.clears:
            with pytest.raises(NotReady) as caught:
                await scale.clear_tare(PATIENCE_S)
            assert caught.value.reason == "unsupported"
        else:
            assert not (await scale.clear_tare(PATIENCE_S)).net
            weight = await scale.weigh(PATIENCE_S)
            assert (weight.value, weight.net) == (both, False if row.tells_net else None)


@rows
async def test_a_known_tare(row: Row, path: Path) -> None:
    async with scale_and_twin(row, path) as (scale, twin, _):
        if row.tare_value is None:
            with pytest.raises(NotReady) as caught:
                await scale.tare_value("0.100", row.unit, PATIENCE_S)
            assert caught.value.reason == "unsupported"
            return
        assert (await scale.tare_value(row.tare_value, row.unit, PATIENCE_S)).net
        assert twin.plate.tare == Decimal(row.tare_value)
        twin.load(row.value)
        weight = await scale.weigh(PATIENCE_S)
        net = True if row.tells_net else None
        assert (weight.value, weight.net) == (str(Decimal(row.value) - twin.plate.tare), net)
        with pytest.raises(BadOption, match="weighs in"):
            await scale.tare_value("1", "lb" if row.unit == "kg" else "kg", PATIENCE_S)


@pytest.mark.parametrize("row", [row for row in ROWS if is_asked(row)], ids=str)
async def test_a_late_answer_is_never_taken_for_the_next_weight(row: Row, path: Path) -> None:
    async with scale_and_twin(row, path) as (scale, twin, heard):
        twin.load(row.value)
        await twin.do("late", {"ms": 250})
        with pytest.raises(NotReady) as caught:
            await scale.weigh(0.1)
        assert caught.value.reason == scale.protocol.silence
        other = str(Decimal(row.value) * 2)
        twin.load(other)
        await twin.do("late", {"ms": 0})
        assert (await scale.weigh(PATIENCE_S)).value == other
        # The late one did come, and went to nobody.
        assert heard.now(Weight)[0].value == (other if row.in_steps else row.value)


async def refused(command: Callable[[float], Any]) -> ScaleStatus:
    """What the scale says to a command that it cannot obey now."""
    try:
        status = await command(0.4)
    except NotReady as error:
        return ScaleStatus(b"", motion=error.reason == "in_motion")
    assert isinstance(status, ScaleStatus)
    return status
