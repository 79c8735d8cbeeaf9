"""Live weights through a real broker and a real edge process, for as long as a till is there and has asked for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from bench.gateway import Gateway, gateway, lanes_toml
from drivers.virtual.scales.toledo_8217 import VirtualToledo8217
from drivers.virtual.wire import PtyWire
from edge.till import Till

WITHIN_S = 30.0
UNDISTURBED_S = 1.5
"""A scale that is watched is asked several times in this time."""


@pytest.fixture
async def scale(tmp_path: Path) -> AsyncIterator[VirtualToledo8217]:
    twin = VirtualToledo8217("scale-1", PtyWire(tmp_path / "ttyscale"))
    await twin.open()
    yield twin
    await twin.close()


@pytest.fixture
async def at(scale: VirtualToledo8217, tmp_path: Path) -> AsyncIterator[Gateway]:
    tables = f"""{lanes_toml(2)}
[[devices]]
id = "scale-1"
protocol = "toledo-8217"
lanes = ["1", "2"]
transport = {{ kind = "serial", path = "{scale.wire.address}" }}
"""
    async with gateway(tables, folder=tmp_path) as running:
        yield running


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_till_sees_the_weight_until_it_goes(at: Gateway, scale: VirtualToledo8217, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    scale.load("0.482")
    till = Till(store="BENCH", lane="1", ledger_path=tmp_path / "till.db", address=at.address, on_weight=seen.append)
    async with till:
        await until(lambda: till.gateway_online)
        assert (await till.request("scale.watch", {"for_ms": 60_000}))["watching"] is True
        await until(lambda: any(one["value"] == "0.482" and one["stable"] for one in seen))
        assert (await till.request("scale.weigh"))["value"] == "0.482"
        scale.load("0.500")
        await until(lambda: seen[-1]["value"] == "0.500")
    asked = -1
    async with asyncio.timeout(WITHIN_S):
        while scale.weighings != asked:  # its till is gone: soon nobody asks the scale any more
            asked = scale.weighings
            await asyncio.sleep(UNDISTURBED_S)
