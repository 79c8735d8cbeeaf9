"""A journal damaged in the middle of a backlog: HQ gets all that can be read, once, and knows what is lost."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from cloud_bridge import policy, salvaged
from cloud_bridge.cursors import Cursors
from cloud_bridge.hq.gone import holes
from cloud_bridge.outbox import Outbox
from cloud_bridge.pace import Budget
from cloud_bridge.salvaged import Salvaged
from cloud_bridge.tail import Tail
from edge.bus import frame, topics
from edge.bus.client import Message
from edge.bus.messages.facts import FactClass
from edge.bus.messages.links import Confirmed
from edge.config import StoreConfig
from edge.journal.audit import verify
from edge.seal import KEY_FILE, write_secret
from tests.cloud_bridge.conftest import Configure
from tests.cloud_bridge.rig import STORE, Edge, Mosquitto, a_bridge, a_receiver, until

PAGE = 1024
COUNT = 600
HAD = 200
"""So many HQ had confirmed when the journal was damaged."""


def _leaves(content: bytes) -> list[int]:
    """Pages that hold rows with bodies: leaf pages of a table, by their first byte."""
    return [
        at
        for at in range(PAGE, len(content), PAGE)
        if content[at] == 13 and b"tillgate.sale.completed.v1" in content[at : at + PAGE]
    ]


def _all_in(path: Path) -> None:
    """Fold the log into the file: what stands in a log heals the pages below it."""
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0, "somebody still reads"
    db.close()


def _nul_pages(path: Path) -> None:
    """Some pages of the backlog became zeros, as after a power cut on a cheap card."""
    content = bytearray(path.read_bytes())
    leaves = _leaves(bytes(content))
    for at in leaves[len(leaves) // 2 : len(leaves) // 2 + 3]:
        content[at : at + PAGE] = bytes(PAGE)
    path.write_bytes(content)


def _truncated(path: Path) -> None:
    """The end of the file is gone."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 4 // 5 // PAGE * PAGE + 100])


def _no_header(path: Path) -> None:
    """The first sector is gone, the rest is there."""
    content = path.read_bytes()
    path.write_bytes(bytes(100) + content[100:])


@pytest.mark.parametrize("damage", [_nul_pages, _truncated, _no_header])
async def test_what_can_be_read_of_a_damaged_journal_reaches_hq_once(
    configure: Configure, cloud: Mosquitto, hq_file: Engine, damage: Callable[[Path], None]
) -> None:
    config = configure(cloud.port)
    async with Edge(config).running() as edge:
        await edge.journal(FactClass.TRANSACTION, HAD, text="before")
        async with a_receiver(hq_file, cloud.port), a_bridge(config):
            await until(lambda: edge.confirmed() == HAD)
        await edge.journal(FactClass.TRANSACTION, COUNT - HAD, text="x" * 300)
        old = edge.store.epoch
    _all_in(config.store_db)
    damage(config.store_db)
    async with Edge(config).running() as edge:
        assert edge.store.salvaged is not None
        kept = {seq for (seq,) in await edge.store.fetch_all("SELECT seq FROM salvaged WHERE class = 'transaction'")}
        lost = COUNT - len(kept | set(range(1, HAD + 1)))
        assert lost < COUNT - HAD, "not all of the backlog is lost"
        assert lost > 0 or damage is _no_header
        await edge.journal(FactClass.TRANSACTION, 5, text="after")
        async with a_receiver(hq_file, cloud.port), a_bridge(config):
            await until(lambda: edge.confirmed() == 5)
            there = set(range(1, HAD + 1)) | kept
            await until(lambda: _seqs(hq_file, old) == there)
            head = max(COUNT if damage is _nul_pages else 0, *there)
            await until(lambda: _contiguous(hq_file, old) >= max(there))
    with hq_file.connect() as db:
        assert holes(db, "s1") == {}, "what is lost is accounted for"
        twice = db.execute(text("SELECT id FROM facts GROUP BY id HAVING count(*) > 1")).all()
        assert twice == [], "no fact counts twice"
        why = set(db.execute(text("SELECT why FROM gone")).scalars())
        assert why <= {"damaged"}
    assert _contiguous(hq_file, old) == head
    assert verify(config.store_db).ok


def _seqs(engine: Engine, epoch: str) -> set[int]:
    with engine.connect() as db:
        query = text("SELECT seq FROM facts WHERE class = 'transaction' AND epoch = :epoch")
        return set(db.execute(query, {"epoch": epoch}).scalars())


