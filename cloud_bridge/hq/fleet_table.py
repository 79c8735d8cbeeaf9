"""The fleet and one store as text, for a terminal of 80 to 120 columns."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence

from cloud_bridge.hq.fleet_view import ClassView, FleetView, StoreView
from cloud_bridge.hq.text import printable
from edge.bus.wording import lasted, outage_lines

NARROW, WIDE = 80, 120
SHOWN_TROUBLES = 4
SHOWN_HOLES = 20

_LOUD = {3: "!!", 2: "!", 1: "-", 0: "."}

Line = Sequence[str]


def table(fleet: FleetView, width: int = NARROW) -> str:
    """One line per store, those in trouble first, each with its troubles below."""
    width = min(max(width, NARROW), WIDE)
    if not fleet.stores:
        return "no store has been heard yet: is a receiver running, and do the stores reach the same cloud broker?"
    head = ("store", "link", "heard", "waiting", "oldest", "missing", "lost", "epochs", "version")
    lines: list[tuple[Line, StoreView | None]] = [(head, None)]
    lines += [(_row(store), store) for store in fleet.stores]
    widths = [max(len(line[column]) for line, _ in lines) for column in range(len(head))]
    out = [*_summary(fleet, width), ""]
    for line, store in lines:
        cells = [
            cell.rjust(size) if 1 < column < 8 else cell.ljust(size)
            for column, (cell, size) in enumerate(zip(line, widths, strict=True))
        ]
        out.append("  ".join(cells).rstrip()[:width])
        if store is not None:
            out += _troubles(store, width, SHOWN_TROUBLES)
    return printable(out)


def _summary(fleet: FleetView, width: int) -> Iterator[str]:
    links = Counter(store.link for store in fleet.stores)
    troubled = sum(1 for store in fleet.stores if store.severity >= 2)
    words = ", ".join(f"{links[link]} {link}" for link in ("online", "lost", "silent", "unknown") if links[link])
    yield f"{len(fleet.stores)} {'store' if len(fleet.stores) == 1 else 'stores'}: {words}; {troubled} in trouble"
    if fleet.rejected:
        alarms = f", {fleet.alarms} of them alarms" if fleet.alarms else ""
        yield f"{fleet.rejected} messages in quarantine{alarms} (table rejected)"
    said = [store for store in fleet.stores if store.said is not None]
    if said and all(store.link in ("silent", "lost") for store in said):
        yield from textwrap.wrap(
            "no store at all has been heard lately: is a receiver running, and does it reach the cloud broker?", width
        )


def _row(store: StoreView) -> Line:
    said = store.said
    return (
        store.store,
        f"{store.link} {lasted(store.link_s)}" if store.link != "unknown" else "unknown",
        lasted(store.heard_s),
        "?" if store.waiting is None else str(store.waiting),
        lasted(store.oldest_s),
        str(store.missing),
        str(store.gone("evicted", "expired", "refused", "omitted")),
        str(len(store.epochs)),
        said.version if said is not None and said.version else "?",
    )


def _troubles(store: StoreView, width: int, shown: int) -> Iterator[str]:
    troubles = [trouble for trouble in store.troubles if trouble.severity > 0 or shown > SHOWN_TROUBLES]
    for trouble in troubles[:shown]:
        mark = _LOUD[trouble.severity]
        yield from textwrap.wrap(trouble.text, width, initial_indent=f"  {mark:<2} ", subsequent_indent="     ")
    if len(troubles) > shown:
        yield f"     and {len(troubles) - shown} more: tillgate hq stores {store.store}"


# -- one store ---------------------------------------------------------------------------------------------------------


def page(store: StoreView, width: int = NARROW) -> str:
    """Everything that is known of one store."""
    width = min(max(width, NARROW), WIDE)
    out = [f"store {store.store}", "", *_facts_of(store, width)]
    if store.troubles:
        out += ["", *_troubles(store, width, 100)]
    out += ["", *_classes(store)]
    lost = {name: entry for name, entry in store.classes.items() if entry.gone}
    if lost:
        out += ["", "lost, on record"]
        for name, entry in lost.items():
            reasons = ", ".join(f"{count} {why}" for why, count in sorted(entry.gone.items()))
            out.append(f"  {name} {reasons}, in {entry.ranges} ranges")
    if store.holes:
        out += ["", "missing: neither here nor accounted for"]
        out += [
            f"  {fact_class} {first}-{last} of epoch {epoch[:13]}"
            for epoch, fact_class, first, last in store.holes[:SHOWN_HOLES]
        ]
    if store.outages:
        out += ["", "outages, the newest first", *outage_lines(store.outages, width)]
    return printable(out)


def _facts_of(store: StoreView, width: int) -> Iterator[str]:
    said = store.said
    link = "it has never said" if store.link == "unknown" else f"{store.link} for {lasted(store.link_s)}"
    yield f"link      {link}; last heard {lasted(store.heard_s)} ago"
    if said is not None:
        epoch = f", epoch {said.epoch[:13]}" if said.epoch else ""
        yield f"gateway   {said.state}, version {said.version or '?'}, clock {said.clock}{epoch}"
        drain = "" if said.eta_s is None or store.link != "online" else f"; drained in about {lasted(said.eta_s)}"
        budget = f"; waits {lasted(said.budget_wait_s)} for the line's budget" if said.budget_wait_s else ""
        yield f"confirms  {'HQ' if said.confirm == 'hq' else 'only the cloud broker'}{drain}{budget}"
        yield f"prices    {said.price_version or 'none yet'}"
        disk = "?" if said.disk_free_mb is None else f"{said.disk_free_mb} MB free"
        yield f"disk      {disk}; {said.quarantined} messages in its quarantine, {said.parked} facts parked"
        days = {"its own": said.certificate_days, "the broker's": said.broker_certificate_days}
        if shown := [f"{whose} for {left} days" for whose, left in days.items() if left is not None]:
            yield f"proof     certificates: {', '.join(shown)}"
        yield f"devices   {said.devices} configured, {len(said.device_faults)} not well"
        yield f"lanes     {said.lane_gaps} facts missing from their counting, {said.conflicts} in conflict"
    epochs = ", ".join(f"{epoch[:13]}" for epoch in reversed(store.epochs)) or "none"
    yield from textwrap.wrap(f"epochs    {epochs} (the newest first)", width, subsequent_indent="          ")
    alarms = f", {store.alarms} of them alarms" if store.alarms else ""
    yield f"rejected  {store.rejected} of its messages here{alarms}"


def _classes(store: StoreView) -> list[str]:
    head = ("class", "journal", "whole to", "waiting", "oldest", "missing", "lost", "again")
    lines: list[Line] = [head]
    for name, entry in store.classes.items():
        lines.append((name, *_class_cells(entry)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(size) if column == 0 else cell.rjust(size) for column, (cell, size) in enumerate(both))
        for both in (zip(line, widths, strict=True) for line in lines)
    ]


def _class_cells(entry: ClassView) -> Iterator[str]:
    yield "?" if entry.head is None else str(entry.head)
    yield str(entry.contiguous)
    yield "?" if entry.waiting is None else str(entry.waiting)
    yield lasted(entry.oldest_s)
    yield str(entry.missing)
    yield str(sum(entry.gone.values()))
    yield str(entry.duplicates)
