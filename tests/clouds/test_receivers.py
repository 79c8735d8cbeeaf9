"""Several receivers on one shared subscription and one PostgreSQL: killed at any time, again and again, in a drain."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine

from cloud_bridge.hq import schema
from edge.bus.messages.facts import FactClass
from tests.cloud_bridge.conftest import Configure
from tests.cloud_bridge.rig import Edge, Mosquitto, a_bridge, at_hq, count_at_hq, in_journal, scalars, until

RECEIVERS = 3
KILLS = 6
FACTS = 8_000
EVERY = FACTS // (KILLS + 2)


class ReceiverProcess:
    """`tillgate hq receive` as HQ runs it; dies with the test."""

    def __init__(self, url: str, broker: str, log: Path, *more: str) -> None:
        self._command = ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "edge.cli", "hq", "receive"]
        self._command += ["--url", url, "--broker", broker, *more]
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*self._command, stderr=log)

    async def kill(self) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    @property
    def connected(self) -> bool:
        return "connected to" in self._log.read_text()


@pytest.mark.parametrize("hq_url", ["postgresql"], indirect=True)
async def test_receivers_are_killed_again_and_again_in_a_drain(
    hq: Engine, hq_url: str, tmp_path: Path, configure: Configure
) -> None:
    """Nothing is lost, nothing is twice, the others take over. Mosquitto sends nobody what a dead receiver held."""
    chance = random.Random(4)
    cloud = Mosquitto(tmp_path / "cloud", more="max_queued_messages 1000")
    await cloud.start()
    broker = f"127.0.0.1:{cloud.port}"
    receivers = [ReceiverProcess(hq_url, broker, tmp_path / f"receiver-{n}.log") for n in range(RECEIVERS)]
    config = configure(cloud.port, 'profile = "safe"\n')  # 400 KB a second at most: the drain lasts
    try:
        async with Edge(config).running() as edge:
            await edge.journal(FactClass.TELEMETRY, FACTS // 2, noise_bytes=200)
            await edge.journal(FactClass.TRANSACTION, FACTS // 2, noise_bytes=200)
            await asyncio.gather(*(receiver.start() for receiver in receivers))
            await until(lambda: all(receiver.connected for receiver in receivers))
            async with a_bridge(config):
                for kill in range(KILLS):
                    await until(lambda kill=kill: count_at_hq(hq) >= (kill + 1) * EVERY)
                    victim = chance.choice(receivers)
                    await victim.kill()
                    assert count_at_hq(hq) < FACTS, "the drain was over before the kill"
                    await edge.journal(FactClass.CRITICAL, 5)
                    await victim.start()
                await until(lambda: edge.confirmed(FactClass.CRITICAL) == 5 * KILLS)
                await until(lambda: edge.confirmed() + edge.confirmed(FactClass.TELEMETRY) == FACTS)
            assert at_hq(hq) == await in_journal(edge.store)
    finally:
        for receiver in receivers:
            await receiver.kill()
        await cloud.kill()
    assert scalars(hq, schema.rejected.c.id) == []
