"""The bridge's own file on a disk that is full or fails: no reason to take the file for damaged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cloud_bridge.cursors import Cursors
from cloud_bridge.daemon import TRY_AGAIN
from edge.bus.messages.facts import FactClass
from edge.config import load
from tests.faults.shim import Shim


@pytest.fixture
async def config_file(tmp_path: Path) -> Path:
    """A store whose bridge has lived before: HQ has confirmed 41 sales."""
    file = tmp_path / "store.toml"
    file.write_text(
        f'state_dir = "{tmp_path}/state"\n[store]\nid = "s1"\nname = "S"\ntimezone = "UTC"\ncurrency = "EUR"\n'
        '[[lanes]]\nid = "1"\n[cloud]\nhost = "127.0.0.1"\nport = 1\n'
    )
    cursors = await Cursors.open(load(file).bridge_db)
    await cursors.save_confirmed("an-epoch", {FactClass.TRANSACTION: 41})
    await cursors.close()
    return file


@pytest.mark.parametrize("trouble", ["full", "failing"])
async def test_a_disk_in_trouble_sets_nothing_aside(config_file: Path, trouble: str) -> None:
    config = load(config_file)
    shim = Shim(config.state_dir)
    if trouble == "full":
        shim.fill(0)
    else:
        shim.io_error()
    command = [sys.executable, "-m", "cloud_bridge.daemon", "--config", str(config_file)]
    ended = subprocess.run(command, env=shim.env, capture_output=True, text=True, timeout=60)
    assert ended.returncode == TRY_AGAIN, ended.stderr
    assert "is the disk full or failing?" in ended.stderr
    assert "Traceback" not in ended.stderr

    assert list(config.state_dir.glob("bridge.db.damaged-*")) == []
    cursors = await Cursors.open(config.bridge_db)
    try:
        assert await cursors.confirmed("an-epoch") == {FactClass.TRANSACTION: 41}
    finally:
        await cursors.close()
