"""A whole edge for flow tests: real broker, real edge process; and a till that speaks plain MQTT."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bench.gateway import Gateway, gateway, lanes_toml
from tests.flows.plain_till import PlainTill


@pytest.fixture
async def running() -> AsyncIterator[Gateway]:
    """A gateway with two lanes and no devices."""
    async with gateway(lanes_toml(2)) as at:
        yield at


@pytest.fixture
async def till(running: Gateway) -> AsyncIterator[PlainTill]:
    """The till of lane 1."""
    one = PlainTill(running.address, "1")
    async with one.client:
        await one.client.wait_connected()
        yield one