def _contiguous(engine: Engine, epoch: str) -> int:
    with engine.connect() as db:
        query = text("SELECT contiguous FROM heads WHERE class = 'transaction' AND epoch = :epoch")
        return int(db.execute(query, {"epoch": epoch}).scalar() or 0)


@contextlib.asynccontextmanager
async def a_sender(
    config: StoreConfig, sent: list[frame.Header], budget: Budget | None = None
) -> AsyncIterator[tuple[Salvaged, Outbox]]:
    """What sends a damaged journal, on a line that only keeps the headers of what it is given."""

    def publish(topic: str, payload: bytes, **more: Any) -> None:
        sent.append(frame.unpack(payload)[0])
        more["on_done"](None)

    tail, cursors = Tail(config.store_db), await Cursors.open(config.bridge_db)
    outbox = Outbox(in_flight=10, packet_bytes=64_000, budget=budget)
    sender = Salvaged(
        store=STORE, tail=tail, cursors=cursors, outbox=outbox, publish=publish, confirm="hq", wire="batch"
    )
    sender.on_connected()
    task = asyncio.create_task(sender.run(), name="salvaged")
    try:
        yield sender, outbox
    finally:
        task.cancel()
        await asyncio.wait([task])
        await tail.close()
        await cursors.close()


async def a_damaged_journal(config: StoreConfig, *classes: FactClass) -> str:
    """Of which all can be read; returns its epoch."""
    async with Edge(config).running() as edge:
        for fact_class in classes:
            await edge.journal(fact_class, 20)
        epoch = edge.store.epoch
    _no_header(config.store_db)
    async with Edge(config).running() as edge:
        assert edge.store.salvaged is not None
    return epoch


async def test_a_class_that_hq_does_not_take_holds_up_no_other(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another gateway writes the same chain, say: HQ never confirms it."""
    monkeypatch.setattr(policy, "CONFIRM_WITHIN_S", 0.2)
    config = configure(1)
    epoch = await a_damaged_journal(config, FactClass.CRITICAL, FactClass.TRANSACTION)
    sent: list[frame.Header] = []
    async with a_sender(config, sent) as (sender, _):
        await until(lambda: [one["class"] for one in sent] == ["critical", "transaction"])
        told = Confirmed(epoch=epoch, confirmed={FactClass.TRANSACTION: 20})
        message = Message(topics.confirmed(STORE), told.model_dump_json().encode(), 0, False, 0, None)
        assert sender.hears(message)


async def test_a_damaged_journal_waits_for_the_hours_budget_also_while_nothing_else_does(configure: Configure) -> None:
    config = configure(1)
    await a_damaged_journal(config, FactClass.TRANSACTION)
    sent: list[frame.Header] = []
    budget = Budget(bytes_per_hour=12_000)
    budget.spend(100_000, asyncio.get_running_loop().time(), metered=True)
    async with a_sender(config, sent, budget) as (sender, outbox):
        assert outbox.budget_wait_s(asyncio.get_running_loop().time()) == 0, "the uplink has nothing to send"
        await until(lambda: sender.waits)
        assert sent == []
        budget.resume({"bytes": (1_000.0, 0.0)}, 0.0, asyncio.get_running_loop().time())
        sender.on_connected()
        await until(lambda: sent)
    left, _ = budget.levels(asyncio.get_running_loop().time())["bytes"]
    assert left < 1_000


async def test_facts_whose_key_was_lost_reach_hq_when_it_is_back(
    configure: Configure, cloud: Mosquitto, hq_file: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While edge and bridge run somebody adds the old key to the keyring: the backlog of the old epoch leaves."""
    monkeypatch.setattr(salvaged, "LOOK_EVERY_S", 0.1)
    config = configure(cloud.port)
    async with Edge(config).running() as edge:
        await edge.journal(FactClass.TRANSACTION, HAD, text="before")
        old = edge.store.epoch
    key = config.state_dir / KEY_FILE
    lost = key.read_text()
    key.unlink()
    async with Edge(config).running() as edge, a_receiver(hq_file, cloud.port), a_bridge(config):
        assert edge.store.salvaged is not None
        assert edge.store.salvaged.facts == HAD
        await edge.journal(FactClass.TRANSACTION, 5, text="after")
        await until(lambda: edge.confirmed() == 5)
        assert _seqs(hq_file, old) == set()
        write_secret(key, (key.read_text() + lost).encode())
        await until(lambda: _contiguous(hq_file, old) == HAD)
    with hq_file.connect() as db:
        assert holes(db, "s1") == {}
    assert verify(config.store_db).ok
