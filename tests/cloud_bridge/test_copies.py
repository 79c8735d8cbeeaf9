"""A journal that was copied: two lives go on under the same numbers, and each is told only what HQ has of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import Engine

from cloud_bridge.hq import schema
from edge.bus.messages.facts import FactClass
from edge.config import StoreConfig
from tests.cloud_bridge.conftest import Configure
from tests.cloud_bridge.rig import Edge, Mosquitto, a_bridge, a_receiver, at_hq, in_journal, scalars, until

C, T = FactClass.CRITICAL, FactClass.TRANSACTION


async def lived(config: StoreConfig, hq: Engine, port: int, sales: int, upto: int) -> None:
    """The gateway runs, sells so much, and is stopped when HQ has everything."""
    async with Edge(config).running() as edge, a_receiver(hq, port), a_bridge(config):
        await edge.journal(T, sales, noise_bytes=20)
        await until(lambda: edge.confirmed() == upto)


def files(config: StoreConfig) -> list[Path]:
    return [path for path in config.state_dir.iterdir() if path.is_file()]


@pytest.mark.parametrize("bridge_too", [True, False], ids=["whole disk", "store.db alone"])
@pytest.mark.parametrize("sold", [20, 80], ids=["behind HQ", "ahead of HQ"])
async def test_facts_of_an_older_copy_never_count_as_confirmed_by_what_hq_has_of_the_first_life(
    hq_file: Engine, cloud: Mosquitto, configure: Configure, tmp_path: Path, sold: int, *, bridge_too: bool
) -> None:
    config = configure(cloud.port)
    await lived(config, hq_file, cloud.port, 30, upto=30)
    backup = tmp_path / "backup"
    backup.mkdir()
    for path in files(config):
        shutil.copy2(path, backup)
    await lived(config, hq_file, cloud.port, 50, upto=80)
    first_life = at_hq(hq_file)
    for path in files(config):
        if bridge_too or path.name.startswith("store.db"):
            path.unlink()
    for path in backup.iterdir():
        if bridge_too or path.name.startswith("store.db"):
            shutil.copy2(path, config.state_dir)

    async with Edge(config).running() as edge, a_receiver(hq_file, cloud.port):
        async with a_bridge(config):
            await edge.journal(T, sold, noise_bytes=20)
            await until(lambda: edge.status and "older copy" in edge.status.detail)
            await edge.journal(C, 5)  # of which there is no second life
            await until(lambda: edge.confirmed(C) == 5)
            await until(lambda: edge.status and edge.status.link == "online")
            assert edge.confirmed() <= 30
        edge.statuses.clear()
        async with a_bridge(config):
            await until(lambda: edge.status and "older copy" in edge.status.detail)
            await edge.journal(C, 5)
            await until(lambda: edge.confirmed(C) == 10)
            assert edge.confirmed() <= 30
        now = [row for row in at_hq(hq_file) if row[0] == T.value]
        assert now[: len(first_life)] == first_life
        if len(now) > len(first_life):  # sent before HQ had spoken: kept behind a hole, and never confirmed
            assert now[len(first_life)][1] > first_life[-1][1] + 1
        assert [row for row in at_hq(hq_file) if row[0] == C.value] == [
            row for row in await in_journal(edge.store) if row[0] == C.value
        ]
    assert any(scalars(hq_file, schema.rejected.c.alarm))


async def test_a_copy_that_begins_an_epoch_of_its_own_is_heard_again(
    hq_file: Engine, cloud: Mosquitto, configure: Configure
) -> None:
    config = configure(cloud.port)
    await lived(config, hq_file, cloud.port, 30, upto=30)
    for path in files(config):
        if path.name.startswith("store.db"):
            path.rename(path.with_name(f"aside-{path.name}"))
    await lived(config, hq_file, cloud.port, 40, upto=40)
    assert len(at_hq(hq_file)) == 70
    assert not scalars(hq_file, schema.rejected.c.id)
