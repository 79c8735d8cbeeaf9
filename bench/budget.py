"""Whether a line's budget was kept, judged from what the WAN emulator saw pass, second by second."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

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
