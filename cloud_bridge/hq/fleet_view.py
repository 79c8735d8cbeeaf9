"""What HQ shows of a store and of the fleet: plain values, made by `fleet`, shown by `fleet_table`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from cloud_bridge.hq.troubles import Trouble, troubles_of
from edge.bus.messages.facts import Outage
from edge.bus.messages.links import StoreStatus


@dataclass(frozen=True, slots=True)
class ClassView:
    """One class of the store's newest epoch. None where the store has not said."""

    facts: int = 0
    contiguous: int = 0
    head: int | None = None
    waiting: int | None = None
    oldest_s: int | None = None
    missing: int = 0
    gone: dict[str, int] = field(default_factory=dict)
    """evicted, expired (at the store), refused, omitted -> facts, of all epochs"""
    ranges: int = 0
    duplicates: int = 0


@dataclass(frozen=True, slots=True)
class Twin:
    """An older epoch that is still heard of: another gateway with this store's name."""

    epoch: str
    newest: str
    heard_s: int


@dataclass(frozen=True, slots=True)
class StoreView:
    """One store. Seconds are counted back from now, by HQ's clock; `epochs` the newest last."""

    store: str
    link: str
    """online, lost (its last will came), silent, unknown (it has never said)"""
    link_s: int
    heard_s: int
    classes: dict[str, ClassView]
    epochs: list[str]
    twin: Twin | None
    alarms: int
    alarm_s: int | None
    rejected: int
    said: StoreStatus | None
    holes: list[tuple[str, str, int, int]]
    """(epoch, class, first, last), neither here nor accounted for"""
    outages: list[Outage] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """Facts that should be here and are not accounted for."""
        return sum(last - first + 1 for *_, first, last in self.holes)

    @property
    def waiting(self) -> int | None:
        """Facts in the journal that are not here; None when the store has not said how far its journal goes."""
        known = [entry.waiting for entry in self.classes.values() if entry.waiting is not None]
        return sum(known) if known or (self.said is not None and self.said.epoch) else None

    @property
    def oldest_s(self) -> int | None:
        """Age of the oldest fact that is not here."""
        return max((entry.oldest_s for entry in self.classes.values() if entry.oldest_s is not None), default=None)

    @property
    def facts(self) -> int:
        """Facts here."""
        return sum(entry.facts for entry in self.classes.values())

    @property
    def duplicates(self) -> int:
        """Facts that came again and were ignored."""
        return sum(entry.duplicates for entry in self.classes.values())

    def gone(self, *why: str) -> int:
        """Facts that will never come because of `why`."""
        return sum(count for entry in self.classes.values() for name, count in entry.gone.items() if name in why)

    @property
    def troubles(self) -> list[Trouble]:
        """What a person should look at, the worst first."""
        return troubles_of(self)

    @property
    def severity(self) -> int:
        """Of the worst of its troubles, 0 without any."""
        return max((trouble.severity for trouble in self.troubles), default=0)


@dataclass(frozen=True, slots=True)
class FleetView:
    """All stores, those in trouble first, and how much lies in quarantine; `alarms` a person must look at."""

    at: str
    stores: list[StoreView]
    rejected: int
    alarms: int

    def as_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "at": self.at,
            "stores": [_as_json(store) for store in self.stores],
            "rejected": self.rejected,
            "alarms": self.alarms,
        }


def _as_json(view: StoreView) -> dict[str, Any]:
    derived = {
        name: getattr(view, name) for name in ("missing", "waiting", "oldest_s", "facts", "duplicates", "severity")
    }
    said = view.said.model_dump(mode="json") if view.said is not None else None
    outages = [outage.model_dump(mode="json") for outage in view.outages]
    plain = {
        name: getattr(view, name)
        for name in ("store", "link", "link_s", "heard_s", "epochs", "alarms", "alarm_s", "rejected", "holes")
    }
    return plain | derived | {
        "troubles": [trouble.text for trouble in view.troubles],
        "twin": asdict(view.twin) if view.twin is not None else None,
        "classes": {name: asdict(entry) for name, entry in view.classes.items()},
        "said": said,
        "outages": outages,
    }  # fmt: skip
