"""A whole edge for flow tests: real broker, real edge process; and a till that speaks plain MQTT."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bench.gateway import Gateway, gateway, lanes_toml
from tests.flows.plain_till import PlainTill

ROOT = Path(__file__).parents[2]
WITHIN_S = 90


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


@pytest.fixture
async def beside_a_store(tmp_path: Path) -> AsyncIterator[Path]:
    """A folder where README's commands work: `.store` of a running demo store, and `./dev device`."""
    store = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "demo", "--plain", "--lanes", "1", "--state", str(tmp_path / ".store"),
        cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert store.stdout is not None
    control = tmp_path / ".store" / "devices" / "control.sock"
    script = tmp_path / "dev"
    script.write_text(
        f'#!/bin/sh\n[ "$1" = device ] || exit 2\nshift\ncd {ROOT}\n'
        f'exec {sys.executable} -m drivers.virtual.by_hand --control {control} "$@"\n'
    )
    script.chmod(0o755)
    try:
        async with asyncio.timeout(WITHIN_S):
            while b"scale-mine: ready" not in (line := await store.stdout.readline()):
                assert line, "the demo store ended"
        yield tmp_path
    finally:
        store.terminate()
        await store.communicate()


async def run(commands: str, folder: Path) -> None:
    """Run a block of a page in a shell of its own, as somebody pastes it."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
    done = await asyncio.create_subprocess_exec(
        "sh", "-eu", "-c", commands, cwd=folder, env={**os.environ, "PATH": path}, stdout=asyncio.subprocess.DEVNULL
    )
    assert await done.wait() == 0, commands
