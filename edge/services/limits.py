"""How much one lane may send: a token bucket per lane, so that one that runs wild does not slow the others."""

from __future__ import annotations

import time

FREE_S = 0.001
"""A message that takes no longer on the processor is one message, as nearly all are."""
SHARE = 0.05
"""What a lane whose messages take longer may have of the processor."""


class LaneBudget:
    """`rate_per_s` messages a second on average, `burst` at once. Unknown lanes get a bucket on first sight.

    A message that takes long to look at counts as several: whoever sends only such has fewer of them.
    """

    def __init__(self, rate_per_s: int, burst: int) -> None:
        self._rate = float(rate_per_s)
        self._burst = float(burst)
        self._buckets: dict[str, tuple[float, float]] = {}

    def change(self, rate_per_s: int, burst: int) -> None:
        """Other limits from now on."""
        self._rate, self._burst = float(rate_per_s), float(burst)

    def wait_ms(self, lane: str) -> int:
        """Take one message from the lane's budget: 0 when there was one, else milliseconds until there is."""
        level = self._level(lane)
        if level >= 1.0:
            self._buckets[lane] = (level - 1.0, self._buckets[lane][1])
            return 0
        return max(1, round((1.0 - level) / self._rate * 1000))

    def over(self, lane: str) -> bool:
        """Whether the lane's next message is one too many."""
        return self._level(lane) < 1.0

    def _level(self, lane: str) -> float:
        """What is left of the lane's budget now."""
        now = time.monotonic()
        level, since = self._buckets.get(lane, (self._burst, now))
        level = min(self._burst, level + (now - since) * self._rate)
        self._buckets[lane] = (level, now)
        return level

    def charge(self, lane: str, spent_s: float) -> None:
        """Count what handling a message of this lane took of the processor, beyond `FREE_S`."""
        if spent_s > FREE_S and lane in self._buckets:
            level, since = self._buckets[lane]
            self._buckets[lane] = (level - (spent_s - FREE_S) * self._rate / SHARE, since)
