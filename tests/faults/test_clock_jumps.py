"""The wall clock of a running store jumps by ten years, and comes to be trusted late: nothing hangs on it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from edge.bus.messages.facts import FactClass
from edge.bus.messages.statuses import Backlog
from edge.journal import lifetime
from edge.journal.audit import verify
from edge.services.requests import REMEMBERED_S, REQUESTS_SCHEMAS, forget_old_answers
from edge.till.till import Till
from tests.edge.journal_facts import TurnedClock, opened
from tests.faults.shim import Shim
from tests.faults.store_rig import Line, facts_by_type, running_store, sale, scanner, until

YEARS = 10 * 365.25 * 86_400
HOUR_MS = 3_600_000
NONE = Backlog(facts=0, oldest_s=None)


async def _sell(till: Till, first: int, count: int) -> None:
    for number in range(first, first + count):
        await (await till.fact(sale(number))).accepted()


async def _scan(line: Line, till: Till, code: str) -> None:
    """Scan until it comes: after a clock was set back the first one looks late, and a late scan is dropped."""
    for _ in range(20):
        line.scan(code)
        with contextlib.suppress(TimeoutError):
            assert (await asyncio.wait_for(till.next_scan(), 2)).text == code
            return
    raise AssertionError("no scan comes any more")


async def test_nothing_ends_early_and_nothing_crashes_when_the_clock_jumps(tmp_path: Path) -> None:
    async with scanner() as line, running_store(tmp_path, line.toml) as store, store.till() as till:
        await store.state("serving")
        await until(lambda: "scanner-1" in store.devices and store.devices["scanner-1"].state == "ready", "a scanner")
        await _sell(till, 1, 3)
        claimed = await till.request("device.claim", {"device": "scanner-1", "for_ms": 600_000})
        sold = 3
        for jump_s in (YEARS, -YEARS, YEARS):
            store.shim.jump(jump_s)
            await _sell(till, sold + 1, 3)
            sold += 3
            again = await till.request("device.claim", {"device": "scanner-1", "for_ms": 600_000})
            assert again["lease"] == claimed["lease"], "the lease is still the same one"
            await _scan(line, till, f"{sold:010d}")
        await until(lambda: store.status.backlog.get(FactClass.TRANSACTION, NONE).facts == sold, "facts wait for HQ")
        ages = [entry.oldest_s for told in store.heard for entry in told.backlog.values() if entry.oldest_s is not None]
        assert ages
        assert max(ages) < 600
        os.kill(before := store.pid("edge"), signal.SIGKILL)
        await until(lambda: store.pid("edge") not in (0, before), "a new life")
        await _sell(till, sold + 1, 3)
        again = await till.request("device.claim", {"device": "scanner-1", "for_ms": 600_000})
        assert again["lease"] == claimed["lease"], "through a restart too"
        assert "Traceback" not in store.log()
    report = verify(store.config.store_db)
    assert report.ok
    assert report.lane_gaps == []
    db = sqlite3.connect(store.config.store_db)
    rows = db.execute("SELECT lane_seq, recorded_at FROM facts WHERE class = 'transaction' ORDER BY seq").fetchall()
    assert [number for number, _ in rows] == list(range(1, sold + 4)), "order is the journal's, not the clock's"
    assert len({recorded[:4] for _, recorded in rows}) == 3, "the jumps were real"


async def test_a_clock_that_is_trusted_late_dates_what_was_before_once(tmp_path: Path) -> None:
    def wakes_in_the_past(shim: Shim) -> None:
        shim.jump(-YEARS)
        shim.synced(False)

    async with running_store(tmp_path, before=wakes_in_the_past) as store, store.till() as till:
        await store.state("serving")
        await _sell(till, 1, 3)
        store.shim.jump(0)
        store.shim.synced(True)
        await until(lambda: facts_by_type(store, "tillgate.clock.trusted.v1"), "the clock is trusted")
        await _sell(till, 4, 3)
        os.kill(before := store.pid("edge"), signal.SIGKILL)
        await until(lambda: store.pid("edge") not in (0, before), "a new life")
        await _sell(till, 7, 1)
        said = facts_by_type(store, "tillgate.clock.trusted.v1")
        trust = store.rows("SELECT clock FROM facts WHERE class = 'transaction' ORDER BY seq")
    assert len(said) == 1, "once a boot"
    assert said[0]["boot"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    real_offset_ms = time.time() * 1000 - time.clock_gettime(time.CLOCK_BOOTTIME) * 1000
    assert abs(said[0]["offset_ms"] - real_offset_ms) < 60_000
    assert [name for (name,) in trust[:3]] == ["unknown"] * 3
    assert trust[-1] == ("synced",)


@pytest.mark.parametrize("jump_ms", [int(YEARS * 1000), -int(YEARS * 1000)])
async def test_answers_are_remembered_for_a_day_of_running_time(tmp_path: Path, jump_ms: int) -> None:
    turned = TurnedClock()
    insert = (
        "INSERT INTO requests (lane, id, operation, digest, asked_at, lived_ms)"
        f" VALUES ('1', ?, 'print', x'00', ?, {lifetime.NOW})"
    )
    left: list[int] = []
    async with opened(tmp_path / "store.db", clock=turned.clock, schemas=REQUESTS_SCHEMAS) as store:
        await store.write([(insert, ("before", turned.clock.now().wall))])
        turned.wall_ms += jump_ms
        await store.write([(insert, ("after", turned.clock.now().wall))])
        hours = REMEMBERED_S // 3600 + 4
        for _ in range(hours):
            await store.write([lifetime.tick(turned.clock.now()), forget_old_answers()])
            found = await store.fetch_one("SELECT count(*) FROM requests")
            assert found is not None
            left.append(found[0])
            turned.forward(HOUR_MS)
    assert left[:25] == [2] * 25, "neither goes within a day"
    assert left[-1] == 0, "and both go soon after"


async def test_running_time_adds_up_over_boots(tmp_path: Path) -> None:
    async def lived(boot: str, mono_ms: int) -> int:
        turned = TurnedClock(boot, mono_ms=mono_ms)
        async with opened(tmp_path / "store.db", clock=turned.clock) as store:
            row = await store.fetch_one("SELECT lived_ms FROM lifetime")
            assert row is not None
            return int(row[0])

    assert await lived("one", 5 * HOUR_MS) == 5 * HOUR_MS
    assert await lived("one", 6 * HOUR_MS) == 6 * HOUR_MS
    assert await lived("two", 2 * HOUR_MS) == 8 * HOUR_MS
    assert await lived("two", 2 * HOUR_MS) == 8 * HOUR_MS
