"""Room: what goes when the disk fills, what is refused, what is trimmed by age."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import orjson
import pytest

from edge.bus.messages.facts import FACTS, FactClass
from edge.journal.audit import verify
from edge.journal.opening import PAGE_BYTES
from edge.journal.room import KEPT_FREE_BYTES, SLICE
from edge.journal.store import Accepted, NewFact, StorageFull, Store
from tests.edge.journal_facts import TurnedClock, fact, opened, telemetry

HOUR_MS = 3_600_000


class Disk:
    """How much the file system says it has left."""

    def __init__(self) -> None:
        self.free_bytes = 1 << 40

    def __call__(self) -> int:
        return self.free_bytes


async def _refused(store: Store, new: NewFact) -> bool:
    try:
        await store.record(new)
    except StorageFull:
        return True
    return False


async def _count(store: Store, fact_class: FactClass) -> int:
    row = await store.fetch_one("SELECT count(*) FROM facts WHERE class = ?", (fact_class.value,))
    assert row is not None
    return int(row[0])


async def test_telemetry_goes_first_then_engagement_then_new_facts_are_refused(tmp_path: Path) -> None:
    disk = Disk()
    async with opened(tmp_path / "store.db", free_bytes=disk, reserve_bytes=1_000_000) as store:
        sale = fact(lane_seq=1)
        await store.record(sale)
        await asyncio.gather(*(store.append(telemetry(n=n, pad="x" * 500)) for n in range(1_500)))
        engagement = [fact(None, None, fact_class=FactClass.ENGAGEMENT, n=n, pad="x" * 500) for n in range(1_200)]
        await asyncio.gather(*(store.append(each) for each in engagement))

        disk.free_bytes = 1_000_000
        big = {"pad": "x" * 100_000}
        accepted = 1
        refused: StorageFull | None = None
        while refused is None:
            try:
                await store.record(fact(lane_seq=accepted + 1, **big))
                accepted += 1
            except StorageFull as error:
                refused = error
            if await _count(store, FactClass.ENGAGEMENT) < 1_200:
                assert await _count(store, FactClass.TELEMETRY) == 1, "only the newest is left, the chain needs it"
        assert accepted > 5, "eviction made room for sales"
        assert "nothing in the journal may be evicted" in str(refused)
        assert await _count(store, FactClass.TRANSACTION) == accepted, "no sale ever goes"

        assert (await store.record(sale)) == Accepted(FactClass.TRANSACTION, 1, store.epoch, repeated=True)
        await store.write([("UPDATE meta SET value = value WHERE key = 'store'", ())])
        assert store.faulted is None

        disk.free_bytes = 1 << 40
        assert (await store.record(fact(lane_seq=accepted + 1, **big))).seq == accepted + 1, "usable again at once"
        assert await store.fetch_all("SELECT * FROM lane_gaps") == []

        stones = await store.fetch_all("SELECT class, first, last, reason FROM tombstones ORDER BY class, first")
        assert stones[0][:2] == ("engagement", 1)
        assert [stone[3] for stone in stones] == ["evicted"] * len(stones)
        assert sum(last - first + 1 for name, first, last, _ in stones if name == "telemetry") == 1_499
        facts = await store.fetch_all(
            "SELECT plain(class, seq, body) FROM facts WHERE type = 'tillgate.journal.tombstone.v1'"
        )
        assert len(facts) == len(stones), "each tombstone is a fact for HQ"
        for (body,) in facts:
            FACTS["tillgate.journal.tombstone.v1"].data.model_validate_json(orjson.dumps(orjson.loads(body)["data"]))
    assert verify(tmp_path / "store.db").ok


async def test_a_file_that_sqlite_finds_full_makes_room_and_stays_usable(tmp_path: Path) -> None:
    """The disk's own answer (SQLITE_FULL), not a measurement in advance."""
    async with opened(tmp_path / "store.db", max_pages=1_200) as store:
        sale = fact(lane_seq=1)
        await store.record(sale)
        telemetry_kept = 0
        for n in range(7):
            telemetry_kept += len(await asyncio.gather(*(store.append(telemetry(n=n)) for _ in range(300))))
        assert telemetry_kept == 2_100, "new telemetry pushes out the old"
        number = 1
        while not await _refused(store, fact(lane_seq=number + 1, pad="x" * 20_000)):
            number += 1
        assert number > 5
        assert store.faulted is None
        assert (await store.record(sale)).repeated
        outcomes = await asyncio.gather(
            *(store.append(fact(lane_seq=number + 1, pad="x" * 20_000)) for _ in range(3)), return_exceptions=True
        )
        assert all(isinstance(outcome, StorageFull) for outcome in outcomes)
        assert await _count(store, FactClass.TRANSACTION) == number
    async with opened(tmp_path / "store.db") as store:
        assert (await store.record(fact(lane_seq=number + 1))).seq == number + 1
        assert await store.fetch_all("SELECT * FROM lane_gaps") == []
    assert verify(tmp_path / "store.db").ok


