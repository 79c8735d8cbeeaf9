"""Whether a line's budget was kept, judged from what the WAN emulator saw pass, second by second."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cloud_bridge.profiles import PROFILES

PEAK = 3.0
"""The budget of a second is so many times what the drain needs on average: the hour's is what holds it back."""

LEAST_BYTES_PER_S = 32 * 1024
LEAST_BYTES_PER_HOUR = 1024 * 1024
SECOND_BURST_S = 0.25
HOUR_BURST_SHARE = 1 / 12
"""What may leave at once: of a second's budget a fourth, of an hour's a twelfth, and then one batch more."""

PACKET_BYTES = 64 * 1024
MARGIN_S = 0.25
"""The emulator's seconds are not exact to the packet: what passes at the edge of one may be counted in the next."""


def seconds_of(log: Path) -> list[tuple[float, int]]:
    """(end of the second, bytes up in it) of an emulator's ``--json-log``. Seconds without traffic are left out."""
    lines = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines())
    return [(line["at_s"], line["up_bytes"]) for line in lines if "connections" in line and "end" not in line]


def worst_burst_bytes(seconds: Iterable[tuple[float, int]], bytes_per_s: float) -> float:
    """The most by which any window of time was above `bytes_per_s` times its length: what a token bucket calls burst.

    Every window from the begin of a second to the end of a later one is looked at (in one pass: the worst window that
    ends now is either the worst that ended before, grown by this second, or this second alone).
    """
    worst = ending_here = 0.0
    before_s: float | None = None
    for at_s, size in seconds:
        if before_s is not None:
            # Time in which nothing passed brings the bucket its tokens back.
            ending_here = max(0.0, ending_here - bytes_per_s * max(0.0, at_s - before_s - 1.0))
        length_s = 1.0 if before_s is None else min(1.0, at_s - before_s)
        ending_here = max(0.0, ending_here + size - bytes_per_s * length_s)
        worst = max(worst, ending_here)
        before_s = at_s
    return worst


@dataclass(frozen=True, slots=True)
class LineBudget:
    """What [cloud.budget] says."""

    bytes_per_s: int
    bytes_per_hour: int


def budget_for(size_bytes: float, seconds: float) -> LineBudget:
    """Budgets with which so many bytes take about so many seconds: first an hour's burst, then its even rate."""
    per_hour = size_bytes / (HOUR_BURST_SHARE + (1 - HOUR_BURST_SHARE) * seconds / 3600)
    profile = PROFILES["safe"].bytes_per_s
    assert profile is not None
    return LineBudget(
        bytes_per_s=min(profile, max(LEAST_BYTES_PER_S, int(PEAK * size_bytes / seconds))),
        bytes_per_hour=max(LEAST_BYTES_PER_HOUR, int(per_hour)),
    )


def judged(log: Path, budget: LineBudget) -> dict[str, float | int | str]:
    """The budgets beside what passed: in no window more than burst + rate x its length."""
    seconds = seconds_of(log)
    even_per_s = budget.bytes_per_hour * (1 - HOUR_BURST_SHARE) / 3600
    return {
        "passed_up_bytes": sum(size for _, size in seconds),
        "busiest_second_bytes": max(size for _, size in seconds),
        "budget_bytes_per_s": budget.bytes_per_s,
        "budget_second_allowed_burst_bytes": int(budget.bytes_per_s * (SECOND_BURST_S + MARGIN_S)) + PACKET_BYTES,
        "budget_second_worst_burst_bytes": worst_burst_bytes(seconds, budget.bytes_per_s),
        "budget_bytes_per_hour": budget.bytes_per_hour,
        "budget_hour_allowed_burst_bytes": int(budget.bytes_per_hour * HOUR_BURST_SHARE) + PACKET_BYTES,
        "budget_hour_worst_burst_bytes": worst_burst_bytes(seconds, even_per_s),
    }
