"""The store: sequences, idempotence, conflicts, group commit, other state in the same transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import orjson
import pytest

from edge.bus.messages.facts import FactClass
from edge.journal.audit import verify
from edge.journal.opening import StoreBusy, WrongStore
from edge.journal.store import Accepted, Conflict, Store, StoreFaulted
from tests.edge.journal_facts import STORE_ID, TurnedClock, fact, opened, telemetry

COUNTERS = (
    "counters-1",
    "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL CHECK (value < 5)) STRICT;",
)
ADD_ONE = ("INSERT INTO counters VALUES ('n', 1) ON CONFLICT DO UPDATE SET value = value + 1", ())


async def test_sequences_count_per_class_and_the_body_carries_them(tmp_path: Path) -> None:
    turned = TurnedClock()
    async with opened(tmp_path / "store.db", clock=turned.clock) as store:
        first = await store.record(fact(lane_seq=1))
        tender = await store.record(fact(lane_seq=2, fact_class=FactClass.CRITICAL))
        second = await store.record(fact(lane_seq=3, text="¼ Brötchen 面包"))
        assert (first.seq, tender.seq, second.seq) == (1, 1, 2)
        assert first == Accepted(FactClass.TRANSACTION, 1, store.epoch, repeated=False)
        assert store.heads[FactClass.TRANSACTION] == 2
        assert store.heads[FactClass.TELEMETRY] == 0
        (body,) = await store.fetch_one(
            "SELECT plain(class, seq, body) FROM facts WHERE class = 'transaction' AND seq = 2"
        )
    event = orjson.loads(body)
    assert event["tgseq"] == 2
    assert event["tgclass"] == "transaction"
    assert event["tgboot"] == "boot-one"
    assert event["tgmono"] == "1000"
    assert event["tgclock"] == "unknown"
    assert event["tgrecorded"].endswith("Z")
    assert event["data"]["text"] == "¼ Brötchen 面包"
    assert body == orjson.dumps(event, option=orjson.OPT_SORT_KEYS), "the body is canonical"


async def test_the_same_fact_again_is_accepted_again_and_recorded_once(tmp_path: Path) -> None:
    sale = fact()
    async with opened(tmp_path / "store.db") as store:
        first = await store.record(sale)
        again = await store.record(sale)
        assert first.seq == again.seq == 1
        assert (first.repeated, again.repeated) == (False, True)
    async with opened(tmp_path / "store.db") as store:
        later = await store.record(sale)
        assert later == Accepted(FactClass.TRANSACTION, 1, store.epoch, repeated=True)
        assert await store.fetch_one("SELECT count(*) FROM facts") == (1,)


async def said(store: Store, type_: str) -> list[dict[str, Any]]:
    """What the journal says of itself: the data of its facts of one type."""
    rows = await store.fetch_all("SELECT plain(class, seq, body) FROM facts WHERE type = ? ORDER BY seq", (type_,))
    return [orjson.loads(body)["data"] for (body,) in rows]


async def test_a_repeat_within_one_batch_is_recorded_once(tmp_path: Path) -> None:
    sale = fact()
    async with opened(tmp_path / "store.db") as store:
        outcomes = await asyncio.gather(*(store.append(sale) for _ in range(5)))
        assert [outcome.seq for outcome in outcomes] == [1] * 5
        assert [outcome.repeated for outcome in outcomes] == [False, True, True, True, True]
        assert await store.fetch_one("SELECT count(*) FROM facts") == (1,)


async def test_same_id_other_content_keeps_both_and_says_conflict(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        await store.record(fact(id_="same", lane_seq=1, total_minor=100))
        other = fact(id_="same", lane_seq=2, total_minor=999)
        clash = await store.record(other)
        assert clash == Conflict("id", FactClass.TRANSACTION, 2, "same", FactClass.TRANSACTION, 1, repeated=False)
        again = await store.record(other)
        assert isinstance(again, Conflict)
        assert (again.seq, again.other_seq, again.repeated) == (2, 1, True)
        rows = await store.fetch_all("SELECT seq, conflict FROM facts WHERE class = 'transaction' ORDER BY seq")
        assert rows == [(1, None), (2, "id")]
        (body,) = await store.fetch_one(
            "SELECT plain(class, seq, body) FROM facts WHERE class = 'transaction' AND seq = 2"
        )
        assert orjson.loads(body)["tgconflict"] == "id"
        assert store.lane_highest("3") == 2, "the lane has used that number"
        told = await said(store, "tillgate.sequence.conflict.v1")
        assert [data["second_seq"] for data in told] == [2], "told once, not for the repeat"
    assert verify(tmp_path / "store.db").ok


@pytest.mark.parametrize("together", [True, False])
async def test_same_lane_sequence_other_id_keeps_both(tmp_path: Path, together: bool) -> None:
    async with opened(tmp_path / "store.db") as store:
        first, second = fact(lane_seq=1, id_="a"), fact(lane_seq=1, id_="b")
        if together:
            outcomes = await asyncio.gather(*(store.append(each) for each in (first, second, second)))
            assert (outcomes[2].other_id, outcomes[2].repeated) == ("a", True)
        else:
            outcomes = [await store.record(first), await store.record(second)]
        assert isinstance(outcomes[0], Accepted)
        assert outcomes[1] == Conflict(
            "sequence", FactClass.TRANSACTION, 2, "a", FactClass.TRANSACTION, 1, repeated=False
        )
        assert (await store.record(second)).other_id == "a"
        assert await store.fetch_one("SELECT count(*) FROM facts WHERE class = 'transaction'") == (2,)
        (told,) = await said(store, "tillgate.sequence.conflict.v1")
        assert (told["kind"], told["of"], told["first_seq"], told["second_seq"]) == ("sequence", "1", 1, 2)


async def test_the_number_of_another_lane_is_no_conflict(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        assert isinstance(await store.record(fact("1", 1)), Accepted)
        assert isinstance(await store.record(fact("2", 1)), Accepted)
        assert isinstance(await store.record(fact("1", None)), Accepted), "the gateway says something about lane 1"


async def test_gaps_open_split_and_fill(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        await store.record(fact(lane_seq=1))
        await store.record(fact(lane_seq=10))
        assert await store.fetch_all("SELECT lane, first, last FROM lane_gaps") == [("3", 2, 9)]
        await asyncio.gather(*(store.append(fact(lane_seq=number)) for number in (5, 6)))
        assert await store.fetch_all("SELECT first, last FROM lane_gaps ORDER BY first") == [(2, 4), (7, 9)]
    async with opened(tmp_path / "store.db") as store:
        assert store.lane_highest("3") == 10
        await asyncio.gather(*(store.append(fact(lane_seq=number)) for number in (9, 2, 8, 3, 4, 7)))
        assert await store.fetch_all("SELECT * FROM lane_gaps") == []
        assert await said(store, "tillgate.lane.gap_found.v1") == [{"lane": "3", "first": 2, "last": 9}]
        filled = await said(store, "tillgate.lane.gap_filled.v1")
    assert sorted(n for gap in filled for n in range(gap["first"], gap["last"] + 1)) == list(range(2, 10))


async def test_a_hole_is_not_on_disk_without_the_fact_that_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        await store.record(fact(lane_seq=1))
        commits = store.commits
        await store.record(fact(lane_seq=5))
        assert store.commits == commits + 1, "one transaction: a crash cannot come between"
        assert await said(store, "tillgate.lane.gap_found.v1") == [{"lane": "3", "first": 2, "last": 4}]
        assert store.heads[FactClass.OPERATION] == 1


async def test_many_facts_share_a_commit(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:

        async def till(lane: str) -> None:
            for number in range(1, 51):
                assert (await store.record(fact(lane, number))).repeated is False

        await asyncio.gather(*(till(str(lane)) for lane in range(20)))
        assert store.heads[FactClass.TRANSACTION] == 1_000
        assert store.commits < 500
    assert verify(tmp_path / "store.db").ok


async def test_answers_come_after_the_commit(tmp_path: Path) -> None:
    """What is answered is found by another connection at once."""
    async with opened(tmp_path / "store.db") as store:
        other = sqlite3.connect(tmp_path / "store.db")
        for number in range(1, 30):
            await store.record(fact(lane_seq=number))
            assert other.execute("SELECT max(seq) FROM facts").fetchone() == (number,)
        other.close()


async def test_every_commit_waits_for_the_disk(tmp_path: Path) -> None:
    full = 2
    async with opened(tmp_path / "store.db") as store:
        assert await store.fetch_one("PRAGMA synchronous") == (full,)
        assert await store.fetch_one("PRAGMA journal_mode") == ("wal",)


async def test_lower_classes_are_accepted_too_and_ride_along(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        waiting = [store.append(telemetry(n=n)) for n in range(10)]
        sale = await store.record(fact())
        assert sale.seq == 1
        assert [(await each).seq for each in waiting] == list(range(1, 11))
        assert store.commits == 1
        alone = await store.record(telemetry(n=11))
        assert alone.seq == 11


async def test_on_commit_tells_the_heads_that_moved(tmp_path: Path) -> None:
    told: list[dict[FactClass, int]] = []
    async with opened(tmp_path / "store.db") as store:
        store.on_commit.append(told.append)
        await store.record(fact())
        await store.record(fact(lane_seq=2))
        await store.write([("UPDATE meta SET value = value WHERE key = 'store'", ())])
        await asyncio.sleep(0)
    assert told == [{FactClass.TRANSACTION: 1}, {FactClass.TRANSACTION: 2}]


async def test_other_state_joins_the_commit_all_or_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db", schemas=[COUNTERS]) as store:
        await store.write([ADD_ONE, ADD_ONE])
        good = store.append(fact())
        bad = store.write([ADD_ONE, ("INSERT INTO nowhere VALUES (1)", ())])
        after = store.write([ADD_ONE])
        await good
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            await bad
        await after
        assert await store.fetch_one("SELECT value FROM counters") == (3,)
        assert store.faulted is None


async def test_a_fact_and_its_state_go_together_once(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db", schemas=[COUNTERS]) as store:
        sale = fact()
        for _ in range(3):
            await store.append_with(sale, [ADD_ONE])
        assert await store.fetch_one("SELECT value FROM counters") == (1,), "a repeat changes nothing"
        with pytest.raises(sqlite3.IntegrityError):
            await store.append_with(fact(lane_seq=2), [ADD_ONE] * 5)
        assert await store.fetch_one("SELECT value FROM counters") == (1,)
        assert (await store.record(fact(lane_seq=2))).seq == 2, "the refused fact left no number behind"


async def test_a_schema_step_is_applied_once(tmp_path: Path) -> None:
    more = ("counters-2", "INSERT INTO counters VALUES ('made by step 2', 1); -- a comment; with semicolons;\n")
    async with opened(tmp_path / "store.db", schemas=[COUNTERS]):
        pass
    for _ in range(2):
        async with opened(tmp_path / "store.db", schemas=[COUNTERS, more]) as store:
            assert await store.fetch_all("SELECT name FROM counters") == [("made by step 2",)]


async def test_what_is_no_json_is_refused_alone(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        bad = store.append(fact(lane_seq=1, thing=object()))
        good = store.append(fact(lane_seq=1))
        with pytest.raises(ValueError, match="JSON"):
            await bad
        assert (await good).seq == 1
    with pytest.raises(ValueError, match="counts from 1"):
        fact(lane_seq=0)


async def test_changing_the_event_afterwards_changes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        sale = fact(note="as sent")
        future = store.append(sale)
        sale.event["data"]["note"] = "changed"  # type: ignore[index]
        await future
        (body,) = await store.fetch_one("SELECT plain(class, seq, body) FROM facts")
        assert orjson.loads(body)["data"]["note"] == "as sent"
    assert verify(tmp_path / "store.db").ok


async def test_own_attributes_cannot_be_forged(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        sale = fact()
        sale.event.update(tgseq=77, tgclass="critical", tgx="?")  # type: ignore[attr-defined]
        await store.record(sale)
        event = orjson.loads((await store.fetch_one("SELECT plain(class, seq, body) FROM facts"))[0])
        assert (event["tgseq"], event["tgclass"], "tgx" in event) == (1, "transaction", False)


async def test_one_writer_and_the_right_store(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db"):
        with pytest.raises(StoreBusy, match="stop it first"):
            async with opened(tmp_path / "store.db"):
                pass
    turned = TurnedClock()
    with pytest.raises(WrongStore, match="0042"):
        await Store.open(tmp_path / "store.db", "other", clock=turned.clock)
    async with opened(tmp_path / "store.db") as store:
        assert (await store.record(fact())).seq == 1


async def test_a_store_that_cannot_write_fails_everyone_and_hangs_nobody(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        await store.record(fact())
        other = sqlite3.connect(tmp_path / "store.db")
        other.execute("DROP TABLE facts")
        other.commit()
        other.close()
        waiting = [store.append(fact(lane_seq=number)) for number in range(2, 12)]
        for future in waiting:
            with pytest.raises(StoreFaulted, match="look at the disk"):
                await future
        assert store.faulted
        with pytest.raises(StoreFaulted):
            await store.record(fact(lane_seq=20))


async def test_closing_writes_what_waits(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as store:
        waiting = [store.append(telemetry(n=n)) for n in range(3)]
        await store.close()
        assert [(await each).seq for each in waiting] == [1, 2, 3]
        with pytest.raises(StoreFaulted, match="closed"):
            await store.record(fact())
    assert verify(tmp_path / "store.db").store == STORE_ID


async def test_quarantine_counts_repeats_and_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path / "store.db") as store:
        for _ in range(3):
            store.quarantine(origin="tg/v1/lanes/3/facts", lane="3", code="bad_message", reason="no", payload=b"{")
        store.quarantine(
            origin="scanner-1", lane=None, code="garbled", reason="noise \ud800", payload=b"\xff" * 100_000
        )
        await store.record(fact())
        rows = await store.fetch_all("SELECT origin, count, length(payload), size_bytes FROM quarantine ORDER BY id")
        assert rows == [("tg/v1/lanes/3/facts", 3, 1 + 33, 1), ("scanner-1", 1, 65_536 + 33, 100_000)]
        for number in range(600):
            store.quarantine(origin="x", lane="1", code="c", reason="r", payload=number.to_bytes(2) * 40_000)
        await store.record(fact(lane_seq=2))
        kept, size, gone = await store.fetch_one("SELECT kept_rows, kept_bytes, evicted FROM quarantine_totals")
        assert size <= 33 * 1024 * 1024
        assert kept < 602
        assert gone > 0
        assert await store.fetch_one("SELECT count(*), sum(length(payload)) FROM quarantine") == (kept, size)
