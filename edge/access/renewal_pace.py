"""How often a lane is given a new certificate on its own request: each is written down for good.

Strategy: counted in memory on a clock that nobody can set, and only what was really given, so that nobody uses up
another lane's. A restart forgives; that is once more the same few.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WITHIN_S = 24 * 3600.0


class RenewalPace:
    """`most` certificates a lane in a day."""

    def __init__(self, most: int, now_s: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self._now_s = now_s
        self._given: dict[str, deque[float]] = {}

    def wait_ms(self, lane: str) -> int:
        """How long until this lane may have another one; 0: now."""
        given = self._given.get(lane)
        if given is None or len(given) < self.most:
            return 0
        return max(0, int((given[0] + WITHIN_S - self._now_s()) * 1000))

    def gave(self, lane: str) -> None:
        """It was given one."""
        self._given.setdefault(lane, deque(maxlen=self.most)).append(self._now_s())
