"""Late dating at HQ: facts of a boot whose clock became trusted afterwards, whichever reaches HQ first."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from cloud_bridge.hq import dating, schema
from cloud_bridge.hq.record import Recorder
from cloud_bridge.hq.schema import open_engine
from cloud_bridge.wire import Batch, Encoder
from edge.bus import topics
from edge.bus.messages.facts import FactClass
from edge.journal.clock import Clock
from edge.journal.store import Store
from tests.cloud_bridge.rig import STORE, a_fact

TRUE_START_MS = 1_777_888_000_000
"""2026-05-04T09:46:40Z: what the time of day really was when the box was switched on."""


class Box:
    """A board without a battery clock: it wakes up in 1970, and learns the time when it is told."""

    def __init__(self) -> None:
        self.mono_ms = 1_000
        self.offset_ms = 0
        self.synced = False

    def clock(self) -> Clock:
        return Clock(
            wall_ms=lambda: self.mono_ms + self.offset_ms,
            mono_ms=lambda: self.mono_ms,
            synced=lambda: self.synced,
            boot="5b0e0c9e-6d5e-4bb7-9d5a-1f5d7a3f0c11",
            marker=Path("/nonexistent"),
        )


async def a_days_messages(file: Path) -> dict[str, tuple[str, bytes]]:
    """What a store sends that learns the time after its first two sales: class -> batch."""
    box = Box()
    store = await Store.open(file, STORE, clock=box.clock(), reserve_bytes=0)
    try:
        for mono_ms, text_ in ((61_000, "zero \0 in it"), (3_661_250, 'what looks like "tgboot":"another"')):
            box.mono_ms = mono_ms
            await store.append(a_fact(FactClass.TRANSACTION, text=text_))
        box.mono_ms, box.offset_ms, box.synced = 7_200_000, TRUE_START_MS, True
        await store.append(a_fact(FactClass.TRANSACTION))
        messages: dict[str, tuple[str, bytes]] = {}
        for fact_class in (FactClass.TRANSACTION, FactClass.OPERATION):
            rows = await store.fetch_all(
                "SELECT plain(class, seq, body), hash FROM facts WHERE class = ? ORDER BY seq", (fact_class.value,)
            )
            batch = Batch(STORE, fact_class, store.epoch, 1, None, rows[-1][1], tuple(bytes(row[0]) for row in rows))
            messages[fact_class.value] = (topics.up(STORE, fact_class.value), Encoder().encode(batch))
        return messages
    finally:
        await store.close()


def dated(engine: Engine) -> list[tuple[str, str | None, str | None]]:
    with engine.connect() as db:
        query = "SELECT recorded_at, dated_at, dated_by FROM facts_dated WHERE class = 'transaction' ORDER BY seq"
        return [(row[0], row[1], row[2]) for row in db.execute(text(query))]


DATED = [
    ("1970-01-01T00:01:01.000Z", "2026-05-04T09:47:41.000Z", "boot"),
    ("1970-01-01T01:01:01.250Z", "2026-05-04T10:47:41.250Z", "boot"),
    ("2026-05-04T11:46:40.000Z", "2026-05-04T11:46:40.000Z", "clock"),
]


@pytest.mark.parametrize("order", [("transaction", "operation"), ("operation", "transaction")])
async def test_both_orders_give_the_same_dates(hq: Engine, tmp_path: Path, order: tuple[str, str]) -> None:
    messages = await a_days_messages(tmp_path / "store.db")
    recorder = Recorder(hq)
    recorder.record([messages[order[0]]])
    if order[0] == "transaction":
        assert dated(hq)[:2] == [(DATED[0][0], None, None), (DATED[1][0], None, None)], "nobody knows yet"
    recorder.record([messages[order[1]]])
    assert dated(hq) == DATED
    recorder.record([messages[order[0]], messages[order[1]]])
    assert dated(hq) == DATED, "a repeat changes nothing"


async def test_a_database_from_before_is_dated_on_opening(hq: Engine, hq_url: str, tmp_path: Path) -> None:
    messages = await a_days_messages(tmp_path / "store.db")
    Recorder(hq).record(list(messages.values()))
    with hq.begin() as db:  # as a database of the version before it looked
        db.execute(text(f"DROP VIEW {dating.VIEW}"))
        for table in (schema.boots, schema.outages, schema.store_status, schema.epochs_heard):
            table.drop(db)
        schema.rejected_by_topic.drop(db)
    again = open_engine(hq_url)
    try:
        assert dated(again) == DATED
    finally:
        again.dispose()


@pytest.mark.parametrize(
    "data",
    [
        {"boot": "b", "offset_ms": 10**18},
        {"boot": "", "offset_ms": 1},
        {"boot": "x" * 65, "offset_ms": 1},
        {"boot": "nul\0", "offset_ms": 1},
        {"offset_ms": 1},
        "no object",
    ],
)
def test_a_fact_that_says_nothing_usable_dates_nothing(hq_file: Engine, data: object) -> None:
    with hq_file.begin() as db:
        dating.note(db, STORE, {"data": data})
        assert db.execute(text("SELECT count(*) FROM boots")).scalar() == 0
