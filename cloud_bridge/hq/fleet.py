"""The fleet as HQ's database knows it: per store when it was last heard, what is here, what is missing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Engine, func, select

from cloud_bridge.hq.record import holes
from cloud_bridge.hq.schema import heads, rejected, stores
from edge.bus.messages.facts import FactClass


@dataclass(frozen=True, slots=True)
class StoreView:
    """One store. `holes` are sequences neither here nor accounted for; `epochs` the newest last."""

    store: str
    last_seen: str
    facts: dict[str, int]
    holes: int
    duplicates: int
    epochs: list[str]


@dataclass(frozen=True, slots=True)
class FleetView:
    """All stores, and how much lies in quarantine; `alarms` are those a person must look at."""

    stores: list[StoreView]
    rejected: int
    alarms: int

    def as_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def look(engine: Engine) -> FleetView:
    """Read the fleet from the database."""
    views: list[StoreView] = []
    with engine.connect() as db:
        for row in db.execute(select(stores).order_by(stores.c.store)).mappings().all():
            store = str(row["store"])
            chains = db.execute(
                select(heads).where(heads.c.store == store).order_by(heads.c.first_seen, heads.c.epoch)
            ).mappings()
            facts = {fact_class.value: 0 for fact_class in FactClass}
            duplicates, epochs = 0, []
            for chain in chains.all():
                facts[chain["class"]] += int(chain["facts"])
                duplicates += int(chain["duplicates"])
                if chain["epoch"] not in epochs:
                    epochs.append(str(chain["epoch"]))
            missing = sum(last - first + 1 for spans in holes(db, store).values() for first, last in spans)
            views.append(StoreView(store, str(row["last_seen"]), facts, missing, duplicates, epochs))
        kept = db.execute(select(func.count()).select_from(rejected)).scalar() or 0
        alarms = db.execute(select(func.count()).select_from(rejected).where(rejected.c.alarm)).scalar() or 0
    return FleetView(views, int(kept), int(alarms))


def table(view: FleetView) -> str:
    """The fleet as text, one line per store."""
    head = ["store", "last seen", *(fact_class.value for fact_class in FactClass), "holes", "again", "epoch"]
    lines = [head]
    for store in view.stores:
        counts = [str(store.facts.get(fact_class.value, 0)) for fact_class in FactClass]
        newest = store.epochs[-1][:13] if store.epochs else "-"
        epoch = newest if len(store.epochs) < 2 else f"{newest} (+{len(store.epochs) - 1})"
        lines.append([store.store, store.last_seen, *counts, str(store.holes), str(store.duplicates), epoch])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
    if not view.stores:
        text += "\nno store has been heard yet"
    if view.rejected:
        text += f"\n{view.rejected} messages in quarantine (table rejected), {view.alarms} of them alarms"
    return text
