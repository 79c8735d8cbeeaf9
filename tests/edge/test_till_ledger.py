"""The till's own ledger: on disk before anything else, contiguous, and nobody else's."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from demo.sealed import OF_LEDGER, teach
from edge.till.ledger import Answer, FactState, Ledger, WrongLedger

TENDER = "tillgate.tender.taken.v1"


async def test_a_fact_is_on_disk_with_the_next_sequence_when_add_returns(tmp_path: Path) -> None:
    path = tmp_path / "lane-1.db"
    ledger = await Ledger.open(path, "1042", "lane-1")
    facts = [await ledger.add(TENDER, {"amount_minor": n}) for n in range(3)]
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as outside:
        teach(outside, path)
        rows = outside.execute(f"SELECT sequence, id, {OF_LEDGER}, state FROM facts ORDER BY sequence").fetchall()
    assert [row[0] for row in rows] == [1, 2, 3]
    assert [row[1] for row in rows] == [fact.id for fact in facts]
    event = orjson.loads(rows[2][2])
    assert event["sequence"] == "0000000003"
    assert event["source"] == "/stores/1042/lanes/lane-1"
    assert event["data"] == {"amount_minor": 2}
    await ledger.close()


async def test_the_counter_goes_on_after_a_restart_and_answers_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "lane-1.db"
    ledger = await Ledger.open(path, "1042", "lane-1")
    for n in range(3):
        await ledger.add(TENDER, {"n": n})
    await ledger.settle(
        [Answer(1, FactState.ACCEPTED, {"seq": 7}), Answer(2, FactState.REFUSED, {"code": "bad_message"})]
    )
    await ledger.close()

    ledger = await Ledger.open(path, "1042", "lane-1")
    assert ledger.last_sequence == 3
    assert [fact.sequence for fact in await ledger.pending()] == [3]
    assert await ledger.count() == {FactState.PENDING: 1, FactState.ACCEPTED: 1, FactState.REFUSED: 1}
    assert (await ledger.add(TENDER, {})).sequence == 4
    await ledger.close()


async def test_concurrent_facts_get_contiguous_sequences(tmp_path: Path) -> None:
    ledger = await Ledger.open(tmp_path / "lane-1.db", "1042", "lane-1")
    facts = await asyncio.gather(*(ledger.add(TENDER, {"n": n}) for n in range(40)))
    assert sorted(fact.sequence for fact in facts) == list(range(1, 41))
    await ledger.close()


async def test_an_accepted_fact_never_becomes_refused(tmp_path: Path) -> None:
    ledger = await Ledger.open(tmp_path / "lane-1.db", "1042", "lane-1")
    await ledger.add(TENDER, {})
    await ledger.settle([Answer(1, FactState.ACCEPTED, {})])
    await ledger.settle([Answer(1, FactState.REFUSED, {})])
    assert (await ledger.count())[FactState.ACCEPTED] == 1
    await ledger.close()


async def test_another_lanes_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    await (await Ledger.open(tmp_path / "till.db", "1042", "lane-1")).close()
    with pytest.raises(WrongLedger, match="lane 'lane-1', not 'lane-2': give this till its own file"):
        await Ledger.open(tmp_path / "till.db", "1042", "lane-2")


async def test_a_second_till_on_the_same_file_is_refused(tmp_path: Path) -> None:
    first = await Ledger.open(tmp_path / "till.db", "1042", "lane-1")
    with pytest.raises(WrongLedger, match="in use by another till"):
        await Ledger.open(tmp_path / "till.db", "1042", "lane-1")
    await first.close()
    await (await Ledger.open(tmp_path / "till.db", "1042", "lane-1")).close()


async def test_a_damaged_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "till.db"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(WrongLedger, match="move it aside"):
        await Ledger.open(path, "1042", "lane-1")
    assert path.read_bytes().startswith(b"not a database")


async def test_prices_are_remembered(tmp_path: Path) -> None:
    ledger = await Ledger.open(tmp_path / "till.db", "1042", "lane-1")
    assert await ledger.recall_price("4006381333931") is None
    await ledger.remember_price("4006381333931", {"price_minor": 199})
    await ledger.remember_price("4006381333931", {"price_minor": 189})
    recalled = await ledger.recall_price("4006381333931")
    assert recalled is not None
    assert recalled[0] == {"price_minor": 189}
    await ledger.forget_price("4006381333931")
    assert await ledger.recall_price("4006381333931") is None
    await ledger.close()


WRITER = """
import asyncio, sys
from pathlib import Path
from edge.till.ledger import Ledger

async def main():
    ledger = await Ledger.open(Path(sys.argv[1]), "1042", "lane-1")
    while True:
        fact = await ledger.add("tillgate.tender.taken.v1", {"amount_minor": 100})
        print(fact.sequence, fact.id, flush=True)

asyncio.run(main())
"""


def test_what_add_returned_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "till.db"
    kept: dict[int, str] = {}
    for lines in (3, 17, 40):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(lines):
                sequence, id_ = writer.stdout.readline().split()
                kept[int(sequence)] = id_
            os.kill(writer.pid, signal.SIGKILL)
    with sqlite3.connect(path) as outside:
        found = dict(outside.execute("SELECT sequence, id FROM facts").fetchall())
    assert kept.items() <= found.items()
    assert sorted(found) == list(range(1, len(found) + 1))


async def test_who_the_customer_was_is_forgotten_once_the_gateway_has_it(tmp_path: Path) -> None:
    """Not before, nor when it was refused: then a person looks at it. Nothing else of the day's record is touched."""
    path = tmp_path / "lane-1.db"
    ledger = await Ledger.open(path, "1042", "lane-1")
    member = {"receipt_number": "000001", "member": "4711-0815", "name": "Erika"}
    for data in (member, member, member):
        await ledger.add("tillgate.member.identified.v1", data)
    await ledger.add(TENDER, {"receipt_number": "000001", "amount_minor": 199})
    await ledger.settle(
        [
            Answer(1, FactState.ACCEPTED, {"seq": 7}),
            Answer(2, FactState.REFUSED, {"code": "bad_message"}),
            Answer(4, FactState.ACCEPTED, {"seq": 8}),
        ]
    )
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as outside:
        teach(outside, path)
        rows = outside.execute(f"SELECT {OF_LEDGER} FROM facts ORDER BY sequence").fetchall()
    kept = [orjson.loads(body)["data"] for (body,) in rows]
    assert kept == [{"receipt_number": "000001"}, member, member, {"receipt_number": "000001", "amount_minor": 199}]
    assert [orjson.loads(fact.body)["data"] for fact in await ledger.pending()] == [member]
    await ledger.close()
