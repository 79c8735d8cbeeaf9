"""The hour's budget: kept in every hour wherever it begins, bounded at once, starving nobody, remembered by a crash."""

from __future__ import annotations

import random

import pytest

from cloud_bridge.pace import BURST_SHARE, FLOOR_SHARE, LINE_OVERHEAD_BYTES, Budget, Hour, Levels

BATCH = 1_000
PER_HOUR = 360_000


def leaving(hour: Hour, seconds: float, *, step_s: float = 1.0, start: float = 0.0) -> list[float]:
    """When batches leave that all are held back, for so long."""
    out: list[float] = []
    now = start
    while now < start + seconds:
        while hour.wait_s(now) == 0:
            hour.spend(BATCH, now, held=True)
            out.append(now)
        now += step_s
    return out


def test_no_hour_sees_more_than_its_budget_and_one_batch() -> None:
    times = leaving(Hour(PER_HOUR), 3 * 3600)
    fullest = max(sum(1 for other in times if one <= other < one + 3600) for one in times)
    assert fullest * BATCH <= PER_HOUR + BATCH
    in_three_hours = len(times) * BATCH / (3 * PER_HOUR)
    assert in_three_hours > 0.8, "the budget is there to be used"


def test_what_leaves_at_once_is_bounded() -> None:
    times = leaving(Hour(PER_HOUR), 3600)
    assert sum(1 for one in times if one == times[0]) * BATCH <= PER_HOUR * BURST_SHARE + BATCH
    idle = Hour(PER_HOUR)
    idle.spend(1, 0.0, held=True)
    assert sum(1 for one in leaving(idle, 2, start=100 * 3600.0)) * BATCH <= PER_HOUR * BURST_SHARE + 2 * BATCH


def test_in_no_window_more_leaves_than_the_burst_the_rate_and_one_batch() -> None:
    """Also after quiet days: the floor saves nothing up that would come on top."""
    per_hour = 100 * PER_HOUR
    idle = Hour(per_hour)
    idle.spend(1, 0.0, held=True)
    assert idle.wait_s(0.0) == 0
    start = 100 * 3600.0
    times = leaving(idle, 900, start=start)
    even_per_s = per_hour * (1 - BURST_SHARE) / 3600
    for length_s in (1, 10, 60, 300, 900):
        left = sum(1 for one in times if one < start + length_s)
        assert left * BATCH <= per_hour * BURST_SHARE + even_per_s * length_s + 2 * BATCH


def test_critical_facts_count_and_leave_the_others_a_tenth() -> None:
    hour, now, bulk = Hour(PER_HOUR), 0.0, 0
    while now < 3600:
        hour.spend(BATCH, now, held=False)  # ten times what the budget allows
        if hour.wait_s(now) == 0:
            hour.spend(BATCH, now, held=True)
            bulk += BATCH
        now += 1.0
    floor = hour.rate_per_s * 3600 * FLOOR_SHARE
    assert 0.8 * floor <= bulk <= 1.2 * floor + PER_HOUR * BURST_SHARE


@pytest.mark.parametrize("kind", ["bytes", "publishes"])
def test_a_crash_loop_gets_no_more_than_a_life_without_crashes(kind: str) -> None:
    """Lives of seconds, each with what the last one had left and whatever time passed between."""
    draw = random.Random(kind)
    per_hour = {"bytes_per_hour": PER_HOUR} if kind == "bytes" else {"publishes_per_hour": PER_HOUR // BATCH}
    wall, died, left = 0.0, 0.0, 0
    levels: Levels = {}
    while wall < 3600:
        budget, start = Budget(**per_hour), draw.uniform(0, 1e6)  # a new life, a new monotonic clock
        budget.resume(levels, wall - died, start)
        for second in range(draw.randrange(1, 5)):
            while budget.metered_wait_s(start + second) == 0:
                budget.spend(BATCH - LINE_OVERHEAD_BYTES, start + second, metered=True)
                left += BATCH
            levels = budget.levels(start + second)
            died = wall + second
        wall = died + draw.uniform(0, 3)
    assert left <= PER_HOUR + 2 * BATCH


def test_a_clock_that_was_set_gives_at_most_one_burst() -> None:
    for away_s in (-3.2e8, 0.0, 3.2e8):
        budget = Budget(bytes_per_hour=PER_HOUR)
        budget.resume({"bytes": (-50_000.0, -900.0)}, away_s, 5.0)
        assert budget.levels(5.0)["bytes"][0] <= PER_HOUR * BURST_SHARE
        assert (budget.metered_wait_s(5.0) > 0) == (away_s <= 0)


def test_both_budgets_hold_and_the_narrower_one_is_waited_for() -> None:
    budget = Budget(bytes_per_hour=1_000_000_000, publishes_per_hour=12)
    assert budget.metered_wait_s(0.0) == 0
    for now in (0.0, 1.0):
        budget.spend(10, now, metered=True)
    assert budget.metered_wait_s(1.0) > 0  # one at once
    assert budget.wait_s(1.0) == 0
    assert Budget().levels(0.0) == {}
    assert Budget().long_run_bytes_per_s(1_000) is None
    assert budget.long_run_bytes_per_s(1_000) == pytest.approx(12 * 1_000 / 3600, rel=0.2)


def test_rates_of_a_second_are_kept_beside() -> None:
    budget = Budget(publishes_per_s=100, bytes_per_s=None)
    sent: list[float] = []
    for now in (tick / 1000 for tick in range(3_000)):
        if not budget.wait_s(now):
            budget.spend(10, now)
            sent.append(now)
    assert max(sum(1 for other in sent if one <= other < one + 1) for one in sent[::10]) <= 126
    assert len(sent) >= 300
