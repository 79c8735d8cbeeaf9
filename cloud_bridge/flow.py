"""How much bulk may be on the line, so that a critical fact never stands behind more than a moment of it. No I/O.

Strategy: what stands on a line is bounded by time, not by count. Two things are measured from the broker's
acknowledgements: how many bytes a second the line delivers, and its smallest round trip. As many bytes may be out as
the line delivers in that round trip and `QUEUE_S` more:

    window = rate x (GAIN x round trip + QUEUE_S)        batch = rate x BATCH_S

A line that is not full acknowledges sooner than that, so the measured rate grows with the window, and the window with
the rate; a line that is full holds both where they are. The round trip can only be measured while nothing stands on
the line: every `ROUND_TRIP_EVERY_S` one small batch is sent alone (`alone`).

Source: N. Cardwell et al., "BBR: Congestion-Based Congestion Control", 2016 (delivery rate, application-limited
samples). Times are monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

QUEUE_S = 0.06
"""For how long bulk may stand before the line: what a critical fact waits for."""

BATCH_S = 0.03
"""How long one bulk batch occupies the line."""

GAIN = 1.25
"""Above 1, or the window would grow too slowly where the round trip is long."""

GUESS_BYTES_PER_S = 250_000.0
"""Of a line of which nothing is known yet."""

THIN_BYTES_PER_S = 500_000.0
"""Below this the processor waits for the line, and compressing harder pays."""

THIN_FOR_S = 2.0
FULL_AFTER = 8
FULL_FROM_S = QUEUE_S / 3
"""A line is full when each of the last so many batches stood before it for at least so long. That the window is used
up says nothing: it begins small, and one who then compresses harder never fills the line that would make it grow."""

LEAST_BATCH_BYTES = 2_048
LEAST_WINDOW_BYTES = 2 * LEAST_BATCH_BYTES
ROUND_TRIP_EVERY_S = 10.0
RATE_OVER_S = 2.0
SHORTEST_S = 0.001


@dataclass(frozen=True, slots=True)
class Mark:
    """What is to be remembered of a batch until its acknowledgement comes."""

    size_bytes: int
    sent_at: float
    delivered_bytes: int
    """Acknowledged when it left, and at `delivered_at`."""
    delivered_at: float
    alone: bool
    idle: bool
    """There was room for more: this one does not tell what the line can do, only what it can do at least."""
    connection: int


class Flow:
    """The line of one connection."""

    def __init__(self) -> None:
        self.out_bytes = 0
        self._delivered_bytes = 0
        self._delivered_at = 0.0
        self._rates: deque[tuple[float, float]] = deque()
        self._round_trip_s = 0.0
        self._round_trip_at: float | None = None
        self._stood: deque[tuple[float, float]] = deque(maxlen=FULL_AFTER)
        """Acknowledged when, and for how long it stood before the line: the latest batches that did not go alone."""
        self._connection = 0

    def connected(self) -> None:
        """Another connection, perhaps over another line. What is out is sent again by the client, and stays counted."""
        self._connection += 1
        self._rates.clear()
        self._stood.clear()
        self._round_trip_at = None

    @property
    def rate_bytes_s(self) -> float:
        """What the line delivers, as far as is known."""
        return self._rates[0][1] if self._rates else GUESS_BYTES_PER_S

    @property
    def round_trip_s(self) -> float:
        """The smallest round trip; 0 before there was any."""
        return self._round_trip_s

    def window_bytes(self) -> int:
        """How much bulk may be out."""
        seconds = GAIN * self._round_trip_s + QUEUE_S
        return max(LEAST_WINDOW_BYTES, int(self.rate_bytes_s * seconds))

    def batch_bytes(self, now: float) -> int:
        """How large a bulk batch should be."""
        if self.due(now):
            return LEAST_BATCH_BYTES
        return max(LEAST_BATCH_BYTES, int(self.rate_bytes_s * BATCH_S))

    def open(self, now: float) -> bool:
        """Whether another bulk batch may leave."""
        if self.out_bytes == 0:
            return True
        if self.due(now):
            return False
        return self.out_bytes + self.batch_bytes(now) <= self.window_bytes()

    def due(self, now: float) -> bool:
        """Whether the round trip is to be measured: with one small batch and nothing else on the line."""
        return self._round_trip_at is None or now - self._round_trip_at >= ROUND_TRIP_EVERY_S

    def thin(self, now: float) -> bool:
        """Whether the line is what everything waits for, and slow enough for compressing harder to pay."""
        if len(self._stood) < FULL_AFTER or now - self._stood[-1][0] >= THIN_FOR_S:
            return False
        full = min(stood_s for _, stood_s in self._stood) >= FULL_FROM_S
        return full and self.rate_bytes_s < THIN_BYTES_PER_S

    def sent(self, size_bytes: int, now: float) -> Mark:
        """A bulk batch has left."""
        alone = self.out_bytes == 0
        since = now if alone else self._delivered_at
        self.out_bytes += size_bytes
        idle = self.out_bytes + self.batch_bytes(now) <= self.window_bytes()
        return Mark(size_bytes, now, self._delivered_bytes, since, alone, idle, self._connection)

    def acked(self, mark: Mark, now: float) -> None:
        """The broker has it."""
        self.gone(mark)
        self._delivered_bytes += mark.size_bytes
        self._delivered_at = now
        if mark.connection != self._connection:
            return
        took_s = max(SHORTEST_S, now - mark.sent_at)
        if self._round_trip_at is None or took_s <= self._round_trip_s or (mark.alone and self.due(now)):
            self._round_trip_s, self._round_trip_at = took_s, now
        if not mark.alone:
            self._stood.append((now, took_s - self._round_trip_s))
        over_s = max(SHORTEST_S, now - mark.delivered_at)
        self._note_rate((self._delivered_bytes - mark.delivered_bytes) / over_s, now, only_if_more=mark.idle)

    def gone(self, mark: Mark) -> None:
        """It is not on the line any more, acknowledged or not."""
        self.out_bytes = max(0, self.out_bytes - mark.size_bytes)

    def _note_rate(self, rate: float, now: float, *, only_if_more: bool) -> None:
        """Keep the largest of the last seconds; what an idle line did does not make it slower."""
        if only_if_more and rate <= self.rate_bytes_s:
            return
        rates = self._rates
        while rates and rates[0][0] < now - RATE_OVER_S:
            rates.popleft()
        while rates and rates[-1][1] <= rate:
            rates.pop()
        rates.append((now, rate))
