"""kill -9 at random moments, and a disk that fails: what was accepted is there, the chain holds, nothing is twice."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

from edge.bus.messages.facts import FactClass
from edge.journal.audit import verify

ROOT = Path(__file__).parents[2]
KILLS = 12
ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
"""A seller sells for ever: it must not outlive a test run that is itself killed."""
LANES = 5

# Lanes that sell as fast as they are answered, and write down what was accepted; also state that goes with a fact.
SELLER = """
import asyncio, os, sys
from pathlib import Path
from edge.journal.clock import Clock
from edge.journal.store import Store
from tests.edge.journal_facts import STORE_ID, fact, telemetry

STEP = ("sold-1", "CREATE TABLE sold (id TEXT PRIMARY KEY) STRICT;")

async def main():
    store = await Store.open(Path(sys.argv[1]), STORE_ID, clock=Clock(), schemas=[STEP])

    async def till(lane):
        number = store.lane_highest(lane)
        while True:
            number += 1
            sale = fact(lane, number, pad="x" * 200)
            answer = await store.append_with(sale, [("INSERT INTO sold VALUES (?)", (sale.id,))])
            os.write(1, f"{sale.id} {answer.seq}\\n".encode())

    async def chatter():
        while True:
            await store.record(telemetry())

    await asyncio.gather(*(till(lane) for lane in sys.argv[2:]), chatter())

asyncio.run(main())
"""


def test_nothing_accepted_is_lost_when_edge_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    accepted: dict[str, int] = {}
    chance = random.Random(20260504)
    for _ in range(KILLS):
        accepted |= _sell_until_killed(path, answers=chance.randint(1, 150))
        # The examination on opening is part of what is tested: the next seller opens the same file.
    report = verify(path)
    assert report.ok, [item.problems for item in report.classes]
    assert report.lane_gaps == []
    assert not list(tmp_path.glob("*.damaged-*")), "a kill is no damage"

    db = sqlite3.connect(path)
    recorded = dict(db.execute("SELECT id, seq FROM facts WHERE class = 'transaction'").fetchall())
    (count, highest) = db.execute("SELECT count(*), max(seq) FROM facts WHERE class = 'transaction'").fetchone()
    sold = {id_ for (id_,) in db.execute("SELECT id FROM sold")}
    db.close()
    assert len(accepted) >= KILLS
    assert {id_: recorded.get(id_) for id_ in accepted} == accepted, "everything accepted is there, under its number"
    assert count == highest == len(recorded), "contiguous, nothing twice"
    assert sold == set(recorded), "what was committed with a fact stands and falls with it"
    assert next(item for item in report.classes if item.fact_class is FactClass.TRANSACTION).count == count


def _sell_until_killed(path: Path, answers: int) -> dict[str, int]:
    """Start a seller, kill it after so many answers, and return everything it had been answered."""
    lanes = [str(lane) for lane in range(LANES)]
    seller = subprocess.Popen(
        [*ENDS_WITH_US, sys.executable, "-c", SELLER, str(path), *lanes], stdout=subprocess.PIPE, cwd=ROOT, bufsize=0
    )
    assert seller.stdout is not None
    output = b""
    while output.count(b"\n") < answers:
        chunk = os.read(seller.stdout.fileno(), 65_536)
        assert chunk, "the seller ended by itself"
        output += chunk
    seller.send_signal(signal.SIGKILL)
    while chunk := os.read(seller.stdout.fileno(), 65_536):
        output += chunk
    seller.stdout.close()
    assert seller.wait() == -signal.SIGKILL
    complete = output[: output.rindex(b"\n")].decode()
    return {id_: int(seq) for id_, seq in (line.split() for line in complete.splitlines())}


# Records until the kernel refuses every further write to the file, then says how many were accepted.
REFUSED = """
import asyncio, resource, sys
from pathlib import Path
from edge.journal.clock import Clock
from edge.journal.store import Store, StoreFaulted
from tests.edge.journal_facts import STORE_ID, fact

async def main():
    path = Path(sys.argv[1])
    store = await Store.open(path, STORE_ID, clock=Clock())
    await store.record(fact("1", 1))
    limit = path.with_name(path.name + "-wal").stat().st_size + 200_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    accepted = 1
    try:
        while True:
            answers = await asyncio.gather(*(store.append(fact("1", accepted + n)) for n in range(1, 11)))
            accepted += len(answers)
    except StoreFaulted as error:
        print(accepted, error)
    await store.close()

asyncio.run(main())
"""


def test_a_disk_that_fails_faults_the_store_and_loses_nothing_accepted(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    done = subprocess.run([sys.executable, "-c", REFUSED, str(path)], stdout=subprocess.PIPE, cwd=ROOT, timeout=60)
    accepted, reason = done.stdout.decode().split(" ", 1)
    assert "look at the disk" in reason
    assert "I/O error" in reason
    report = verify(path)
    assert report.ok
    sales = next(item for item in report.classes if item.fact_class is FactClass.TRANSACTION)
    assert sales.count >= int(accepted) > 1
    assert _sell_until_killed(path, answers=10), "the next life examines the file and goes on"
    assert verify(path).ok
