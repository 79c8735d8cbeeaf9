"""Lane gaps, whatever the order in which numbers come."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.journal.lanes import Gap, LaneProgress, ranges


@settings(max_examples=1_000, deadline=None)
@given(st.lists(st.integers(min_value=1, max_value=60), max_size=80))
def test_highest_and_gaps_are_what_a_set_would_say(numbers: list[int]) -> None:
    progress = LaneProgress()
    stored: dict[int, Gap] = {}
    seen: set[int] = set()
    for number in numbers:
        assert progress.seen(number) is (number in seen)
        change = progress.observe(number, "now")
        if change is not None:
            if change.removed is not None:
                assert stored.pop(change.removed.first) == change.removed
            stored.update({gap.first: gap for gap in change.added})
        seen.add(number)
        missing = ranges(set(range(1, max(seen))) - seen)
        assert progress.highest == max(seen)
        assert [(gap.first, gap.last) for gap in progress.gaps] == missing
        assert sorted((gap.first, gap.last) for gap in stored.values()) == missing, "what is stored follows"


def test_a_gap_that_splits_keeps_the_moment_it_was_noticed() -> None:
    progress = LaneProgress()
    progress.observe(1, "early")
    progress.observe(9, "noticed")
    change = progress.observe(5, "later")
    assert change is not None
    assert change.added == (Gap(2, 4, "noticed"), Gap(6, 8, "noticed"))
    assert progress.observe(5, "later still") is None


def test_ranges() -> None:
    assert ranges([3, 1, 2, 7, 7]) == [(1, 3), (7, 7)]
    assert ranges([]) == []
