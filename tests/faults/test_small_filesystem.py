"""A file system that really is small and really runs full: nothing accepted is lost, and with room it goes on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from edge.journal.audit import verify
from edge.journal.store import StorageFull
from tests.edge.journal_facts import fact, opened

SIZE = "4m"
BALLAST_BYTES = 1024 * 1024
MOUNT = 'mount -t tmpfs -o size="$1" none "$2" && shift 2 && exec "$@"'


async def _fill(folder: Path) -> None:
    """In a process with the small file system at `folder`: fill it, free some, go on."""
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(BALLAST_BYTES))
    async with opened(folder / "store.db") as store:  # takes the disk for endless: its own answer counts
        number = 0
        try:
            while number < 100_000:
                await store.record(fact(lane_seq=number + 1, pad="x" * 1_000))
                number += 1
        except StorageFull:
            pass
        else:
            raise AssertionError("never full")
        assert store.faulted is None
        assert number > 100
        ballast.unlink()
        assert (await store.record(fact(lane_seq=number + 1))).seq == number + 1
    async with opened(folder / "store.db") as store:
        assert store.salvaged is None
        assert await store.fetch_one("SELECT count(*), max(lane_seq) FROM facts") == (number + 1, number + 1)
    assert verify(folder / "store.db").ok


def test_a_full_file_system_refuses_and_with_room_goes_on(tmp_path: Path) -> None:
    def inside(*command: str) -> subprocess.CompletedProcess[str]:
        mounted = ["unshare", "-m", "sh", "-c", MOUNT, "sh", SIZE, str(tmp_path), *command]
        return subprocess.run(mounted, capture_output=True, text=True, timeout=120)

    try:
        tried = inside("true")
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if tried.returncode:
        pytest.skip(f"no file system may be mounted here: {tried.stderr.strip()}")
    ended = inside(sys.executable, "-m", "tests.faults.test_small_filesystem", str(tmp_path))
    assert ended.returncode == 0, ended.stderr


if __name__ == "__main__":
    asyncio.run(_fill(Path(sys.argv[1])))
