"""A thousand stores that lost their broker at the same moment do not come back at the same moment."""

from __future__ import annotations

import pytest

from cloud_bridge.profiles import PROFILES
from edge.bus.terms import Backoff

STORES = 1_000


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("attempt", [1, 2, 5, 40])
def test_a_thousand_stores_are_spread_evenly(name: str, attempt: int) -> None:
    row = PROFILES[name]
    backoff = Backoff(row.retry_from_s, row.retry_to_s, row.connect_gap_s)
    ceiling_s = min(row.retry_to_s, row.retry_from_s * 2**attempt)
    delays = sorted(backoff.delay_s(attempt) for _ in range(STORES))
    assert delays[0] >= 0
    assert delays[-1] <= ceiling_s
    # In each tenth of the time about a tenth of the stores: for 1,000 draws 60 to 145 is more than four deviations.
    for tenth in range(10):
        inside = [one for one in delays if ceiling_s * tenth / 10 <= one < ceiling_s * (tenth + 1) / 10]
        assert 60 <= len(inside) <= 145


@pytest.mark.parametrize("name", ["safe", "aws-iot-core", "azure-event-grid"])
def test_two_attempts_begin_as_far_apart_as_the_broker_wants(name: str) -> None:
    row = PROFILES[name]
    backoff = Backoff(row.retry_from_s, row.retry_to_s, row.connect_gap_s)
    for since_s in (0.0, 0.5, 1.0, 10.0, 3_600.0):
        for attempt in range(1, 40):
            assert since_s + backoff.delay_s(attempt, since_s) >= row.connect_gap_s


def test_who_was_connected_for_long_does_not_wait_for_the_gap() -> None:
    backoff = Backoff(1.0, 30.0, gap_s=11.0)
    assert all(backoff.delay_s(1, 3_600.0) <= 2.0 for _ in range(STORES))
    assert all(11.0 <= backoff.delay_s(1, 0.0) <= 13.0 for _ in range(STORES))
