"""How long a backlog will take, and what is counted on the line."""

from __future__ import annotations

from typing import Any

import pytest

from cloud_bridge.forecast import Forecast
from cloud_bridge.meter import Meter, Sent
from cloud_bridge.wire import Batch, Encoder
from edge.bus import topics
from edge.bus.client import BusError, TooLarge
from edge.bus.messages.facts import FactClass
from edge.journal import chain
from tests.cloud_bridge.rig import bodies

T, C, M = FactClass.TRANSACTION, FactClass.CRITICAL, FactClass.TELEMETRY
NOTHING = {fact_class: Sent() for fact_class in FactClass}


def test_a_class_that_moves_is_done_at_its_rate_and_one_that_stands_is_not_guessed() -> None:
    forecast = Forecast()
    for second in range(30):
        forecast.see({T: second * 100, M: 7}, float(second))
    assert forecast.by_class_s({T: 5_000, M: 10, C: 0}, NOTHING, None, 0.0) == {T: 50}


@pytest.mark.parametrize(("bytes_per_s", "expected"), [(1_000.0, {M: 260}), (None, {})])
def test_a_class_that_waits_for_the_budget_is_done_when_the_budget_has_let_it_through(
    bytes_per_s: float | None, expected: dict[FactClass, int]
) -> None:
    forecast = Forecast()
    forecast.see({M: 1}, 0.0)
    sent = NOTHING | {M: Sent(batches=1, bytes=5_000, facts=100)}
    assert forecast.by_class_s({M: 4_000}, sent, bytes_per_s, 60.0) == expected


def test_a_class_that_moves_fast_on_what_is_left_of_the_hour_is_not_done_before_the_budget_lets_it() -> None:
    forecast = Forecast()
    for second in range(11):
        forecast.see({T: second * 100}, float(second))
    sent = NOTHING | {T: Sent(batches=1, bytes=5_000, facts=100)}
    assert forecast.by_class_s({T: 4_000}, sent, 1_000.0, 0.0, 50_000.0) == {T: 150}
    assert forecast.by_class_s({T: 4_000}, sent, 1_000.0, 0.0, 500_000.0) == {T: 40}


def test_what_leaves_is_counted_and_what_leaves_again_too() -> None:
    passed: list[tuple[str, Any]] = []
    meter = Meter(lambda topic, payload, *, on_done, **more: passed.append((topic, on_done)))
    items = bodies(1, 30)
    heard: list[BusError | None] = []

    def send(first: int, last: int, epoch: str) -> None:
        batch = Batch("s1", T, epoch, first, None, chain.genesis(epoch, "transaction"), tuple(items[first - 1 : last]))
        meter.publish(topics.up("s1", "transaction"), Encoder().encode(batch), on_done=heard.append, expiry_s=1)

    for first, last, epoch in ((1, 10, "e1"), (11, 20, "e1"), (6, 25, "e1"), (1, 5, "e2"), (1, 5, "e2")):
        send(first, last, epoch)
    sent = meter.sent[T]
    assert (sent.batches, sent.facts, sent.resent_facts) == (5, 50, 20)
    assert sent.bytes > 5 * 100
    for _, on_done in passed:
        on_done(None)
    passed[0][1](TooLarge("a topic", 2, 1))
    assert (sent.failed, len(heard)) == (1, 6)
    meter.publish(topics.up("s1", "critical"), b'{"a":"single event"}', on_done=heard.append, expiry_s=None)
    meter.publish(topics.up("s1", "critical"), b'{"a":"single event"}', on_done=heard.append, expiry_s=None)
    assert (meter.sent[C].facts, meter.sent[C].resent_facts) == (2, 0)
