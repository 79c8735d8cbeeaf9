"""Seconds and outages as people read them: the same words at the store and at HQ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.bus.messages.facts import Outage


def lasted(seconds: int | None) -> str:
    """``12 s``, ``4 min``, ``3 h``, ``5 d``: two or three digits tell enough; a dash for None."""
    if seconds is None:
        return "-"
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds // size} {unit}"
    return f"{seconds // 86_400} d"


def outage_text(outage: Outage) -> str:
    """``2026-05-04 09:02  28 min in 2 cuts  (wan 25 min, cloud 3 min)  kept 572, shed 0, drained in 3 s``."""
    causes = ", ".join(f"{cause} {lasted(seconds)}" for cause, seconds in outage.causes.items()) or "?"
    cuts = f" in {outage.cuts} cuts" if outage.cuts > 1 else ""
    least = "" if outage.exact else "at least "
    kept, shed = sum(outage.kept.values()), sum(outage.shed.values())
    end = "goes on" if outage.ended is None else "draining" if outage.drained_in_s is None else ""
    end = end or f"drained in {lasted(outage.drained_in_s)}"
    began = outage.began[:16].replace("T", " ")
    return f"{began}  {least}{lasted(outage.offline_s)}{cuts}  ({causes})  kept {kept}, shed {shed}, {end}"


def outage_lines(outages: Sequence[Outage], width: int = 80) -> list[str]:
    """Each outage in a line or two."""
    import textwrap

    out: list[str] = []
    for outage in outages:
        out += textwrap.wrap(outage_text(outage), width, initial_indent="  ", subsequent_indent="      ")
    return out
