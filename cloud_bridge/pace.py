"""Token buckets: how many publishes or bytes may leave now. No clock, no sleeping: the caller brings the time."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Bucket:
    """`rate_per_s` tokens a second up to `burst`. One spending may go below zero: the debt is then waited for."""

    rate_per_s: float
    burst: float
    _level: float = field(init=False)
    _at: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Start full."""
        self._level = self.burst

    def wait_s(self, now: float) -> float:
        """Seconds until something may leave; 0 when it may leave now. `now` is monotonic seconds."""
        self._refill(now)
        return 0.0 if self._level > 0 else -self._level / self.rate_per_s + 0.001

    def left(self, now: float) -> float:
        """Tokens left; below 0: in debt."""
        self._refill(now)
        return self._level

    def spend(self, tokens: float, now: float) -> None:
        """Take `tokens`, which may be more than there are."""
        self._refill(now)
        self._level -= tokens

    def _refill(self, now: float) -> None:
        if self._at is not None:
            self._level = min(self.burst, self._level + max(0.0, now - self._at) * self.rate_per_s)
        self._at = now


@dataclass(slots=True)
class Budget:
    """What a connection may send: publishes and bytes a second, and bytes an hour for metered classes."""

    publishes: Bucket | None = None
    bytes: Bucket | None = None
    metered: Bucket | None = None

    @classmethod
    def of(cls, publishes_per_s: int | None, bytes_per_s: int | None, bytes_per_hour: int | None = None) -> Budget:
        """A budget of the given limits; None is no limit."""
        return cls(
            Bucket(publishes_per_s, max(1.0, publishes_per_s / 4)) if publishes_per_s else None,
            Bucket(bytes_per_s, max(1.0, bytes_per_s / 4)) if bytes_per_s else None,
            Bucket(bytes_per_hour / 3600, bytes_per_hour / 4) if bytes_per_hour else None,
        )

    def wait_s(self, now: float) -> float:
        """Seconds until anything may leave."""
        return max((bucket.wait_s(now) for bucket in (self.publishes, self.bytes) if bucket), default=0.0)

    def metered_wait_s(self, now: float) -> float:
        """Seconds until a metered class may leave."""
        return self.metered.wait_s(now) if self.metered else 0.0

    def spend(self, size_bytes: int, now: float) -> None:
        """One publish of `size_bytes` has left."""
        for bucket, tokens in ((self.publishes, 1), (self.bytes, size_bytes), (self.metered, size_bytes)):
            if bucket:
                bucket.spend(tokens, now)