async def test_operation_facts_go_only_once_hq_has_them(tmp_path: Path) -> None:
    disk = Disk()
    async with opened(tmp_path / "store.db", free_bytes=disk, reserve_bytes=1_000_000) as store:
        operations = [fact(None, None, fact_class=FactClass.OPERATION, n=n, pad="x" * 2_000) for n in range(200)]
        await asyncio.gather(*(store.append(each) for each in operations))
        disk.free_bytes = 0
        with pytest.raises(StorageFull):
            await store.record(fact(lane_seq=1))
        store.note_confirmed({FactClass.OPERATION: 100})
        assert (await store.record(fact(lane_seq=1))).seq == 1
        assert await _count(store, FactClass.OPERATION) == 100
        assert await store.fetch_all("SELECT * FROM tombstones") == [], "HQ has them: nothing to mourn"
    assert verify(tmp_path / "store.db").ok


async def test_confirmed_facts_are_trimmed_after_their_retention(tmp_path: Path) -> None:
    turned = TurnedClock()
    keep = {FactClass.TRANSACTION: HOUR_MS}
    async with opened(tmp_path / "store.db", clock=turned.clock) as store:
        sales = [fact(lane_seq=number) for number in range(1, 2 * SLICE + 11)]
        await asyncio.gather(*(store.append(sale) for sale in sales))
        turned.forward(HOUR_MS // 2)
        assert await store.trim({FactClass.TRANSACTION: len(sales) - 5}, keep) == {}, "too young"
        turned.wall_ms += 10 * HOUR_MS
        assert await store.trim({}, keep) == {}, "a jump of the wall clock makes nothing older"
        turned.forward(HOUR_MS // 2)
        late = fact(lane_seq=len(sales) + 1)
        await store.record(late)
        assert await store.trim({FactClass.TRANSACTION: len(sales) - 5}, keep) == {
            FactClass.TRANSACTION: len(sales) - 5
        }
        assert await _count(store, FactClass.TRANSACTION) == 6
        assert await store.fetch_all("SELECT * FROM tombstones") == []
        assert await store.trim({FactClass.TRANSACTION: len(sales) + 1}, {FactClass.TRANSACTION: 0}) == {
            FactClass.TRANSACTION: 5
        }, "the newest always stays"
    report = verify(tmp_path / "store.db")
    assert report.ok
    assert report.classes[1].base == len(sales)
    async with opened(tmp_path / "store.db", clock=turned.clock) as store:
        assert store.lane_highest("3") == len(sales) + 1
        assert (await store.record(late)).repeated
        clash = await store.record(fact(lane_seq=7))
        assert (clash.kind, clash.other_id, clash.other_seq) == ("sequence", None, 0)
        assert (await store.record(fact(lane_seq=len(sales) + 2))).seq == len(sales) + 3
    assert verify(tmp_path / "store.db").ok


async def test_age_across_boots_needs_both_clocks(tmp_path: Path) -> None:
    first = TurnedClock("boot-one")
    async with opened(tmp_path / "store.db", clock=first.clock) as store:
        first.synced = True
        first.forward(2_000)
        await store.record(fact(lane_seq=1))
        await store.record(fact(lane_seq=2))
    second = TurnedClock("boot-two", wall_ms=first.wall_ms + 5 * HOUR_MS, mono_ms=1_000)
    due = {FactClass.TRANSACTION: 3 * HOUR_MS}
    async with opened(tmp_path / "store.db", clock=second.clock) as store:
        await store.record(fact(lane_seq=3))
        assert await store.trim({FactClass.TRANSACTION: 3}, due) == {}, "how long the power was off is not known yet"
        second.synced = True
        second.forward(2_000)
        await store.record(fact(lane_seq=4))
        assert await store.trim({FactClass.TRANSACTION: 3}, due) == {FactClass.TRANSACTION: 2}


async def test_telemetry_expires_with_a_tombstone_and_sales_never_do(tmp_path: Path) -> None:
    turned = TurnedClock()
    moved: list[dict[FactClass, int]] = []
    async with opened(tmp_path / "store.db", clock=turned.clock) as store:
        store.on_commit.append(moved.append)
        await asyncio.gather(*(store.append(telemetry(n=n)) for n in range(10)), store.append(fact()))
        turned.forward(HOUR_MS)
        moved.clear()
        removed = await store.trim(
            {FactClass.TELEMETRY: 3},
            dict.fromkeys(FactClass, 100 * HOUR_MS),
            {FactClass.TELEMETRY: HOUR_MS, FactClass.ENGAGEMENT: HOUR_MS},
        )
        assert removed == {FactClass.TELEMETRY: 9}
        assert await store.fetch_all("SELECT class, first, last, reason FROM tombstones") == [
            ("telemetry", 4, 9, "expired")
        ], "only what HQ does not have"
        await asyncio.sleep(0)
        assert moved == [{FactClass.OPERATION: 1}], "the tombstone is a fact that moves a head"
        with pytest.raises(ValueError, match="never expire"):
            await store.trim({}, {}, {FactClass.TRANSACTION: 1})
    assert verify(tmp_path / "store.db").ok


async def test_a_file_that_was_trimmed_shrinks_while_sales_go_on(tmp_path: Path) -> None:
    turned = TurnedClock()
    path = tmp_path / "store.db"
    async with opened(path, clock=turned.clock) as store:
        many = [fact(None, None, fact_class=FactClass.OPERATION, n=n, pad="x" * 3_000) for n in range(6 * SLICE)]
        await asyncio.gather(*(store.append(each) for each in many))
        assert await store.fetch_one("PRAGMA auto_vacuum") == (2,)
        turned.forward(HOUR_MS)
        (before,) = await store.fetch_one("PRAGMA page_count")  # type: ignore[misc]
        trimming = asyncio.create_task(store.trim({FactClass.OPERATION: len(many)}, {FactClass.OPERATION: 1}))
        number = 0
        while not trimming.done():
            number += 1
            await store.record(fact(lane_seq=number))
        assert (await trimming) == {FactClass.OPERATION: len(many) - 1}
        (after,) = await store.fetch_one("PRAGMA page_count")  # type: ignore[misc]
        assert after < before // 2
        assert number > 5, "sales went in between"
        (free,) = await store.fetch_one("PRAGMA freelist_count")  # type: ignore[misc]
        assert free * PAGE_BYTES <= KEPT_FREE_BYTES
    assert verify(path).ok


async def test_a_file_from_before_goes_on_reusing_its_free_pages(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await store.record(fact(lane_seq=1))
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = DELETE")
    db.execute("PRAGMA auto_vacuum = NONE")
    db.execute("VACUUM")
    db.close()
    async with opened(path) as store:
        assert await store.fetch_one("PRAGMA auto_vacuum") == (0,)
        assert await store.trim({}, {FactClass.OPERATION: 1}) == {}
        assert (await store.record(fact(lane_seq=2))).seq == 2
