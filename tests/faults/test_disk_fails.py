"""A disk that fails under a running store, and one that has failed when it starts: it heals without a person."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.bus.messages.facts import FactClass
from edge.bus.messages.replies import Code, ProblemError
from edge.journal import failing
from edge.journal.audit import verify
from edge.till.till import Till
from tests.edge.journal_facts import fact, opened
from tests.faults.shim import Calls, Shim
from tests.faults.store_rig import RunningStore, running_store, sale, scanner, until

FAILURES = {
    "syncing": lambda shim: shim.io_error(calls=Calls.SYNC),
    "read-only": lambda shim: shim.read_only(),
}


async def _sell(till: Till, first: int, count: int) -> None:
    for number in range(first, first + count):
        await (await till.fact(sale(number))).accepted()


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_disk_that_fails_for_a_while_costs_nothing(tmp_path: Path, failure: str) -> None:
    async with scanner() as line, running_store(tmp_path, line.toml) as store, store.till() as till:
        await store.state("serving")
        await until(lambda: "scanner-1" in store.devices and store.devices["scanner-1"].state == "ready", "a scanner")
        await _sell(till, 1, 5)
        epoch, first_life = store.status.epoch, store.pid("edge")

        FAILURES[failure](store.shim)
        waiting = [await till.fact(sale(6)), await till.fact(sale(7))]
        status = await store.state("faulted")
        assert "look at the disk" in status.please
        assert (await till.ledger.count())["pending"] == 2, "nothing is accepted that is not on disk"
        line.scan("4006381333931")
        assert (await asyncio.wait_for(till.next_scan(), 20)).text == "4006381333931", "devices go on"
        assert "operations" in await till.request("help"), "and what needs no disk"
        with pytest.raises(ProblemError, match="look at the disk") as refused:
            await till.request("device.claim", {"device": "scanner-1", "for_ms": 60_000})
        assert refused.value.code is Code.FAULTED
        assert refused.value.retry_after_ms is not None
        assert store.pid("edge") == first_life, "while the disk stays bad, edge lives"

        store.shim.io_error(False)
        for pending in waiting:
            accepted = await asyncio.wait_for(pending.accepted(), 60)
            assert accepted.epoch == epoch
        await _sell(till, 8, 3)
        await store.state("serving")
        assert store.pid("edge") != first_life, "a new life, which has examined the file"
        assert not failing.marker(store.config.store_db).exists()
    _nothing_lost(store, 10)


def _nothing_lost(store: RunningStore, sales: int) -> None:
    report = verify(store.config.store_db)
    assert report.ok, report
    db = sqlite3.connect(store.config.store_db)
    numbers = [n for (n,) in db.execute("SELECT lane_seq FROM facts WHERE class = 'transaction' ORDER BY seq")]
    db.close()
    assert numbers == list(range(1, sales + 1)), "all of them, once, in order"
    assert not list(store.config.state_dir.glob("*.damaged-*")), "an error of the disk is no damage"


@pytest.mark.parametrize(
    ("fault", "state", "please"),
    [
        (lambda shim: shim.io_error(), "faulted", "cannot be opened"),
        (lambda shim: shim.read_only(), "faulted", "cannot be opened"),
        (lambda shim: shim.fill(0), "storage_full", "full to the last byte"),
    ],
    ids=["failing", "read-only", "full"],
)
async def test_a_store_that_cannot_be_opened_says_so_until_it_can(
    tmp_path: Path, fault: Callable[[Shim], None], state: str, please: str
) -> None:
    async with running_store(tmp_path) as store, store.till() as till:
        await store.state("serving")
        await _sell(till, 1, 3)
    async with running_store(tmp_path, before=fault) as store, store.till() as till:
        status = await store.state(state)
        assert please in status.please
        waiting = await till.fact(sale(4))
        store.shim.io_error(False)
        store.shim.free()
        await asyncio.wait_for(waiting.accepted(), 60)
        await store.state("serving")
        assert store.log().count("cannot be opened") == 1, "it waited for the disk, it did not end again and again"
    _nothing_lost(store, 4)


async def test_a_file_that_alone_cannot_be_read_is_set_aside(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store, store.till() as till:
        await store.state("serving")
        await _sell(till, 1, 3)
        epoch = store.status.epoch

    def unreadable(shim: Shim) -> None:
        shim.below(store.config.store_db)
        shim.io_error(calls=Calls.READ)

    async with running_store(tmp_path, before=unreadable) as store, store.till() as till:
        status = await store.state("faulted")
        assert "cannot be opened (disk I/O error" in status.please
        await until(lambda: list(store.config.state_dir.glob("store.damaged-*.db")), "the file is set aside")
        store.shim.io_error(False)  # the new file has another place on the disk
        status = await store.state("serving")
        assert status.epoch != epoch
        assert "an earlier journal was damaged and set aside" in status.please
        await _sell(till, 4, 1)
        assert store.rows("SELECT count(*) FROM salvaged WHERE class = 'transaction'") == [(3,)], "its new name reads"


async def test_what_was_acknowledged_must_be_there_after_a_failure(tmp_path: Path) -> None:
    """The pages of a failed fsync may be gone though every later call succeeds: the kernel took them for written."""
    path = tmp_path / "store.db"
    async with opened(path) as store:
        for number in range(1, 10):
            await store.record(fact(lane_seq=number))
        epoch = store.epoch
    failing.leave_mark(path, failing.Mark(epoch, {FactClass.TRANSACTION: 9}))
    async with opened(path) as store:
        assert store.salvaged is None, "all of it is there"
        assert not failing.marker(path).exists()
    failing.leave_mark(path, failing.Mark(epoch, {FactClass.TRANSACTION: 12}))
    async with opened(path) as store:
        assert store.salvaged is not None
        assert store.salvaged.reason == "transaction was acknowledged up to 12, the file ends at 9"
        assert store.salvaged.facts == 9
        assert store.epoch != epoch, "number 10 is never given to another fact"
