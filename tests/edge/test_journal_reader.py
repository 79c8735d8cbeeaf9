"""Reading beside the writer: batches for the bridge, another process, and no growth of the write-ahead log."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import orjson
import pytest

from edge.bus.messages.facts import FactClass
from edge.journal import chain
from edge.journal.reader import NoJournal, Reader
from tests.edge.journal_facts import fact, opened, telemetry

ROOT = Path(__file__).parents[2]
SALES = FactClass.TRANSACTION

# Reads the tail of another process's journal until the head it was told, checking the chain as HQ would.
FOLLOWER = """
import asyncio, sys
from pathlib import Path
from edge.bus.messages.facts import FactClass
from edge.journal import chain
from edge.journal.reader import Reader

async def main():
    reader = await Reader.open(Path(sys.argv[1]))
    until, after = int(sys.argv[2]), 0
    head = chain.genesis(await reader.epoch(), "transaction")
    while after < until:
        for row in await reader.tail(FactClass.TRANSACTION, after, limit_count=64):
            assert row.seq == after + 1
            head = chain.link(head, row.body)
            assert head == row.hash
            after = row.seq
        await asyncio.sleep(0)
    await reader.close()
    print(after)

asyncio.run(main())
"""


async def test_tail_is_bounded_in_count_and_bytes(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        await asyncio.gather(*(store.append(fact(lane_seq=number)) for number in range(1, 101)))
        reader = await Reader.open(tmp_path / "store.db")
        rows = await reader.tail(SALES, 10, limit_count=5)
        assert [row.seq for row in rows] == [11, 12, 13, 14, 15]
        size = len(rows[0].body) + 1
        assert len(await reader.tail(SALES, 10, limit_bytes=3 * size + size // 2)) == 3
        assert len(await reader.tail(SALES, 10, limit_bytes=1)) == 1, "the first always comes"
        assert await reader.tail(SALES, 100) == []
        assert await reader.links(SALES, 10, limit_count=5) == [(row.seq, row.body, row.hash) for row in rows]
        assert len(await reader.links(SALES, 10, limit_bytes=3 * size + size // 2)) == 3
        batch = orjson.loads(b"[" + b",".join(row.body for row in rows) + b"]")
        assert [event["tgseq"] for event in batch] == [11, 12, 13, 14, 15]
        head = await reader.hash_at(SALES, 10)
        for row in rows:
            head = chain.link(head or b"", row.body)
        assert head == rows[-1].hash == await reader.hash_at(SALES, 15)
        assert await reader.hash_at(SALES, 0) == chain.genesis(store.epoch, "transaction")
        assert await reader.hash_at(SALES, 101) is None
        await reader.close()


async def test_heads_oldest_find_gaps_lanes(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        reader = await Reader.open(tmp_path / "store.db")
        assert await reader.heads() == dict.fromkeys(FactClass, 0)
        assert await reader.oldest(SALES, 0) is None
        await store.record(fact(lane_seq=2, id_="one", total_minor=1))
        await store.record(fact(lane_seq=3, id_="one", total_minor=2))
        store.quarantine(origin="scanner-1", lane=None, code="garbled", reason="noise", payload=b"\0\1")
        await store.record(telemetry())
        assert await reader.epoch() == store.epoch
        assert await reader.epochs() == [store.epoch]
        assert (await reader.heads())[SALES] == 2
        oldest = await reader.oldest(SALES, 1)
        assert oldest is not None
        assert oldest.seq == 2
        assert [(row.seq, row.conflict) for row in await reader.find("one")] == [(1, None), (2, "id")]
        assert [(gap.lane, gap.first, gap.last) for gap in await reader.gaps()] == [("3", 1, 1)]
        assert [(lane.lane, lane.highest) for lane in await reader.lanes()] == [("3", 3)]
        assert [bad.payload for bad in await reader.quarantine()] == [b"\0\1"]
        assert await reader.quarantined_count() == 1
        assert (await reader.base(SALES), await reader.tombstones()) == (0, [])
        await reader.close()


async def test_another_process_follows_while_facts_come_in(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        follower = await asyncio.create_subprocess_exec(
            sys.executable, "-c", FOLLOWER, str(tmp_path / "store.db"), "2000",
            stdout=asyncio.subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip

        async def till(lane: str) -> None:
            for number in range(1, 101):
                await store.record(fact(lane, number))

        await asyncio.gather(*(till(str(lane)) for lane in range(20)))
        output, _ = await follower.communicate()
        assert follower.returncode == 0
        assert output.split() == [b"2000"]


async def test_a_reader_that_stays_open_does_not_let_the_log_grow(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        readers = [await Reader.open(tmp_path / "store.db") for _ in range(3)]
        written_bytes = 0
        for number in range(1, 41):
            batch = [store.append(fact("3", 20 * (number - 1) + each, pad="x" * 40_000)) for each in range(1, 21)]
            reads = [reader.tail(SALES, 20 * (number - 1)) for reader in readers]
            await asyncio.gather(*batch, *reads)
            written_bytes += 20 * 40_000
        log_bytes = (tmp_path / "store.db-wal").stat().st_size
        assert written_bytes > 30_000_000
        assert log_bytes < 16_000_000
        for reader in readers:
            await reader.close()


async def test_a_reader_opened_before_edge_sees_what_edge_writes_later(tmp_path: Path) -> None:
    with pytest.raises(NoJournal, match="no file"):
        await Reader.open(tmp_path / "store.db")
    async with opened(tmp_path / "store.db") as store:
        await store.record(fact(lane_seq=1))
    reader = await Reader.open(tmp_path / "store.db")
    for number in (2, 3):
        async with opened(tmp_path / "store.db") as store:
            await store.record(fact(lane_seq=number))
        assert (await reader.heads())[SALES] == number
    assert not reader.replaced()
    (tmp_path / "store.db").rename(tmp_path / "away.db")
    assert reader.replaced()
    await reader.close()


async def test_a_copy_is_readable_and_a_text_is_not(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        await store.record(fact())
    copy = tmp_path / "copy #1?.db"
    shutil.copy(tmp_path / "store.db", copy)
    reader = await Reader.open(copy)
    assert (await reader.heads())[SALES] == 1
    await reader.close()
    (tmp_path / "text.db").write_text("not a database, but long enough to be read as one" * 100)
    with pytest.raises(NoJournal, match="cannot be read"):
        await Reader.open(tmp_path / "text.db")
