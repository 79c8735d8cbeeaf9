"""The shim bites: a real Python with a real SQLite meets each fault, below its folder only, and is well afterwards."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.shim import Calls, Shim

# Carries out one line of Python after the other and says what came of it, or the error's name.
CHILD = """
import os, shutil, sqlite3, sys, time
from datetime import UTC, datetime
from pathlib import Path
from edge.journal.clock import kernel_synced

def insert(bytes_=4000):
    db.execute("INSERT INTO t VALUES (randomblob(?))", (bytes_,))
    return "ok"

db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode = WAL")
db.execute("PRAGMA synchronous = FULL")
db.execute("CREATE TABLE t (content BLOB)")
for line in sys.stdin:
    try:
        print(eval(line), flush=True)
    except sqlite3.Error as error:
        print(error.sqlite_errorname, flush=True)
    except OSError as error:
        print(type(error).__name__, error.errno, flush=True)
"""


class Child:
    """A process under the shim."""

    def __init__(self, shim: Shim, database: Path) -> None:
        root = Path(__file__).parents[2]
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-c", CHILD, str(database)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=shim.env, cwd=root,
        )  # fmt: skip
        assert self.says("'ready'") == "ready", "its database is open before anything fails"

    def says(self, line: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        return self.process.stdout.readline().strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "below"
    made.mkdir()
    return made


@pytest.fixture
def shim(folder: Path) -> Shim:
    return Shim(folder)


@pytest.fixture
def child(shim: Shim, folder: Path) -> Iterator[Child]:
    one = Child(shim, folder / "a.db")
    yield one
    one.process.kill()
    one.process.communicate()


def test_a_full_disk(shim: Shim, folder: Path, child: Child) -> None:
    free = f"shutil.disk_usage({str(folder)!r}).free"
    assert child.says("insert()") == "ok"
    shim.fill(20_000)
    assert 16_000 <= int(child.says(free)) <= 20_000
    answers = [child.says("insert()") for _ in range(4)]
    assert answers[0] == "ok", "what fits is taken"
    assert answers[-1] == "SQLITE_FULL"
    assert shim.failed > 0
    assert int(child.says(free)) < 20_000
    outside = folder.parent / "beside"
    assert child.says(f"Path({str(outside)!r}).write_bytes(bytes(50_000))") == "50000", "only what is below"
    assert child.says(f"Path({str(folder / 'x')!r}).write_bytes(bytes(50_000))") == "OSError 28"
    shim.free()
    assert child.says("insert(50_000)") == "ok"
    assert int(child.says(free)) > 1_000_000


@pytest.mark.parametrize(
    ("calls", "name"),
    [(Calls.WRITE, "SQLITE_IOERR_WRITE"), (Calls.SYNC, "SQLITE_IOERR_FSYNC")],
)
def test_errors_of_the_disk(shim: Shim, child: Child, calls: Calls, name: str) -> None:
    assert child.says("insert()") == "ok"
    shim.io_error(calls=calls)
    assert child.says("insert()") == name
    assert child.says("insert()") == name
    shim.io_error(False)
    assert child.says("insert()") == "ok"
    shim.io_error(calls=calls, times=1)
    assert [child.says("insert()"), child.says("insert()")] == [name, "ok"], "once only"


def test_reading_fails_too(shim: Shim, folder: Path, child: Child) -> None:
    reading = f"os.pread(os.open({str(folder / 'a.db')!r}, os.O_RDONLY), 4, 0)"
    assert child.says(reading) == "b'SQLi'"
    shim.io_error(calls=Calls.READ)
    assert child.says(reading) == "OSError 5"


def test_a_file_system_gone_read_only(shim: Shim, folder: Path, child: Child) -> None:
    shim.read_only()
    assert child.says("insert()").startswith(("SQLITE_IOERR", "SQLITE_READONLY"))
    assert child.says(f"open({str(folder / 'y')!r}, 'w')") == "OSError 30"
    assert child.says(f"open({str(folder / 'a.db')!r}, 'rb').read(4)") == "b'SQLi'", "reading is still possible"
    shim.read_only(False)
    assert child.says("insert()") == "ok"


@pytest.mark.parametrize("years", [10, -10])
def test_the_wall_clock_jumps_and_no_other(shim: Shim, child: Child, years: int) -> None:
    jump_s = years * 365.25 * 86_400
    ways = (
        "time.time()",
        "datetime.now(UTC).timestamp()",
        "db.execute(\"SELECT unixepoch('now')\").fetchone()[0]",
    )
    steady = ("time.monotonic()", "time.clock_gettime(time.CLOCK_BOOTTIME)")
    before = [float(child.says(way)) for way in steady]
    shim.jump(jump_s)
    for way in ways:
        assert abs(float(child.says(way)) - time.time() - jump_s) < 60, way
    assert all(0 <= float(child.says(way)) - was < 60 for way, was in zip(steady, before, strict=True))
    shim.jump(0)
    assert abs(float(child.says("time.time()")) - time.time()) < 60


def test_what_the_kernel_says_of_its_clock(shim: Shim, child: Child) -> None:
    really = child.says("kernel_synced()")
    for yes in (True, False, True):
        shim.synced(yes)
        assert child.says("kernel_synced()") == str(yes)
    shim.synced(None)
    assert child.says("kernel_synced()") == really
