"""The audit: everything done is recorded, and nobody can fill the disk with refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from edge.access import audit
from edge.access.audit import Audit
from edge.bus.messages.facts import AUDIT_ACTIONS, AuditAction, FactClass
from edge.journal.clock import Clock
from edge.journal.reader import Reader
from edge.journal.store import Store
from edge.services.facts import Reporter
from tests.edge.bus_rig import until


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    one = await Store.open(tmp_path / "store.db", "s1", clock=Clock())
    try:
        yield one
    finally:
        await one.close()


async def entries(store: Store) -> list[dict[str, object]]:
    """What was recorded, in its order."""
    reader = await Reader.open(store.path)
    try:
        rows = await reader.tail(FactClass.OPERATION, 0, 10_000)
    finally:
        await reader.close()
    return [orjson.loads(row.body)["data"] for row in rows if row.type == "tillgate.audit.recorded.v1"]


def test_every_action_says_what_it_means() -> None:
    assert set(AUDIT_ACTIONS) == set(AuditAction)


async def test_what_was_done_is_on_disk_when_the_future_is(store: Store) -> None:
    await Audit(Reporter(store, "s1")).record(
        AuditAction.OVERRIDE_GRANTED, person="anna", second_person="bert", lane="3", subject="drawer-1"
    )
    (found,) = await entries(store)
    assert found == {
        "action": "override.granted",
        "outcome": "done",
        "person": "anna",
        "second_person": "bert",
        "role": None,
        "lane": "3",
        "subject": "drawer-1",
        "detail": "",
        "count": 1,
    }


async def test_attack_audit_flooded_by_refusals(store: Store) -> None:
    """A stranger is refused ten thousand times: a handful of entries and one with the count, none of them lost."""
    one = Audit(Reporter(store, "s1"))
    for number in range(10_000):
        await one.record(AuditAction.LANE_REFUSED, "refused", lane="3", subject=f"try {number}", detail="x" * 5_000)
    one.tell()
    await until(lambda: store.heads[FactClass.OPERATION] == audit.SINGLY + 1)
    found = await entries(store)
    assert [entry["count"] for entry in found] == [1] * audit.SINGLY + [10_000 - audit.SINGLY]
    assert found[-1]["subject"] == "try 9999"


async def test_attack_audit_flooded_under_names_made_up(store: Store) -> None:
    """Refusals under ever new lanes open no new kinds beyond a bound: what is recorded stays bounded."""
    one = Audit(Reporter(store, "s1"))
    for number in range(2_000):
        await one.record(AuditAction.LANE_REFUSED, "refused", lane=f"lane-{number}")
    one.tell()
    await one.record(AuditAction.LANE_CUT, lane="3")
    found = await entries(store)
    assert sum(int(str(entry["count"])) for entry in found[:-1]) == 2_000
    assert len(found) <= audit.KINDS + audit.SINGLY + 2


async def test_a_count_is_told_when_the_minute_is_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MINUTE_S", 0.05)
    one = Audit(Reporter(store, "s1"))
    for _ in range(audit.SINGLY + 3):
        one.record(AuditAction.CARD_NUMBER_REFUSED, "refused", lane="3")
    await until(lambda: store.heads[FactClass.OPERATION] == audit.SINGLY + 1)
    assert (await entries(store))[-1]["count"] == 3
