"""Outages of the link: followed, merged, kept over restarts, reported once as a fact."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from pathlib import Path
from typing import Any

import aiosqlite
import orjson
import pytest
from sqlalchemy import Engine

from cloud_bridge import outages as outages_module
from cloud_bridge.hq import schema
from cloud_bridge.outage_tracker import Tracker
from cloud_bridge.outages import KEPT, Outages
from edge.bus import topics
from edge.bus.messages.facts import FactClass, Outage
from edge.journal.clock import Clock, ClockTrust, Stamp
from edge.services.outages import OutageDesk
from tests.cloud_bridge.conftest import Configure
from tests.cloud_bridge.rig import STORE, BridgeProcess, Edge, Mosquitto, a_bridge, a_receiver, scalars, until

T, M = FactClass.TRANSACTION, FactClass.TELEMETRY


class Days:
    """Time that a test turns: seconds of the monotonic clock, and a wall clock that may be anything."""

    def __init__(self) -> None:
        self.mono_ms = 5_000
        self.boot = "boot-1"
        self.wall_ms = 1_777_888_000_000

    def clock(self) -> Clock:
        clock = Clock(wall_ms=lambda: self.wall_ms, mono_ms=lambda: self.mono_ms, synced=lambda: True, boot=self.boot)
        return clock

    def after(self, seconds: float) -> Stamp:
        self.mono_ms += round(seconds * 1000)
        self.wall_ms += round(seconds * 1000)
        return self.now()

    def now(self) -> Stamp:
        return Stamp(f"wall {self.wall_ms}", self.boot, self.mono_ms, ClockTrust.SYNCED, 0)


@pytest.fixture
def days() -> Days:
    return Days()


@pytest.fixture
def tracker(days: Days) -> Tracker:
    tracker = Tracker(60.0)
    tracker.journal("e1", {T: 100, M: 10}, {T: 100, M: 10}, days.now())
    tracker.shed({M: 3})
    return tracker


def told(tracker: Tracker) -> Outage:
    assert tracker.current is not None
    return tracker.current.told()


def test_an_outage_tells_why_how_long_what_was_kept_and_shed_and_how_soon_it_was_drained(
    tracker: Tracker, days: Days
) -> None:
    tracker.down("unknown", "keepalive: no answer", days.now())
    tracker.down("wan", "no probe answers", days.after(2))
    days.wall_ms += 315_360_000_000  # the wall clock jumps ten years; seconds do not care
    tracker.journal("e1", {T: 150, M: 40}, {T: 100, M: 10}, days.after(58))
    tracker.shed({M: 8, T: 0})
    tracker.down("cloud", "refused", days.after(60))
    tracker.up(days.after(30))
    outage = told(tracker)
    assert outage.causes == {"wan": 120, "cloud": 30}, "the seconds until it was found out were of that cause"
    assert (outage.offline_s, outage.cuts, outage.exact) == (150, 1, True)
    assert (outage.kept, outage.shed, outage.drained_in_s) == ({T: 50, M: 30}, {M: 5}, None)
    tracker.journal("e1", {T: 160, M: 40}, {T: 149, M: 40}, days.after(3))
    assert told(tracker).drained_in_s is None
    tracker.journal("e1", {T: 160, M: 40}, {T: 150, M: 40}, days.after(4))
    assert told(tracker).drained_in_s == 7, "what came after the link's return does not count"
    assert tracker.look(days.after(50)) is None, "a cut now would belong to it"
    over = tracker.look(days.after(5))
    assert over is not None
    assert over.told().drained_in_s == 7
    assert (tracker.current, tracker.look(days.after(100))) == (None, None), "said once"


def test_cuts_that_follow_closely_are_one_outage(tracker: Tracker, days: Days) -> None:
    for _ in range(100):
        tracker.down("unknown", "", days.after(30))
        tracker.up(days.after(6))
        tracker.journal("e1", {T: 100}, {T: 100}, days.now())
    assert (told(tracker).cuts, told(tracker).offline_s, told(tracker).causes) == (100, 600, {"unknown": 600})
    assert tracker.look(days.after(61)) is not None


def test_a_cut_in_the_middle_of_a_long_drain_belongs_to_the_outage_before(tracker: Tracker, days: Days) -> None:
    tracker.down("wan", "", days.now())
    tracker.journal("e1", {T: 9_000}, {T: 100}, days.after(600))
    tracker.up(days.now())
    tracker.down("wan", "", days.after(500))
    tracker.up(days.after(10))
    assert (told(tracker).cuts, told(tracker).offline_s) == (2, 610)


def test_a_reboot_in_mid_outage_makes_the_seconds_a_lower_bound(tracker: Tracker, days: Days) -> None:
    tracker.down("lan", "", days.now())
    tracker.look(days.after(100))
    assert tracker.current is not None
    days.boot, days.mono_ms = "boot-2", 20_000
    again = Tracker(60.0)
    again.resume(tracker.current, days.now())
    again.up(days.now())
    assert (told(again).offline_s, told(again).exact) == (120, False)


def test_a_new_epoch_meanwhile_counts_on(tracker: Tracker, days: Days) -> None:
    tracker.down("wan", "", days.now())
    tracker.journal("e1", {T: 130}, {T: 100}, days.after(10))
    tracker.journal("e2", {T: 5}, {}, days.after(10))
    tracker.journal("e2", {T: 12}, {}, days.after(10))
    tracker.up(days.now())
    assert told(tracker).kept == {T: 42}
    tracker.journal("e2", {T: 12}, {T: 12}, days.after(1))
    assert told(tracker).drained_in_s == 1


def test_nothing_is_drained_before_the_journal_was_read(days: Days) -> None:
    tracker = Tracker(60.0)
    tracker.down("wan", "", days.now())
    tracker.up(days.after(5))
    tracker.journal("", {}, {}, days.after(5))
    assert told(tracker).drained_in_s is None
    tracker.journal("e1", {T: 7}, {T: 6}, days.after(5))
    assert told(tracker).drained_in_s is None
    tracker.journal("e1", {T: 8}, {T: 7}, days.after(5))
    assert told(tracker).drained_in_s == 15


# -- in bridge.db ------------------------------------------------------------------------------------------------------


class Kept:
    """Outages on a file, with what they report."""

    def __init__(self, db: aiosqlite.Connection, days: Days, merge_s: float = 0.0) -> None:
        self.reported: list[Outage] = []
        self.outages = Outages(db, days.clock(), self.reported.append, lambda: None, merge_s=merge_s)

    async def __aenter__(self) -> Kept:
        await self.outages.open()
        self._task = asyncio.create_task(self.outages.run(), name="outages")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


def rows(file: Path) -> list[tuple[Any, ...]]:
    """(state, outage) of every row; none while the bridge has not made the table."""
    if not file.exists():
        return []
    with sqlite3.connect(file) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'outages'").fetchone():
            return []
        return db.execute("SELECT state, outage FROM outages ORDER BY number").fetchall()


def resumes(file: Path) -> str:
    """What is kept to go on with."""
    with sqlite3.connect(file) as db:
        return str(db.execute("SELECT resume FROM outages ORDER BY number DESC").fetchone()[0])


async def test_a_bridge_that_is_killed_in_mid_outage_goes_on(tmp_path: Path, days: Days) -> None:
    file = tmp_path / "bridge.db"
    async with aiosqlite.connect(file) as db:
        async with Kept(db, days) as first:
            first.outages.journal("e1", {T: 10}, {T: 10})
            first.outages.link("wan", "no probe answers")
            await until(lambda: rows(file))
        days.after(300)  # killed: nothing more was written
        async with Kept(db, days) as second:
            second.outages.journal("e1", {T: 25}, {T: 10})
            second.outages.link("online")
            second.outages.journal("e1", {T: 25}, {T: 25})
            (outage,) = await until(lambda: second.reported)
        assert (outage.offline_s, outage.causes, outage.kept) == (300, {"wan": 300}, {T: 15})
        assert [state for state, _ in rows(file)] == ["over"]
        async with Kept(db, days) as third:
            assert await until(lambda: third.reported) == [outage], "edge has not said that it has it"
            third.outages.on_recorded(outage.id)
            await until(lambda: rows(file)[0][0] == "reported")
            assert third.outages.last == (outage,)
        async with Kept(db, days) as fourth:
            fourth.outages.report_again()
            assert fourth.reported == []


async def test_the_table_keeps_the_newest_only(tmp_path: Path, days: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages_module, "KEPT", 5)
    file = tmp_path / "bridge.db"
    async with aiosqlite.connect(file) as db, Kept(db, days) as kept:
        kept.outages.journal("e1", {T: 1}, {T: 1})
        for number in range(1, 12):
            kept.outages.link("wan")
            days.after(number)
            kept.outages.link("online")
            kept.outages.journal("e1", {T: 1}, {T: 1})
            await until(lambda number=number: len(kept.reported) == number)  # type: ignore[misc]
        await until(lambda: len(rows(file)) == 5)
        assert [orjson.loads(outage)["offline_s"] for _, outage in rows(file)] == [7, 8, 9, 10, 11]
    assert KEPT >= 100


async def test_a_file_that_cannot_be_written_stops_no_counting(
    tmp_path: Path, days: Days, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outages_module, "AGAIN_S", 0.05)
    file = tmp_path / "bridge.db"
    async with aiosqlite.connect(file) as db, Kept(db, days) as kept:
        await db.execute("PRAGMA query_only = ON")
        kept.outages.journal("e1", {T: 10}, {T: 10})
        kept.outages.link("wan", "no probe answers")
        await until(lambda: "cannot be written" in caplog.text)
        await kept.outages.save()
        assert rows(file) == []
        days.after(120)
        await db.execute("PRAGMA query_only = OFF")
        await until(lambda: rows(file))
        days.after(60)
        kept.outages.link("online")
        kept.outages.journal("e1", {T: 10}, {T: 10})
        (outage,) = await until(lambda: kept.reported)
        assert outage.offline_s == 180
        await until(lambda: [state for state, _ in rows(file)] == ["over"])
        assert caplog.text.count("bridge.db cannot be written") == 1, "said once"


async def test_a_row_that_cannot_be_read_is_passed_over(tmp_path: Path, days: Days) -> None:
    file = tmp_path / "bridge.db"
    async with aiosqlite.connect(file) as db:
        async with Kept(db, days) as first:
            first.outages.link("wan")
            await until(lambda: rows(file))
        for damage in ("not JSON", "{}", '{"began": 1}'):
            await db.execute("UPDATE outages SET resume = ?, outage = ?", (damage, damage))
            await db.commit()
            async with Kept(db, days) as again:
                assert again.outages.last == ()
                again.outages.link("cloud")
                await until(lambda: len(rows(file)) > 1)
            await db.execute("DELETE FROM outages WHERE number > 1")
            await db.commit()


# -- the whole way -----------------------------------------------------------------------------------------------------


async def test_an_outage_becomes_a_fact_at_hq(
    hq_file: Engine, cloud: Mosquitto, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages_module, "MERGE_S", 0.1)
    edge = Edge(configure(cloud.port))
    async with edge.running():
        desk = OutageDesk(edge.store, STORE, edge.publish_soon)
        await edge.listen(topics.BRIDGE_OUTAGE, desk.on_message)
        await edge.journal(T, 5)
        async with a_bridge(edge.config):
            async with a_receiver(hq_file, cloud.port):
                await until(lambda: edge.confirmed() == 5)
            await cloud.kill()
            await until(lambda: edge.status is not None and edge.status.link == "cloud")
            await edge.journal(T, 40)
            await cloud.start()
            async with a_receiver(hq_file, cloud.port):
                (body,) = await until(lambda: scalars(hq_file, schema.outages.c.body))
                outage = Outage.model_validate_json(body)
                assert outage.kept == {T: 40}
                assert set(outage.causes) == {"cloud"}
                assert outage.drained_in_s is not None
                facts = scalars(hq_file, schema.facts.c.id, schema.facts.c.type == "tillgate.link.restored.v1")
                assert facts == [outage.id]
                await until(lambda: rows(edge.config.bridge_db)[0][0] == "reported")
                assert edge.status is not None
                assert edge.status.outages[0].id == outage.id


async def test_a_report_that_comes_twice_is_one_fact(configure: Configure) -> None:
    edge = Edge(configure(1))
    outage = Outage(id="o-1", began="2026-05-04T09:02:00.000Z", ended="2026-05-04T09:03:00.000Z", offline_s=60)
    answers: list[bytes] = []
    async with edge.running():
        desk = OutageDesk(edge.store, STORE, edge.publish_soon)
        await edge.listen(topics.BRIDGE_OUTAGE, desk.on_message)
        await edge.listen(
            topics.BRIDGE_OUTAGE_RECORDED, lambda message: (answers.append(message.payload), message.ack())
        )
        for payload in (b"no outage", outage.model_dump_json().encode(), outage.model_dump_json().encode()):
            edge.publish_soon(topics.BRIDGE_OUTAGE, payload)
        await until(lambda: len(answers) == 2)
        assert [orjson.loads(answer) for answer in answers] == [{"id": "o-1"}] * 2
        kept = await edge.store.fetch_all("SELECT type, id, conflict FROM facts")
        assert kept == [("tillgate.link.restored.v1", "o-1", None)]


async def test_a_bridge_process_killed_in_mid_outage_goes_on_with_it(cloud: Mosquitto, configure: Configure) -> None:
    edge = Edge(configure(cloud.port))
    await cloud.kill()
    bridge = BridgeProcess(edge.config.file)
    async with edge.running():
        await edge.journal(T, 3)
        await bridge.start()
        await until(lambda: rows(edge.config.bridge_db) and edge.store.epoch in resumes(edge.config.bridge_db))
        (before,) = rows(edge.config.bridge_db)
        assert before[0] == "open"
        await bridge.end(signal.SIGKILL)
        await edge.journal(T, 4)
        await bridge.start()
        await until(lambda: edge.status is not None and edge.status.link == "cloud" and edge.status.outages)
        await cloud.start()
        try:
            await until(lambda: rows(edge.config.bridge_db)[0][0] == "draining")
            ((_, after),) = rows(edge.config.bridge_db)
            first, second = Outage.model_validate_json(before[1]), Outage.model_validate_json(after)
            assert (second.id, second.began, second.cuts) == (first.id, first.began, 1)
            assert set(second.causes) == {"cloud"}
            assert second.kept[T] >= 4
            assert second.exact
        finally:
            await bridge.end(signal.SIGTERM)


async def test_a_line_that_flaps_is_one_row_with_many_cuts(
    hq_file: Engine, cloud: Mosquitto, configure: Configure
) -> None:
    edge = Edge(configure(cloud.port))

    def cuts() -> int:
        return edge.status.outages[0].cuts if edge.status is not None and edge.status.outages else 0

    def kept() -> int:
        return edge.status.outages[0].kept.get(T, 0) if edge.status is not None and edge.status.outages else 0

    async with edge.running(), a_bridge(edge.config):
        await until(lambda: edge.status is not None and edge.status.link == "online")
        for number in range(1, 6):
            await cloud.kill()
            await until(lambda number=number: cuts() >= number)  # type: ignore[misc]
            await edge.journal(T, 2)
            await until(lambda number=number: kept() == 2 * number)  # type: ignore[misc]
            await cloud.start()
            async with a_receiver(hq_file, cloud.port):
                await until(lambda number=number: edge.confirmed() == 2 * number)  # type: ignore[misc]
    ((_, body),) = rows(edge.config.bridge_db)
    outage = Outage.model_validate_json(body)
    assert outage.cuts >= 5
    assert outage.kept == {T: 10}
