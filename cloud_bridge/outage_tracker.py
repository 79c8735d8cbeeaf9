"""One outage of the link, followed from event to event. No I/O and no clock: the caller says what happens and when.

Strategy: what is known of an outage fits in one row (`Tracked`), so that a bridge that is killed in mid-outage goes on
where it was. Seconds are counted by the monotonic clock; a reboot begins that anew, and what lies between is then
missing and said to be (`exact`). A cut that comes before HQ has everything, or soon after the link's return, belongs
to the outage before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from edge.bus.envelope import new_id
from edge.bus.messages.facts import FactClass, Outage
from edge.bus.messages.statuses import Link
from edge.journal.clock import Stamp

Cause = Literal["lan", "wan", "cloud", "unknown"]
Counts = Mapping[FactClass, int]
State = Literal["open", "draining", "over"]


@dataclass(slots=True)
class Tracked:
    """One outage while it is being followed. Milliseconds are of the monotonic clock of `boot`."""

    began: str
    boot: str
    counted_to_ms: int
    """Up to here `causes_ms` is complete."""
    epoch: str
    id: str = field(default_factory=new_id)
    state: State = "open"
    cause: Cause = "unknown"
    causes_ms: dict[Cause, int] = field(default_factory=dict)
    detail: str = ""
    cuts: int = 1
    ended: str | None = None
    ended_ms: int = 0
    drained_in_s: int | None = None
    exact: bool = True
    heads: dict[FactClass, int] = field(default_factory=dict)
    """At the beginning, or at the beginning of the present epoch."""
    kept: dict[FactClass, int] = field(default_factory=dict)
    kept_before: dict[FactClass, int] = field(default_factory=dict)
    """In epochs that ended meanwhile."""
    shed_from: dict[FactClass, int] | None = None
    shed: dict[FactClass, int] = field(default_factory=dict)
    due: dict[FactClass, int] | None = None
    """What HQ must have confirmed for it to be drained; None while the journal has not been read."""

    def told(self) -> Outage:
        """As it is told; of one that goes on the seconds are rounded down to ten."""
        grain_s = 1 if self.ended else 10
        return Outage(
            id=self.id,
            began=self.began,
            ended=self.ended,
            offline_s=sum(self.causes_ms.values()) // (1000 * grain_s) * grain_s,
            causes={cause: ms // (1000 * grain_s) * grain_s for cause, ms in self.causes_ms.items()},
            detail=self.detail[:500],
            cuts=self.cuts,
            kept={fact_class: count for fact_class, count in self.kept.items() if count},
            shed={fact_class: count for fact_class, count in self.shed.items() if count},
            drained_in_s=self.drained_in_s,
            exact=self.exact,
        )


class Tracker:
    """Follows the link of one store. `at` is always now."""

    def __init__(self, merge_s: float) -> None:
        self.current: Tracked | None = None
        self.dirty = False
        """There is something to write."""
        self._merge_ms = round(merge_s * 1000)
        self._epoch = ""
        self._heads: Counts = {}
        self._shed: Counts | None = None

    def resume(self, tracked: Tracked, at: Stamp) -> None:
        """Go on with what was being followed when the bridge ended."""
        self.current = tracked
        if tracked.boot != at.boot:
            tracked.exact = False
            tracked.boot = at.boot
            tracked.counted_to_ms = 0  # no link since the boot either
            tracked.ended_ms = 0
        self.dirty = True

    def down(self, link: Link, detail: str, at: Stamp) -> None:
        """The link is down; `link` says why, as far as that is known yet."""
        now = self.current
        if now is None:
            now = self.current = Tracked(at.wall, at.boot, at.mono_ms, self._epoch, heads=dict(self._heads))
            now.shed_from = dict(self._shed) if self._shed is not None else None
            self.dirty = True
        elif now.state != "open":
            now.state, now.ended, now.drained_in_s = "open", None, None
            now.cuts += 1
            now.cause, now.counted_to_ms = "unknown", at.mono_ms
            self.dirty = True
        self._count(now, at)
        cause: Cause = link if link in get_args(Cause) else "unknown"  # type: ignore[assignment]  # just looked
        if cause not in (now.cause, "unknown"):
            if now.cause == "unknown":  # found out: the seconds until then were of this cause too
                now.causes_ms[cause] = now.causes_ms.get(cause, 0) + now.causes_ms.pop("unknown", 0)
            now.cause = cause
            self.dirty = True
        now.detail = detail or now.detail

    def up(self, at: Stamp) -> None:
        """The link is back."""
        now = self.current
        if now is None or now.state != "open":
            return
        self._count(now, at)
        now.state, now.ended, now.ended_ms = "draining", at.wall, at.mono_ms
        now.due = dict(self._heads) if self._epoch else None
        self.dirty = True

    def journal(self, epoch: str, heads: Counts, confirmed: Counts, at: Stamp) -> None:
        """How far the journal goes, and what of it HQ has; an empty `epoch`: it has not been read."""
        if not epoch:
            return
        now = self.current
        if now is not None and epoch != now.epoch:
            if now.epoch:
                now.kept_before = dict(now.kept)
                now.heads = {}
            else:
                now.heads = dict(heads)
            now.epoch, now.due = epoch, dict(heads)
            self.dirty = True
        self._epoch, self._heads = epoch, dict(heads)
        if now is None:
            return
        if now.due is None:
            now.due = dict(heads)
        if now.state == "open":
            for fact_class, head in heads.items():
                meanwhile = max(0, head - now.heads.get(fact_class, 0))
                now.kept[fact_class] = now.kept_before.get(fact_class, 0) + meanwhile
        elif now.state == "draining" and all(confirmed.get(name, 0) >= head for name, head in now.due.items()):
            now.state, now.drained_in_s = "over", (at.mono_ms - now.ended_ms) // 1000
            self.dirty = True

    def shed(self, gone: Counts) -> None:
        """How many facts of the present epoch were evicted or expired before HQ had them, per class."""
        self._shed = dict(gone)
        now = self.current
        if now is None or now.state == "over":
            return
        if now.shed_from is None:
            now.shed_from = dict(gone)
        now.shed = {name: max(0, count - now.shed_from.get(name, 0)) for name, count in gone.items()}

    def look(self, at: Stamp) -> Tracked | None:
        """Let time pass; the outage that is over for good, once."""
        now = self.current
        if now is None:
            return None
        if now.state == "open":
            self._count(now, at)
        elif now.state == "over" and at.mono_ms - now.ended_ms >= self._merge_ms:
            self.current = None
            self.dirty = True
            return now
        return None

    @staticmethod
    def _count(now: Tracked, at: Stamp) -> None:
        now.causes_ms[now.cause] = now.causes_ms.get(now.cause, 0) + max(0, at.mono_ms - now.counted_to_ms)
        now.counted_to_ms = at.mono_ms
