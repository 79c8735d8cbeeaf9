"""Whether something of HQ's is over, told without trusting the wall clock.

Strategy: a board without a battery clock wakes up in the past, so its wall clock says "not yet" for too long and never
"over" too early. So:

- The wall clock is at or after the end: over, however far the clock may be believed.
- The clock is trusted (synced now, or earlier in this boot) and before the end: not over.
- The clock is not trusted: age counts from receipt by the boot clock, and is bounded by the whole lifetime that HQ gave
  (end minus issue). HQ does not send what is over already. Received in an earlier boot, nobody can tell its age: then
  the caller says what holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from edge.journal.clock import Clock, ClockTrust


@dataclass(frozen=True, slots=True)
class Lifetime:
    """From `issued_at` to `until` by HQ's clock (RFC 3339, UTC); received in `boot` at `mono_ms` of the boot clock."""

    issued_at: str
    until: str
    boot: str
    mono_ms: int

    @property
    def whole_ms(self) -> int:
        """How long HQ lets it live."""
        return int((_moment(self.until) - _moment(self.issued_at)).total_seconds() * 1000)


def received(clock: Clock, issued_at: str, until: str) -> Lifetime:
    """The lifetime of what has just been received."""
    now = clock.now()
    return Lifetime(issued_at, until, now.boot, now.mono_ms)


def left_ms(clock: Clock, life: Lifetime, *, after_reboot_ms: int) -> int:
    """How long it still lives, 0 or less when it is over.

    `after_reboot_ms` counts from the start of this boot for what came in an earlier one while the clock is not trusted:
    0 to hold it for over.
    """
    now = clock.now()
    by_wall_ms = int((_moment(life.until) - _moment(now.wall)).total_seconds() * 1000)
    if by_wall_ms <= 0 or now.trust is not ClockTrust.UNKNOWN:
        return by_wall_ms
    if now.boot != life.boot:
        return min(by_wall_ms, after_reboot_ms - now.mono_ms)
    return min(by_wall_ms, life.whole_ms - (now.mono_ms - life.mono_ms))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
