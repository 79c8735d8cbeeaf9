"""How long the backlog will still take, per class, from what HQ confirmed in the last seconds and the line's budget.

Strategy: a class that moves is done when its backlog has gone at the present rate. Where the line has a budget that
rate says little: at first a good part of an hour may leave at once, then it goes by fits and starts. There the bytes
of all metered backlog, less what may still leave at once, over the budget's rate say more. What has neither moved nor
a budget is not guessed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from cloud_bridge import policy
from cloud_bridge.meter import Sent
from edge.bus.messages.facts import FactClass

RATE_OVER_S = 10.0


class Forecast:
    """Times are monotonic seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, dict[FactClass, int]]] = deque()

    def see(self, confirmed: Mapping[FactClass, int], now: float) -> None:
        """HQ has so much."""
        self._seen.append((now, dict(confirmed)))
        while len(self._seen) > 1 and self._seen[0][0] < now - RATE_OVER_S:
            self._seen.popleft()

    def by_class_s(
        self,
        backlog: Mapping[FactClass, int],
        sent: Mapping[FactClass, Sent],
        budget_bytes_per_s: float | None,
        budget_wait_s: float,
        budget_left_bytes: float | None = None,
    ) -> dict[FactClass, int]:
        """Seconds per class that has a backlog and of which it can be told."""
        out: dict[FactClass, int] = {}
        budget_s = self._budget_s(backlog, sent, budget_bytes_per_s, budget_wait_s, budget_left_bytes or 0.0)
        for fact_class, waiting in backlog.items():
            if not waiting:
                continue
            rate = self._rate(fact_class)
            by_rate = waiting / rate if rate else None
            if policy.POLICY[fact_class].metered and budget_wait_s > 0:
                if budget_s is not None:
                    out[fact_class] = round(max(budget_s, by_rate or 0.0))
            elif by_rate is not None:
                held = policy.POLICY[fact_class].metered and budget_left_bytes is not None
                out[fact_class] = round(max(budget_s or 0.0, by_rate) if held else by_rate)
        return out

    def _rate(self, fact_class: FactClass) -> float | None:
        """Facts a second that HQ confirmed lately."""
        (began, before), (ended, after) = self._seen[0], self._seen[-1]
        moved = after.get(fact_class, 0) - before.get(fact_class, 0)
        return moved / (ended - began) if moved > 0 and ended > began else None

    @staticmethod
    def _budget_s(
        backlog: Mapping[FactClass, int],
        sent: Mapping[FactClass, Sent],
        bytes_per_s: float | None,
        wait_s: float,
        left_bytes: float,
    ) -> float | None:
        """Seconds in which the budget lets all metered backlog through; None when a class's size is not known."""
        if bytes_per_s is None:
            return None
        total = 0.0
        for fact_class, waiting in backlog.items():
            if not waiting or not policy.POLICY[fact_class].metered:
                continue
            each = sent[fact_class].bytes_per_fact
            if each is None:
                return None
            total += waiting * each
        return wait_s + max(0.0, total - max(0.0, left_bytes)) / bytes_per_s
