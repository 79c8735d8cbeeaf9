"""Scales that are asked in several steps, or that send by themselves, seen by a till: as any other scale."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.virtual.scales.dialog_06 import VirtualDialog06
from edge.bus.messages.replies import Code
from tests.edge.devices_rig import Counter, until


@pytest.mark.parametrize("kind", ["samsung-ecr", "icl", "cas-22", "dialog-02", "dialog-06", "dibal"])
async def test_a_till_gets_its_weight(kind: str, tmp_path: Path) -> None:
    async with Counter(tmp_path, scale_kind=kind) as counter:
        await until(lambda: counter.registry.all("scale")[0].is_open, "an open port")
        counter.scale.load("0.482")
        weight = await counter.ask("scale.weigh")
        assert (weight["value"], weight["unit"], weight["stable"]) == ("0.482", "kg", True)
        assert counter.state("scale-1")["state"] == "ready"


async def test_a_scale_that_wants_checksums_tells_what_to_configure(tmp_path: Path) -> None:
    async with Counter(tmp_path, scale_kind="dialog-06") as counter:
        assert isinstance(counter.scale, VirtualDialog06)
        await until(lambda: counter.registry.all("scale")[0].is_open, "an open port")
        counter.scale.polynomial = 0x11021
        counter.scale.load("0.482")
        problem = await counter.problem("scale.weigh", deadline_s=1.0)
        assert (problem.code, problem.detail.split(":")[0]) == (Code.NOT_READY, "needs_checksum")
        assert "polynomial" in problem.detail
        state = counter.state("scale-1")
        assert (state["state"], "polynomial" in state["please"]) == ("not_ready", True)


async def test_a_scale_that_weighs_each_load_once_is_neither_probed_nor_watched(tmp_path: Path) -> None:
    async with Counter(tmp_path, scale_kind="dialog-02") as counter:
        await until(lambda: counter.registry.all("scale")[0].is_open, "an open port")
        counter.scale.load("0.482")
        problem = await counter.problem("scale.watch")
        assert (problem.code, problem.detail.split(":")[0]) == (Code.NOT_READY, "unsupported")
        assert counter.scale.weighings == 0
        assert (await counter.ask("scale.weigh"))["value"] == "0.482"
        problem = await counter.problem("scale.weigh", deadline_s=1.0)
        assert problem.detail.startswith("not_moved")
