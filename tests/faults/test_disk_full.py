"""The disk-full table is what happens: classes go in order, what does not fit stays with the till, nothing is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edge.journal.audit import verify
from tests.faults.disk_full import DOCUMENT, ENGAGEMENTS, STAGES, Story, story, table, written
from tests.faults.store_rig import running_store, sale


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """The whole story, run once."""
    return asyncio.run(story(tmp_path_factory.mktemp("full")))


def test_classes_go_in_order_and_leave_tombstones_for_hq(told: Story) -> None:
    order = list(dict.fromkeys(told.gone))
    assert order == ["telemetry", "engagement", "operation, once HQ has it"]
    assert {name for name, _, _ in told.tombstones} == {"telemetry", "engagement"}, "HQ had the operation facts"
    lost = sum(last - first + 1 for name, first, last in told.tombstones if name == "engagement")
    assert 0 < lost <= ENGAGEMENTS + 1


def test_facts_are_refused_and_the_till_keeps_them(told: Story) -> None:
    for stage in STAGES[:2]:
        for what in ("tender (critical)", "sale (transaction)", "member (engagement)"):
            assert told.heard[stage][what] == "storage_full", (stage, what)
        assert told.states[stage][0] == "storage_full"
    assert told.kept_by_till > 0
    assert all(wait_ms and wait_ms > 0 for wait_ms in told.retry_after_ms), "told when to come again"


def test_with_room_everything_works_at_once_and_nothing_accepted_was_lost(told: Story) -> None:
    assert set(told.heard["room again"].values()) <= {"accepted", "done", "delivered", "bad_message"}
    assert told.states["room again"][0] == "serving"
    assert len(told.lives) == 1, "the same edge process all along"
    assert told.accepted
    assert set(told.accepted) <= set(told.in_journal)
    assert told.sequences == list(range(told.sequences[0], told.sequences[-1] + 1)), "lane 1's sales, once, in order"
    report = verify(told.database)
    assert report.ok, report
    assert report.lane_gaps == []


def test_the_document_shows_what_happens(told: Story) -> None:
    assert table(told) == written(), f"{DOCUMENT.name}: run  python -m tests.faults.disk_full --write"


async def test_a_store_in_which_nothing_else_happens_says_that_its_disk_is_full(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store, store.till() as till:
        await store.state("serving")
        store.shim.fill(0)
        pending = await till.fact(sale(1))
        status = await store.state("storage_full")
        assert "disk is full" in status.please
        store.shim.free()
        await asyncio.wait_for(pending.accepted(), 60)
        await store.state("serving")
