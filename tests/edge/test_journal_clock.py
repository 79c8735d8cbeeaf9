"""Time, and how far it may be believed."""

from __future__ import annotations

from pathlib import Path

import orjson

from edge.journal.clock import Clock, ClockTrust, kernel_synced, read_boot_id, wall_text
from tests.edge.journal_facts import TurnedClock, fact, opened


def test_this_machine_has_a_clock() -> None:
    assert kernel_synced() in (True, False, None)
    clock = Clock()
    earlier, later = clock.now(), clock.now()
    assert earlier.boot == read_boot_id() == later.boot
    assert later.mono_ms >= earlier.mono_ms > 0
    assert earlier.wall.endswith("Z")
    assert len(earlier.wall) == len("2026-05-04T09:30:00.000Z")


def test_wall_text() -> None:
    assert wall_text(0) == "1970-01-01T00:00:00.000Z"
    assert wall_text(1_770_000_000_007) == "2026-02-02T02:40:00.007Z"


def test_trust_goes_from_unknown_to_synced_to_holdover() -> None:
    turned = TurnedClock()
    assert turned.clock.now().trust is ClockTrust.UNKNOWN
    turned.synced = True
    assert turned.clock.now().trust is ClockTrust.UNKNOWN, "asked at most once a second"
    turned.forward(1_000)
    assert turned.clock.now().trust is ClockTrust.SYNCED
    turned.synced = False
    turned.forward(1_000)
    assert turned.clock.now().trust is ClockTrust.HOLDOVER


def test_where_the_kernel_does_not_say_a_marker_file_does(tmp_path: Path) -> None:
    marker = tmp_path / "synchronized"
    clock = Clock(synced=lambda: None, marker=marker)
    assert clock.now().trust is ClockTrust.UNKNOWN
    marker.touch()
    assert Clock(synced=lambda: None, marker=marker).now().trust is ClockTrust.SYNCED
    assert Clock(synced=lambda: False, marker=marker).now().trust is ClockTrust.HOLDOVER


async def test_the_offset_of_a_boot_is_recorded_once_when_the_clock_is_trusted(tmp_path: Path) -> None:
    turned = TurnedClock("boot-one", wall_ms=5_000, mono_ms=5_000)
    async with opened(tmp_path / "store.db", clock=turned.clock) as store:
        await store.record(fact(lane_seq=1))
        turned.synced, turned.wall_ms = True, 1_770_000_000_000
        turned.forward(1_000)
        await store.record(fact(lane_seq=2))
        turned.forward(1_000)
        await store.record(fact(lane_seq=3))
        offset_ms = 1_770_000_000_000 - 5_000
        assert await store.fetch_all("SELECT boot, offset_ms FROM boots") == [("boot-one", offset_ms)]
        clocks = await store.fetch_all("SELECT clock FROM facts WHERE class = 'transaction' ORDER BY seq")
        assert clocks == [("unknown",), ("synced",), ("synced",)]
    turned = TurnedClock("boot-one", mono_ms=20_000)
    async with opened(tmp_path / "store.db", clock=turned.clock) as store:
        await store.record(fact(lane_seq=4))
        (after,) = await store.fetch_all("SELECT clock FROM facts WHERE class = 'transaction' AND seq = 4")
        assert after == ("holdover",), "known from before"
        said = await store.fetch_all(
            "SELECT plain(class, seq, body) FROM facts WHERE type = 'tillgate.clock.trusted.v1'"
        )
        assert len(said) == 1, "once, in the commit that saw it"
        assert orjson.loads(said[0][0])["data"] == {"boot": "boot-one", "offset_ms": offset_ms}
        assert await store.fetch_all("SELECT boot, offset_ms FROM boots") == [("boot-one", offset_ms)]
