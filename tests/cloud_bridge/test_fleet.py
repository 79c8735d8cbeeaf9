"""HQ's view of its stores: links, backlog, gaps, tombstones, twins, troubles on top; and the same in 80 columns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, event, insert, update

from cloud_bridge.hq import fleet, fleet_table, schema
from cloud_bridge.hq.fleet_view import StoreView
from cloud_bridge.hq.record import Recorder
from cloud_bridge.hq.statuses import Statuses
from edge.bus import envelope, topics
from edge.bus.messages.facts import FactClass, Outage
from tests.cloud_bridge.rig import STORE, bodies
from tests.cloud_bridge.test_record import EPOCH, Journal

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def say(hq: Engine, heard_s: float = 10, store: str = STORE, **status: Any) -> None:
    """The store has said this so many seconds ago."""
    said = {"link": "online", "life": "a", "connection": 1, "number": 1, "state": "serving", **status}
    assert Statuses(hq).take([(topics.up_status(store), orjson.dumps(said))], ago(heard_s)) == []


def the_one(hq: Engine, *, alone: bool = False) -> StoreView:
    (view,) = fleet.look(hq, STORE if alone else None, NOW).stores
    return view


def heard_of(hq: Engine, seconds: float) -> None:
    """The facts that are here came so many seconds ago."""
    with hq.begin() as db:
        db.execute(update(schema.stores).values(last_seen=ago(seconds)))
        db.execute(update(schema.heads).values(first_seen=ago(seconds)))
        db.execute(update(schema.facts).values(received_at=ago(seconds)))
        db.execute(update(schema.rejected).values(last_at=ago(seconds)))


def test_a_healthy_store_and_what_waits_in_it(hq: Engine) -> None:
    Recorder(hq).record([Journal(bodies(1, 30)).cut(1, 30)])
    heard_of(hq, 5)
    say(
        hq,
        10,
        epoch=EPOCH,
        online_s=3600,
        clock="synced",
        version="1.2.3",
        classes={
            "transaction": {"head": 42, "confirmed": 20, "oldest_s": 60},
            "critical": {"head": 3, "confirmed": 3},
            "telemetry": {"head": 5, "confirmed": 0, "oldest_s": 7000},
        },
    )
    view = the_one(hq)
    assert (view.link, view.link_s, view.heard_s) == ("online", 3610, 10)
    transaction = view.classes["transaction"]
    assert (transaction.head, transaction.contiguous, transaction.waiting) == (42, 30, 12), "HQ's own count is newer"
    assert transaction.oldest_s == 70
    assert view.classes["critical"].waiting == 3, "the store says it is here; it is not"
    assert (view.waiting, view.oldest_s, view.severity) == (20, 7010, 2)
    assert [trouble.text for trouble in view.troubles] == ["a fact waits for 116 min"]


def test_a_link_that_was_lost_and_one_that_fell_silent(hq: Engine) -> None:
    say(hq, 100, store="a", epoch="e")
    say(hq, 900, store="b", epoch="e")
    Statuses(hq).take([(topics.up_status("a"), b'{"link":"unknown","life":"a","connection":1}')], ago(70))
    Recorder(hq).confirmed("c")  # it has asked, and never said how it is
    found = {view.store: (view.link, view.link_s) for view in fleet.look(hq, None, NOW).stores}
    assert (found["a"], found["b"], found["c"][0]) == (("lost", 70), ("silent", 900), "unknown")
    text = fleet_table.table(fleet.look(hq, None, NOW))
    assert "3 stores: 1 lost, 1 silent, 1 unknown; 2 in trouble" in text
    assert "is a receiver running" in text


def test_what_went_is_counted_by_its_reason(hq: Engine) -> None:
    telemetry = Journal(bodies(1, 40, FactClass.TELEMETRY), FactClass.TELEMETRY)
    stones = []
    for number, (first, last, reason) in enumerate([(11, 20, "evicted"), (31, 33, "expired"), (34, 35, "evicted")], 1):
        data = {"of_class": "telemetry", "first": first, "last": last, "reason": reason}
        said = envelope.build("tillgate.journal.tombstone.v1", envelope.gateway_source(STORE), data)
        stones.append(envelope.canonical({**said, "tgclass": "operation", "tgseq": number}))
    recorder = Recorder(hq)
    recorder.record([Journal(stones, FactClass.OPERATION).cut(1, 3)])
    recorder.record([telemetry.cut(1, 10), telemetry.cut(25, 30)])
    view = the_one(hq)
    assert (view.gone("evicted"), view.gone("expired"), view.classes["telemetry"].ranges) == (12, 3, 3)
    assert view.holes == [(EPOCH, "telemetry", 21, 24)]
    assert "4 facts are missing: telemetry 21-24" in [trouble.text for trouble in view.troubles]


def test_two_gateways_on_one_epoch_are_an_alarm_on_top(hq: Engine) -> None:
    journal, twin = Journal(bodies(1, 30)), Journal(bodies(1, 30))
    Recorder(hq).record([journal.cut(1, 20)])
    Recorder(hq).record([twin.cut(21, 30)])
    heard_of(hq, 50)
    say(hq, 5, store="fine", epoch="e")
    view = fleet.look(hq, None, NOW)
    assert [(one.store, one.severity) for one in view.stores] == [(STORE, 3), ("fine", 0)]
    assert (view.stores[0].alarms, view.alarms) == (1, 1)
    assert "do not fit the journal" in view.stores[0].troubles[0].text
    (later,) = fleet.look(hq, STORE, NOW + timedelta(days=8)).stores
    assert later.alarms == 1, "it is not forgotten"
    assert all("do not fit" not in trouble.text for trouble in later.troubles), "but no longer on top"


@pytest.mark.parametrize("by", ["facts", "status"])
def test_an_older_epoch_that_is_still_heard_of_is_a_twin_and_its_facts_are_recorded(hq: Engine, by: str) -> None:
    older, newer = Journal(bodies(1, 40)), Journal(bodies(1, 10), epoch=envelope.new_id())
    recorder = Recorder(hq)
    recorder.record([older.cut(1, 20)])
    heard_of(hq, 7200)
    recorder.record([newer.cut(1, 10)])
    with hq.begin() as db:
        db.execute(update(schema.heads).where(schema.heads.c.epoch == newer.epoch).values(first_seen=ago(3600)))
    say(hq, 7300, epoch=EPOCH)
    say(hq, 3500, life="b", epoch=newer.epoch)
    assert the_one(hq).twin is None, "a store that was set up anew"
    if by == "facts":
        outcome = recorder.record([older.cut(21, 30)])
        assert outcome[STORE, EPOCH].confirmed == {FactClass.TRANSACTION: 30}, "facts they are"
        with hq.begin() as db:
            db.execute(update(schema.facts).where(schema.facts.c.seq == 30).values(received_at=ago(60)))
    else:
        say(hq, 60, life="c", epoch=EPOCH)
    view = the_one(hq)
    assert view.twin is not None
    assert (view.twin.epoch, view.twin.newest, view.twin.heard_s) == (EPOCH, newer.epoch, 60)
    assert (view.severity, view.epochs) == (3, [EPOCH, newer.epoch])
    assert "two gateways" in view.troubles[0].text


def test_a_late_word_of_the_epoch_before_is_no_twin(hq: Engine) -> None:
    say(hq, 7200, epoch="e1")
    say(hq, 3600, life="b", epoch="e2")
    say(hq, 3600 - 100, life="a", number=2, epoch="e1")
    assert the_one(hq).twin is None


def test_one_store_in_detail(hq: Engine) -> None:
    Recorder(hq).record([Journal(bodies(1, 30)).cut(1, 30)])
    heard_of(hq, 5)
    outages = [
        Outage(
            id=f"o{number}", began=f"2026-05-0{number}T09:02:00.000Z", ended=f"2026-05-0{number}T09:30:00.000Z",
            offline_s=1680, causes={"wan": 1500, "cloud": 180}, cuts=2, kept={FactClass.TRANSACTION: 512},
            shed={FactClass.TELEMETRY: 9}, drained_in_s=3,
        )
        for number in range(1, 8)
    ]  # fmt: skip
    with hq.begin() as db:
        rows = [{"store": STORE, "id": o.id, "ended": o.ended, "body": o.model_dump_json()} for o in outages]
        db.execute(insert(schema.outages), rows)
    say(
        hq, 12, epoch=EPOCH, online_s=600, state="storage_full", version="1.2.3", clock="unknown", lane_gaps=4,
        conflicts=2, quarantined=6, parked=1, devices=9, eta_s=90, price_version="2026-05-04.1", disk_free_mb=100,
        budget_wait_s=600,
        device_faults={"printer-1": "not_ready", "scale-2": "offline"}, trouble="the cloud broker refuses facts",
        classes={"transaction": {"head": 30, "confirmed": 30}},
    )  # fmt: skip
    view = the_one(hq, alone=True)
    assert [outage.id for outage in view.outages] == ["o7", "o6", "o5", "o4", "o3"]
    text = fleet_table.page(view, 80)
    assert all(len(line) <= 80 for line in text.splitlines())
    for words in (
        "online for 10 min", "version 1.2.3", "clock unknown", "its disk is full", "scale-2 offline",
        "4 facts missing from their counting, 2 in conflict", "only 100 MB", "2026-05-04.1", "1 facts parked",
        "28 min in 2 cuts", "kept 512, shed 9, drained in 3 s", "waits 10 min for the line's budget",
        "the cloud broker refuses facts",
    ):  # fmt: skip
        assert words in " ".join(text.split()), words


@pytest.mark.parametrize("width", [80, 120, 40, 500])
def test_the_table_fits_its_width_and_shows_trouble_first(hq_file: Engine, width: int) -> None:
    long_name = "a-store-whose-name-is-as-long-as-names-may-be-0123456789"
    for number in range(20):
        say(hq_file, 10, store=f"S{number:04}", epoch=envelope.new_id(), version="0.1.0",
            device_faults={"printer-1": "offline"} if number == 13 else {})  # fmt: skip
    say(hq_file, 5_000, store=long_name, epoch=envelope.new_id(), trouble="x" * 300)
    view = fleet.look(hq_file, None, NOW)
    assert [store.store for store in view.stores[:3]] == [long_name, "S0013", "S0000"]
    lines = fleet_table.table(view, width).splitlines()
    assert all(len(line) <= min(max(width, 80), 120) for line in lines)
    assert "printer-1 offline" in "\n".join(lines)


def test_what_a_newer_store_says_is_shown_as_far_as_it_can_be_read(hq_file: Engine) -> None:
    say(hq_file, 10, epoch="e")
    with hq_file.begin() as db:
        db.execute(update(schema.store_status).values(body='{"link":"quantum"}'))
    view = the_one(hq_file)
    assert (view.link, view.said) == ("unknown", None)
    assert fleet_table.table(fleet.look(hq_file, None, NOW))


def test_a_thousand_stores_take_a_handful_of_queries(hq_file: Engine) -> None:
    """Every query is one over small tables: their number does not grow with the stores, and none scans the facts."""
    with hq_file.begin() as db:
        names = [f"S{number:04}" for number in range(1_000)]
        db.execute(
            insert(schema.stores), [{"store": name, "first_seen": ago(9), "last_seen": ago(9)} for name in names]
        )
        chains = [
            {"store": name, "epoch": f"e{epoch}", "class": "transaction", "first_seen": ago(100 - epoch),
             "contiguous": 9, "highest": 9, "facts": 9, "duplicates": 0}
            for name in names for epoch in (1, 2)
        ]  # fmt: skip
        db.execute(insert(schema.heads), chains)
    asked: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    event.listen(hq_file, "before_cursor_execute", note)
    view = fleet.look(hq_file, None, NOW)
    assert len(view.stores) == 1_000
    assert len(asked) < 20
    with hq_file.connect() as db:
        for statement in asked:
            if not statement.startswith("SELECT"):
                continue
            plan = db.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", ("x",) * statement.count("?")).all()
            looks = [row[3] for row in plan if "facts" in row[3]]
            assert all("seq=?" in look for look in looks), f"{looks} in {statement}"


def test_what_a_store_says_does_not_steer_the_terminal(hq_file: Engine) -> None:
    say(hq_file, 10, epoch="e", version="\x1b[2J1.0", trouble="\x1b]0;owned\x07 look here", price_version="\x1b[31m")
    view = fleet.look(hq_file, STORE, NOW)
    for text in (fleet_table.table(view), fleet_table.page(view.stores[0])):
        assert "\x1b" not in text
        assert "look here" in text
