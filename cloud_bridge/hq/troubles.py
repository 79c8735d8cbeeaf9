"""What of a store a person should look at: one row per kind of trouble, the worst first, each with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.bus.wording import lasted

if TYPE_CHECKING:
    from cloud_bridge.hq.fleet_view import StoreView

ALARM, BROKEN, ATTENTION = 3, 2, 1

LOW_DISK_MB = 512
LONG_WAIT_S = 3600
CERTIFICATE_DAYS, LAST_DAYS = 30, 7
ALARM_S = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Trouble:
    """`severity` is ALARM (somebody must act), BROKEN (does not work now) or ATTENTION."""

    severity: int
    text: str


def troubles_of(view: StoreView) -> list[Trouble]:
    """All of them, the worst first."""
    return sorted(_found(view), key=lambda trouble: -trouble.severity)


def _found(view: StoreView) -> Iterator[Trouble]:
    yield from _of_record(view)
    yield from _of_link(view)
    if view.said is not None:
        yield from _of_store(view)


def _of_record(view: StoreView) -> Iterator[Trouble]:
    if view.twin is not None:
        yield Trouble(
            ALARM,
            f"two gateways: epoch {view.twin.epoch[:13]} was heard {lasted(view.twin.heard_s)} ago, after"
            f" {view.twin.newest[:13]} began; both are recorded. Find the one that should be off, and switch it off",
        )
    if view.alarms and view.alarm_s is not None and view.alarm_s <= ALARM_S:
        yield Trouble(
            ALARM,
            f"{view.alarms} batches do not fit the journal that is here, the last {lasted(view.alarm_s)} ago:"
            " see table rejected for each one's reason",
        )
    if view.missing:
        first = view.holes[0]
        more = f" and {len(view.holes) - 1} more ranges" if len(view.holes) > 1 else ""
        yield Trouble(ATTENTION, f"{view.missing} facts are missing: {first[1]} {first[2]}-{first[3]}{more}")
    if refused := view.gone("refused", "omitted"):
        yield Trouble(ATTENTION, f"{refused} facts were refused or too large and stay in the store's journal")
    if evicted := view.gone("evicted"):
        yield Trouble(ATTENTION, f"{evicted} facts were evicted before they came: the store's disk was full")


def _of_link(view: StoreView) -> Iterator[Trouble]:
    if view.link == "lost":
        yield Trouble(BROKEN, f"its link has been down for {lasted(view.link_s)}")
    elif view.link == "silent":
        yield Trouble(BROKEN, f"it has said nothing for {lasted(view.link_s)}, and its link was not given up")
    if view.oldest_s is not None and view.oldest_s >= LONG_WAIT_S:
        yield Trouble(BROKEN, f"a fact waits for {lasted(view.oldest_s)}")


def _of_store(view: StoreView) -> Iterator[Trouble]:
    said = view.said
    assert said is not None
    if said.state == "storage_full":
        yield Trouble(BROKEN, "its disk is full: tills keep their sales themselves")
    elif said.state == "faulted":
        yield Trouble(BROKEN, "its journal cannot be written: a technician must look")
    if said.trouble and view.link == "online":
        yield Trouble(BROKEN, f"it says: {said.trouble}")
    whose = {"its own": said.certificate_days, "the broker's": said.broker_certificate_days}
    for name, days in whose.items():
        if days is not None and days < CERTIFICATE_DAYS:
            ends = f"ends in {days} days" if days >= 0 else f"ended {-days} days ago by its clock"
            yield Trouble(BROKEN if days < LAST_DAYS else ATTENTION, f"{name} certificate {ends}")
    if said.device_faults:
        shown = ", ".join(f"{device} {state}" for device, state in list(said.device_faults.items())[:4])
        more = f" and {len(said.device_faults) - 4} more" if len(said.device_faults) > 4 else ""
        yield Trouble(ATTENTION, f"{shown}{more}")
    if said.lane_gaps:
        yield Trouble(ATTENTION, f"{said.lane_gaps} facts are missing from its lanes' own counting")
    if said.conflicts:
        yield Trouble(ATTENTION, f"{said.conflicts} facts have the id or number of another; both are kept")
    if said.parked:
        yield Trouble(ATTENTION, f"{said.parked} facts are parked there: HQ will never take them")
    if said.disk_free_mb is not None and said.disk_free_mb < LOW_DISK_MB:
        yield Trouble(ATTENTION, f"only {said.disk_free_mb} MB of its disk are free")
    if said.clock == "unknown" and said.state not in ("unknown", "stopped", "starting"):
        yield Trouble(0, "its clock is not synchronised")
