"""The pace of a line, by arithmetic: a line of a given bandwidth and round trip, and the window that comes of it."""

from __future__ import annotations

from collections import deque

import pytest

from cloud_bridge import flow
from cloud_bridge.flow import Flow, Mark


class Line:
    """A line as a router sees it: what is sent stands in a queue, passes at `rate`, is acknowledged a trip later."""

    def __init__(self, rate: float, round_trip_s: float) -> None:
        self.rate, self.round_trip_s = rate, round_trip_s
        self.now = 0.0
        self.free_at = 0.0
        self.flow = Flow()
        self.flow.connected()
        self.on_the_way: deque[tuple[float, Mark]] = deque()
        self.carried = 0
        self.batches = 0

    @property
    def standing_s(self) -> float:
        """For how long what is sent now would wait before the line."""
        return max(0.0, self.free_at - self.now)

    def send(self, size: int) -> None:
        self.free_at = max(self.now, self.free_at) + size / self.rate
        self.on_the_way.append((self.free_at + self.round_trip_s, self.flow.sent(size, self.now)))
        self.batches += 1

    def drain(self, seconds: float) -> float:
        """A backlog for so long; returns bytes a second."""
        end, before = self.now + seconds, self.carried
        while self.now < end:
            while self.flow.open(self.now):
                self.send(self.flow.batch_bytes(self.now))
            self.now, mark = self.on_the_way.popleft()
            self.flow.acked(mark, self.now)
            self.carried += mark.size_bytes
        return (self.carried - before) / seconds

    def rest(self, seconds: float) -> None:
        """Nothing to send."""
        while self.on_the_way:
            self.now, mark = self.on_the_way.popleft()
            self.flow.acked(mark, self.now)
        self.now += seconds


@pytest.mark.parametrize("round_trip_s", [0.002, 0.05, 0.6])
@pytest.mark.parametrize("rate", [32_000, 250_000, 1_250_000, 12_500_000])
def test_a_line_is_filled_and_little_stands_before_it(rate: float, round_trip_s: float) -> None:
    line = Line(rate, round_trip_s)
    line.drain(20.0)
    stood = []
    reached = 0.0
    for _ in range(40):
        reached += line.drain(1.0) / 40
        stood.append(line.standing_s)
    assert reached > 0.85 * rate
    allowed = flow.QUEUE_S + (flow.GAIN - 1) * round_trip_s
    assert max(stood) < 2 * allowed + flow.LEAST_WINDOW_BYTES / rate


def test_the_guess_for_a_line_of_which_nothing_is_known_is_modest() -> None:
    line = Line(250_000, 0.05)
    most = 0.0
    for _ in range(200):
        line.drain(0.01)
        most = max(most, line.standing_s)
    assert most < 0.2


def test_the_first_batch_goes_alone_and_so_does_one_now_and_then() -> None:
    line = Line(250_000, 0.05)
    assert line.flow.open(0.0)
    line.send(line.flow.batch_bytes(0.0))
    assert not line.flow.open(0.001), "its round trip is the line's"
    line.drain(5.0)
    measured = line.flow.round_trip_s
    assert measured == pytest.approx(0.05 + flow.LEAST_BATCH_BYTES / 250_000)
    line.round_trip_s = 0.3  # another way through the net
    line.drain(30.0)
    assert line.flow.round_trip_s == pytest.approx(0.3 + flow.LEAST_BATCH_BYTES / 250_000, rel=0.05)
    assert line.drain(10.0) > 0.85 * 250_000


def test_a_line_that_becomes_thin_is_noticed_within_seconds() -> None:
    line = Line(12_500_000, 0.05)
    line.drain(5.0)
    line.rate = 250_000
    line.drain(10.0)
    assert line.standing_s < 0.2
    assert line.flow.thin(line.now)


def test_a_sale_now_and_then_does_not_make_a_line_slow() -> None:
    line = Line(12_500_000, 0.05)
    line.drain(5.0)
    known = line.flow.rate_bytes_s
    for _ in range(100):
        line.rest(1.0)
        line.send(300)
    line.rest(1.0)
    assert line.flow.rate_bytes_s == known
    assert not line.flow.thin(line.now)


def test_only_a_line_that_is_full_and_slow_is_thin() -> None:
    slow, fast = Line(250_000, 0.05), Line(12_500_000, 0.05)
    assert not slow.flow.thin(0.0)
    for line in (slow, fast):
        line.drain(5.0)
    assert slow.flow.thin(slow.now)
    assert not fast.flow.thin(fast.now)
    slow.rest(flow.THIN_FOR_S)
    assert not slow.flow.thin(slow.now), "nothing waits for it any more"


def test_a_line_that_waits_for_the_processor_is_not_thin() -> None:
    line = Line(250_000, 0.05)
    for _ in range(100):
        if line.flow.open(line.now):
            line.send(line.flow.batch_bytes(line.now))
        line.now += 0.04  # a batch is packed more slowly than the line carries it
        while line.on_the_way and line.on_the_way[0][0] <= line.now:
            line.flow.acked(line.on_the_way.popleft()[1], line.now)
        assert not line.flow.thin(line.now)


def test_what_is_acknowledged_on_another_connection_tells_nothing_of_this_one() -> None:
    line = Flow()
    line.connected()
    old = line.sent(10_000, 0.0)
    line.connected()
    line.acked(old, 60.0)
    assert line.out_bytes == 0
    assert line.due(60.0)
    line.acked(line.sent(2_000, 61.0), 61.05)
    assert line.round_trip_s == pytest.approx(0.05)


def test_what_the_broker_would_not_take_is_off_the_line() -> None:
    line = Flow()
    mark = line.sent(2_000, 0.0)
    line.gone(mark)
    assert line.out_bytes == 0
    assert line.open(0.1)
