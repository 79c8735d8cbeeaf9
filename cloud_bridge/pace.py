"""Token buckets: how many publishes or bytes may leave now. No clock, no sleeping: the caller brings the time.

Strategy of the hour's budget: a twelfth of it may leave at once, and the rest comes evenly, so that no hour, wherever
it begins, sees more than the budget and one batch. Critical facts never wait for it, but count; lest they starve the
others, those may always have a tenth of the rate. A restart goes on with what was left (`Budget.levels`, `resume`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BURST_SHARE = 1 / 12
FLOOR_SHARE = 1 / 10
RATE_SHARE = (1 - BURST_SHARE) / (1 + FLOOR_SHARE)
"""Of an hour's budget: what may leave at once; of the rate, what bulk always has; the rate, so that all of it fits."""

FLOOR_AFTER_S = 60.0
"""The floor begins so long after the start."""

LINE_OVERHEAD_BYTES = 150
"""What a publish costs a metered line besides its payload: topic and header, TLS record, TCP and IP, the answer."""


@dataclass(slots=True)
class Bucket:
    """`rate_per_s` tokens a second up to `burst`. One spending may go below zero: the debt is then waited for."""

    rate_per_s: float
    burst: float
    level: float = field(init=False)
    """Below 0 when tokens are owed."""
    _at: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Start full."""
        self.level = self.burst

    def wait_s(self, now: float) -> float:
        """Seconds until something may leave; 0 when it may leave now. `now` is monotonic seconds."""
        self.refill(now)
        return 0.0 if self.level > 0 else -self.level / self.rate_per_s + 0.001

    def spend(self, tokens: float, now: float) -> None:
        """Take `tokens`, which may be more than there are."""
        self.refill(now)
        self.level -= tokens

    def refill(self, now: float) -> None:
        """Add what the time since the last call brings."""
        if self._at is not None:
            self.level = min(self.burst, self.level + max(0.0, now - self._at) * self.rate_per_s)
        self._at = now


Levels = dict[str, tuple[float, float]]
"""Per kind of budget (bytes, publishes) what is left of it, and of what bulk always has."""


class Hour:
    """So much an hour. Who is held back waits for it; who is not only counts."""

    def __init__(self, per_hour: float) -> None:
        self.rate_per_s = per_hour * RATE_SHARE / 3600
        self._whole = Bucket(self.rate_per_s, per_hour * BURST_SHARE)
        # One batch at a time: what it saved up in quiet times would come on top of the burst.
        self._floor = Bucket(self.rate_per_s * FLOOR_SHARE, 1.0)
        self._floor.level = -self._floor.rate_per_s * FLOOR_AFTER_S

    def wait_s(self, now: float) -> float:
        """Seconds until somebody who is held back may send."""
        return min(self._whole.wait_s(now), self._floor.wait_s(now))

    def spend(self, tokens: float, now: float, *, held: bool) -> None:
        """Take `tokens`; `held`: by somebody who is held back."""
        if held and self._whole.wait_s(now) > 0:
            self._floor.spend(tokens, now)
        self._whole.spend(tokens, now)

    def levels(self, now: float) -> tuple[float, float]:
        """What is left of the whole and of the floor; below 0 when it is owed."""
        for bucket in (self._whole, self._floor):
            bucket.refill(now)
        return self._whole.level, self._floor.level

    def resume(self, levels: tuple[float, float], away_s: float, now: float) -> None:
        """Go on with what was left when this process last lived, `away_s` ago."""
        for bucket, level in zip((self._whole, self._floor), levels, strict=True):
            bucket.refill(now)
            bucket.level = min(bucket.burst, level + max(0.0, away_s) * bucket.rate_per_s)


class Budget:
    """What a connection may send: publishes and bytes a second, and an hour for metered classes. None: no limit."""

    def __init__(
        self,
        publishes_per_s: int | None = None,
        bytes_per_s: int | None = None,
        bytes_per_hour: int | None = None,
        publishes_per_hour: int | None = None,
    ) -> None:
        self._publishes = Bucket(publishes_per_s, max(1.0, publishes_per_s / 4)) if publishes_per_s else None
        self._bytes = Bucket(bytes_per_s, max(1.0, bytes_per_s / 4)) if bytes_per_s else None
        self._hours: dict[str, Hour] = {}
        if bytes_per_hour:
            self._hours["bytes"] = Hour(bytes_per_hour)
        if publishes_per_hour:
            self._hours["publishes"] = Hour(publishes_per_hour)

    def wait_s(self, now: float) -> float:
        """Seconds until anything may leave."""
        return max((bucket.wait_s(now) for bucket in (self._publishes, self._bytes) if bucket), default=0.0)

    def metered_wait_s(self, now: float) -> float:
        """Seconds until a metered class may leave."""
        return max((hour.wait_s(now) for hour in self._hours.values()), default=0.0)

    def spend(self, size_bytes: int, now: float, *, metered: bool = False) -> None:
        """One publish of `size_bytes` has left, of a `metered` class or not."""
        if self._publishes:
            self._publishes.spend(1, now)
        if self._bytes:
            self._bytes.spend(size_bytes, now)
        for kind, hour in self._hours.items():
            tokens = size_bytes + LINE_OVERHEAD_BYTES if kind == "bytes" else 1
            hour.spend(tokens, now, held=metered)

    def long_run_bytes_per_s(self, packet_bytes: int) -> float | None:
        """What metered classes can send in the long run, in packets up to `packet_bytes`; None without a budget."""
        rates = [hour.rate_per_s * (1 if kind == "bytes" else packet_bytes) for kind, hour in self._hours.items()]
        return min(rates, default=None)

    def levels(self, now: float) -> Levels:
        """What to remember for the next life of this process. Empty without an hour's budget."""
        return {kind: hour.levels(now) for kind, hour in self._hours.items()}

    def resume(self, levels: Mapping[str, tuple[float, float]], away_s: float, now: float) -> None:
        """Go on with what `levels` said `away_s` ago."""
        for kind, hour in self._hours.items():
            if kind in levels:
                hour.resume(levels[kind], away_s, now)
