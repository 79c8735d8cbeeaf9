"""HQ's record by itself, on both databases: repeats, order, holes, tombstones, forks, what a database refuses."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from cloud_bridge.hq import fleet, fleet_table, lane, schema
from cloud_bridge.hq.gone import holes
from cloud_bridge.hq.record import Recorder
from cloud_bridge.wire import Batch, Encoder
from edge.bus import envelope, topics
from edge.bus.messages.facts import FactClass
from edge.journal import chain
from tests.cloud_bridge.conftest import Configure
from tests.cloud_bridge.rig import (
    STORE,
    Edge,
    Mosquitto,
    a_bridge,
    a_receiver,
    bodies,
    count_at_hq,
    scalars,
    until,
)

EPOCH = envelope.new_id()
TOPIC = topics.up(STORE, "transaction")


class Journal:
    """A chain of one class, from which batches are cut."""

    def __init__(self, items: list[bytes], fact_class: FactClass = FactClass.TRANSACTION, epoch: str = EPOCH) -> None:
        self.fact_class, self.epoch, self.items = fact_class, epoch, items
        self.hashes = [chain.genesis(epoch, fact_class.value)]
        for body in items:
            self.hashes.append(chain.link(self.hashes[-1], body))

    def cut(self, first: int, last: int, *, blind: bool = False) -> tuple[str, bytes]:
        prev = None if blind else self.hashes[first - 1]
        part = tuple(self.items[first - 1 : last])
        batch = Batch(STORE, self.fact_class, self.epoch, first, prev, self.hashes[last], part)
        return topics.up(STORE, self.fact_class.value), Encoder().encode(batch)


def confirmed(outcome: object, epoch: str = EPOCH, fact_class: FactClass = FactClass.TRANSACTION) -> int:
    assert isinstance(outcome, dict)
    return int(outcome[STORE, epoch].confirmed[fact_class])


@pytest.fixture
def journal() -> Journal:
    return Journal(bodies(1, 100))


def test_a_repeat_is_counted_and_ignored(hq: Engine, journal: Journal) -> None:
    recorder = Recorder(hq)
    assert confirmed(recorder.record([journal.cut(1, 10)])) == 10
    assert confirmed(recorder.record([journal.cut(1, 10), journal.cut(6, 15)])) == 15
    assert count_at_hq(hq) == 15
    assert scalars(hq, schema.heads.c.duplicates) == [15]
    assert scalars(hq, schema.heads.c.facts) == [15]


def test_batches_in_any_order_end_in_the_same_record(hq: Engine, journal: Journal) -> None:
    cuts = [journal.cut(first, first + 4) for first in range(1, 100, 5)]
    chance = random.Random(1)
    chance.shuffle(cuts)
    recorder = Recorder(hq)
    last = 0
    while cuts:
        taken, cuts = cuts[: chance.randint(1, 4)], cuts[4:] if len(cuts) > 4 else []
        taken = taken or []
        now = confirmed(recorder.record(taken))
        assert now >= last
        last = now
    assert confirmed(recorder.record([journal.cut(first, first + 4) for first in range(1, 100, 5)])) == 100
    assert count_at_hq(hq) == 100


def test_a_hole_holds_confirmation_back_until_it_is_filled(hq: Engine, journal: Journal) -> None:
    recorder = Recorder(hq)
    assert confirmed(recorder.record([journal.cut(1, 10), journal.cut(21, 30)])) == 10
    with hq.connect() as db:
        assert holes(db, STORE) == {(STORE, EPOCH, "transaction"): [(11, 20)]}
    assert fleet.look(hq).stores[0].missing == 10
    assert confirmed(recorder.record([journal.cut(11, 20)])) == 30
    assert fleet.look(hq).stores[0].missing == 0


def test_a_hole_that_stays_costs_one_row_and_not_all_that_is_behind_it(hq: Engine, journal: Journal) -> None:
    recorder = Recorder(hq)
    recorder.record([journal.cut(1, 10), journal.cut(12, 90)])
    read: list[int] = []
    event.listen(hq, "after_cursor_execute", lambda *seen: read.append(_rows_of_a_scan(*seen[2:4])))
    assert confirmed(recorder.record([journal.cut(91, 100)])) == 10
    assert [count for count in read if count] == [1]
    assert confirmed(recorder.record([journal.cut(11, 11)])) == 100
    assert sum(read) > 80, "now they are all looked at"


def _rows_of_a_scan(statement: str, parameters: Any) -> int:
    """How many facts at most a statement reads that looks for what follows a hole; 0 for any other."""
    if not statement.startswith("SELECT facts.seq, facts.hash") or "LIMIT" not in statement:
        return 0
    values = list(parameters.values()) if isinstance(parameters, dict) else list(parameters)
    return max(value for value in values[3:] if isinstance(value, int) and value != 10)


def test_a_tombstone_accounts_for_a_range_that_will_never_come(hq: Engine) -> None:
    telemetry = Journal(bodies(1, 30, FactClass.TELEMETRY), FactClass.TELEMETRY)
    data = {"of_class": "telemetry", "first": 11, "last": 20, "reason": "evicted"}
    event = envelope.build("tillgate.journal.tombstone.v1", envelope.gateway_source(STORE), data)
    stone = Journal([envelope.canonical({**event, "tgclass": "operation", "tgseq": 1})], FactClass.OPERATION)
    recorder = Recorder(hq)
    recorder.record([telemetry.cut(1, 10), telemetry.cut(21, 30)])
    outcome = recorder.record([stone.cut(1, 1)])
    assert confirmed(outcome, fact_class=FactClass.TELEMETRY) == 30
    assert confirmed(outcome, fact_class=FactClass.OPERATION) == 1
    assert scalars(hq, schema.gone.c.why) == ["evicted"]
    assert fleet.look(hq).stores[0].missing == 0


def test_two_gateways_on_one_journal_are_noticed_and_neither_overwrites_the_other(hq: Engine, journal: Journal) -> None:
    twin = Journal([*journal.items[:20], *bodies(21, 20)])
    recorder = Recorder(hq)
    assert confirmed(recorder.record([journal.cut(1, 30)])) == 30
    assert confirmed(recorder.record([twin.cut(15, 25)])) == 30, "same keys, other content"
    assert confirmed(recorder.record([twin.cut(31, 40)])) == 30, "does not continue what is here"
    assert confirmed(recorder.record([journal.cut(31, 40)])) == 40
    assert scalars(hq, schema.facts.c.body, schema.facts.c.seq == 22) == [journal.items[21].decode()]
    assert scalars(hq, schema.rejected.c.alarm) == [True, True]
    assert fleet.look(hq).alarms == 2


def test_a_batch_damaged_on_the_way_is_kept_and_not_confirmed(hq: Engine, journal: Journal) -> None:
    forged = Journal([*journal.items[:4], *bodies(5, 1), *journal.items[5:]])
    forged.hashes = journal.hashes
    recorder = Recorder(hq)
    outcome = recorder.record([forged.cut(1, 10)])
    assert confirmed(outcome) == 0
    assert outcome[STORE, EPOCH].rejected == {}
    assert confirmed(recorder.record([journal.cut(1, 10)])) == 10


def test_a_single_damaged_fact_is_refused_for_good_and_told_every_time(hq: Engine, journal: Journal) -> None:
    forged = Journal([*journal.items[:4], *bodies(5, 1), *journal.items[5:]])
    forged.hashes = journal.hashes
    recorder = Recorder(hq)
    recorder.record([journal.cut(1, 4)])
    outcome = recorder.record([forged.cut(5, 5)])
    assert confirmed(outcome) == 5
    assert outcome[STORE, EPOCH].rejected == {FactClass.TRANSACTION: [5]}
    outcome = recorder.record([journal.cut(6, 10)])
    assert confirmed(outcome) == 10
    assert outcome[STORE, EPOCH].rejected == {FactClass.TRANSACTION: [5]}
    assert count_at_hq(hq) == 9


def test_a_journal_whose_beginning_was_trimmed_is_taken(hq: Engine, journal: Journal) -> None:
    recorder = Recorder(hq)
    assert confirmed(recorder.record([journal.cut(51, 60, blind=True)])) == 0
    assert confirmed(recorder.record([journal.cut(61, 70)])) == 0
    assert count_at_hq(hq) == 20


def test_what_the_database_cannot_take_goes_to_quarantine_and_the_rest_is_recorded(hq: Engine) -> None:
    event = envelope.build("t", "s", {"value": "a\0b"}, id_="id\0with\0nul" + "x" * 5_000)
    # the identity is shortened for its column, the body is kept as it is
    odd = Journal([envelope.canonical({**event, "tgclass": "operation", "tgseq": 1})], FactClass.OPERATION)
    huge = {"of_class": "telemetry", "first": 1, "last": 2**63 + 5, "reason": "evicted"}
    event = envelope.build("tillgate.journal.tombstone.v1", "s", huge)
    poison = Journal([envelope.canonical({**event, "tgclass": "engagement", "tgseq": 1})], FactClass.ENGAGEMENT)
    good = Journal(bodies(1, 10))
    recorder = Recorder(hq)
    outcome = recorder.record([odd.cut(1, 1), poison.cut(1, 1), good.cut(1, 10)])
    assert confirmed(outcome) == 10
    assert confirmed(outcome, fact_class=FactClass.OPERATION) == 1
    assert scalars(hq, schema.facts.c.body, schema.facts.c["class"] == "operation") == [odd.items[0].decode()]


def test_epochs_are_kept_apart_and_the_newest_is_told(hq: Engine, journal: Journal) -> None:
    recorder = Recorder(hq)
    recorder.record([journal.cut(1, 10)])
    later = Journal(bodies(1, 5), epoch=envelope.new_id())
    recorder.record([later.cut(1, 5)])
    assert count_at_hq(hq) == 15
    told = recorder.confirmed(STORE)
    assert list(told) == [(STORE, later.epoch)]
    assert confirmed(told, later.epoch) == 5
    assert recorder.confirmed("never-seen") == {}
    recorder.record([Journal(bodies(1, 2, FactClass.TELEMETRY), FactClass.TELEMETRY).cut(1, 2)])  # salvaged, say
    assert confirmed(recorder.confirmed(STORE, later.epoch), later.epoch) == 5
    assert set(recorder.confirmed(STORE, "unheard-of")[STORE, "unheard-of"].confirmed.values()) == {0}
    view = fleet.look(hq)
    assert [store.store for store in view.stores] == ["never-seen", STORE]
    assert view.stores[1].epochs == [EPOCH, later.epoch]
    assert fleet_table.table(view).splitlines()[-1].split()[-2:] == ["2", "?"], "two epochs, no version told"


async def test_receivers_at_the_same_time_make_one_record(hq: Engine, hq_url: str, journal: Journal) -> None:
    engines = [hq, schema.open_engine(hq_url), schema.open_engine(hq_url)]
    cuts = [journal.cut(first, first + 1) for first in range(1, 100, 2)]
    chance = random.Random(3)

    def work(engine: Engine, mine: list[tuple[str, bytes]]) -> None:
        for cut in mine:
            Recorder(engine).record([cut])

    shares = [chance.sample(cuts, len(cuts)) for _ in engines]
    await asyncio.gather(
        *(asyncio.to_thread(work, engine, share) for engine, share in zip(engines, shares, strict=True))
    )
    assert confirmed(Recorder(hq).record([cuts[0]])) == 100
    assert count_at_hq(hq) == 100
    assert scalars(hq, schema.heads.c.duplicates) == [202]
    for engine in engines[1:]:
        engine.dispose()


def test_quarantine_is_bounded(hq_file: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_bridge.hq.quarantine.KEPT_REJECTED", 5)
    recorder = Recorder(hq_file)
    recorder.record([(TOPIC, f"rubbish {number}".encode()) for number in range(20)])
    assert sum(scalars(hq_file, schema.rejected.c.times)) == 20
    assert len(scalars(hq_file, schema.rejected.c.id)) == 5


@pytest.mark.parametrize("hq_url", ["postgresql"], indirect=True)
def test_a_database_that_goes_away_in_the_middle_has_recorded_nothing(hq: Engine, journal: Journal) -> None:
    recorder = Recorder(hq)
    recorder.record([journal.cut(1, 10)])
    with hq.begin() as db:
        db.exec_driver_sql(
            "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$"
        )
        db.exec_driver_sql(
            "CREATE TRIGGER die BEFORE INSERT ON facts FOR EACH ROW WHEN (NEW.seq = 15) EXECUTE FUNCTION die()"
        )
    with pytest.raises(OperationalError):
        recorder.record([journal.cut(11, 20)])
    with hq.begin() as db:
        db.exec_driver_sql("DROP TRIGGER die ON facts")
    assert count_at_hq(hq) == 10
    assert confirmed(recorder.record([journal.cut(11, 20)])) == 20


@pytest.mark.parametrize("hq_url", ["postgresql"], indirect=True)
def test_what_only_the_database_finds_wrong_goes_to_quarantine_alone(hq: Engine, journal: Journal) -> None:
    with hq.begin() as db:
        db.exec_driver_sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = 'data_exception'; END $$"
        )
        db.exec_driver_sql(
            "CREATE TRIGGER refuse BEFORE INSERT ON facts FOR EACH ROW WHEN (NEW.seq = 15) EXECUTE FUNCTION refuse()"
        )
    recorder = Recorder(hq)
    assert confirmed(recorder.record([journal.cut(1, 10), journal.cut(11, 20), journal.cut(21, 30)])) == 10
    assert count_at_hq(hq) == 20
    assert ["not this one" in reason for reason in scalars(hq, schema.rejected.c.reason)] == [True]


@pytest.mark.parametrize("hq_url", ["postgresql"], indirect=True)
async def test_a_database_that_is_for_reading_only_for_a_while_stops_no_receiver(
    hq: Engine, cloud: Mosquitto, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a standby is before it takes over."""
    monkeypatch.setattr(lane, "RETRY_S", 0.1)
    config = configure(cloud.port)
    name = hq.url.database

    def let_write(allowed: bool) -> None:
        with hq.begin() as db:
            db.exec_driver_sql("SET TRANSACTION READ WRITE")
            db.exec_driver_sql(
                f"ALTER DATABASE {name} SET default_transaction_read_only = {'off' if allowed else 'on'}"
            )
        hq.dispose()

    let_write(False)
    tried: list[str] = []
    event.listen(hq, "handle_error", lambda context: tried.append(type(context.sqlalchemy_exception).__name__))
    async with Edge(config).running() as edge, a_receiver(hq, cloud.port), a_bridge(config):
        await edge.journal(FactClass.TRANSACTION, 5)
        await until(lambda: len(tried) > 2)
        let_write(True)
        await until(lambda: edge.confirmed() == 5)
    assert set(tried) == {"InternalError"}
