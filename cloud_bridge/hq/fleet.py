"""Reads the fleet from HQ's database: per store how its link is, what waits, what is missing.

Strategy: everything is read from small tables (one row per chain, per status, per range that is gone), in a handful of
queries however many stores there are; `facts` is only touched by key: what lies above a hole, and the last fact of an
epoch that is no longer the newest. What a store said of itself (`StoreStatus`) is aged by HQ's own clock. What waits is
counted from the store's head and HQ's own record, which is newer than what the store last knew of it.

Two gateways that carry one store's name show in two ways: both continue one epoch (the second one's batches lie in
`rejected` with an alarm), or an older epoch is still heard of after a newer one began. In the second case both are
recorded and confirmed, because facts they are, and the alarm stays until a week has passed without a word of the older.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Engine, and_, func, select

from cloud_bridge.hq import schema
from cloud_bridge.hq.fleet_view import ClassView, FleetView, StoreView, Twin
from cloud_bridge.hq.gone import holes
from cloud_bridge.hq.heads import Chain
from cloud_bridge.hq.troubles import ALARM_S
from edge.bus import topics
from edge.bus.messages.facts import FactClass, Outage
from edge.bus.messages.links import ClassStatus, StoreStatus

SILENT_S = 150.0
"""A store that says nothing for so long is silent: it speaks at least once a minute."""

LATE_S = 120.0
"""A word of an older epoch so soon after a newer one began was still on its way."""

SHOWN_OUTAGES = 5


def look(engine: Engine, store: str | None = None, now: datetime | None = None) -> FleetView:
    """Read the fleet from the database, or one store of it with its last outages."""
    at = now or datetime.now(UTC)
    with engine.connect() as db:
        reading = _Reading(db, at, store)
        views = [reading.view(name) for name in reading.stores]
        views.sort(key=lambda view: (-view.severity, view.store))
        rejected = sum(reading.rejected.values()) + reading.strays[0]
        alarms = sum(count for count, _ in reading.alarms.values()) + reading.strays[1]
    return FleetView(at.isoformat(timespec="seconds"), views, rejected, alarms)


class _Reading:
    """One look: the small tables, in memory."""

    def __init__(self, db: Connection, at: datetime, only: str | None) -> None:
        self._db, self._at, self._only = db, at, only
        stores, heads, gone = schema.stores.c, schema.heads.c, schema.gone.c
        known = self._of(select(schema.stores), stores.store).order_by(stores.store)
        self.stores = {row.store: row.last_seen for row in db.execute(known)}
        self._status = {
            row["store"]: row
            for row in db.execute(self._of(select(schema.store_status), schema.store_status.c.store)).mappings()
        }
        self._heads: dict[str, list[Any]] = defaultdict(list)
        chains = self._of(select(schema.heads), heads.store).order_by(heads.first_seen, heads.epoch)
        for head in db.execute(chains).mappings():
            self._heads[head["store"]].append(head)
        self._gone: dict[tuple[str, str], dict[str, tuple[int, int]]] = defaultdict(dict)
        sums = select(
            gone.store, gone["class"], gone.why, func.sum(gone.last - gone.first + 1), func.count()
        ).group_by(gone.store, gone["class"], gone.why)  # fmt: skip
        for name, fact_class, why, count, ranges in db.execute(self._of(sums, gone.store)):
            self._gone[name, fact_class][why] = (int(count), int(ranges))
        self._quarantine()
        self._epochs()

    def _of(self, query: Any, column: Any) -> Any:
        return query if self._only is None else query.where(column == self._only)

    def _quarantine(self) -> None:
        self.rejected: dict[str, int] = defaultdict(int)
        self.alarms: dict[str, tuple[int, str]] = {}
        rejected, strays, stray_alarms = schema.rejected.c, 0, 0
        query = select(rejected.topic, rejected.alarm, func.count(), func.max(rejected.last_at))
        for topic, alarm, count, last_at in self._db.execute(query.group_by(rejected.topic, rejected.alarm)):
            name = ""
            with contextlib.suppress(ValueError):
                name = topics.store_of(topic)
            if name not in self.stores:
                if self._only is None:
                    strays, stray_alarms = strays + count, stray_alarms + (count if alarm else 0)
                continue
            self.rejected[name] += count
            if alarm:
                before, before_at = self.alarms.get(name, (0, ""))
                self.alarms[name] = (before + count, max(before_at, last_at))
        self.strays = (strays, stray_alarms)

    def _epochs(self) -> None:
        """Per store and epoch when it was first and last heard of (of facts only where there are several epochs)."""
        self._first: dict[str, dict[str, str]] = defaultdict(dict)
        self._last: dict[tuple[str, str], str] = {}
        for name, heads in self._heads.items():
            for head in heads:
                known = self._first[name].get(head["epoch"], head["first_seen"])
                self._first[name][head["epoch"]] = min(known, head["first_seen"])
        heard = schema.epochs_heard
        for row in self._db.execute(self._of(select(heard), heard.c.store)):
            self._first[row.store][row.epoch] = min(self._first[row.store].get(row.epoch, row.first_at), row.first_at)
            self._last[row.store, row.epoch] = row.last_at
        several = [name for name, epochs in self._first.items() if len(epochs) > 1]
        chain, facts = schema.heads.c, schema.facts.c
        for some in _in_parts(several, 500):
            here = and_(
                facts.store == chain.store,
                facts.epoch == chain.epoch,
                facts["class"] == chain["class"],
                facts.seq == chain.highest,
            )
            # A subquery for each chain: as a join, SQLite would walk all facts of these stores.
            latest = select(facts.received_at).where(here).correlate(schema.heads).scalar_subquery()
            for name, epoch, at in self._db.execute(
                select(chain.store, chain.epoch, latest).where(chain.store.in_(some))
            ):
                if at is None:
                    continue
                self._last[name, epoch] = max(self._last.get((name, epoch), ""), at)

    # -- one store -----------------------------------------------------------------------------------------------------

    def view(self, name: str) -> StoreView:
        row = self._status.get(name)
        said = _said(row["body"]) if row is not None else None
        heard_s = self._since(max(self.stores[name], row["heard_at"] if row is not None else ""))
        link, link_s = "unknown", heard_s
        if row is not None and said is not None:
            spoke_s = self._since(row["heard_at"])
            link, link_s = "online", spoke_s + said.online_s
            if row["lost_at"] is not None:
                link, link_s = "lost", self._since(row["lost_at"])
            elif spoke_s > SILENT_S:
                link, link_s = "silent", spoke_s
        epochs = sorted(self._first[name], key=lambda epoch: (self._first[name][epoch], epoch))
        alarms, alarm_at = self.alarms.get(name, (0, ""))
        gaps = [head for head in self._heads[name] if head["highest"] > head["contiguous"]]
        found: dict[Chain, list[tuple[int, int]]] = holes(self._db, name) if gaps else {}
        spans = [(chain[1], chain[2], first, last) for chain, ranges in found.items() for first, last in ranges]
        return StoreView(
            store=name,
            link=link,
            link_s=link_s,
            heard_s=heard_s,
            classes=self._classes(name, epochs, said, row, spans),
            epochs=epochs,
            twin=self._twin(name, epochs),
            alarms=alarms,
            alarm_s=self._since(alarm_at) if alarms else None,
            rejected=self.rejected[name],
            said=said,
            holes=spans,
            outages=self._outages(name) if self._only is not None else [],
        )

    def _classes(
        self, name: str, epochs: list[str], said: StoreStatus | None, row: Any, spans: list[tuple[str, str, int, int]]
    ) -> dict[str, ClassView]:
        out: dict[str, ClassView] = {}
        current = said.epoch if said is not None and said.epoch else epochs[-1] if epochs else ""
        for fact_class in FactClass:
            chains = [head for head in self._heads[name] if head["class"] == fact_class.value]
            gone = self._gone.get((name, fact_class.value), {})
            entry = said.classes.get(fact_class) if said is not None else None
            if not chains and not gone and entry is None:
                continue
            contiguous = next((head["contiguous"] for head in chains if head["epoch"] == current), 0)
            head, waiting, oldest_s = self._waiting(entry, contiguous, row)
            out[fact_class.value] = ClassView(
                facts=sum(head["facts"] for head in chains),
                contiguous=contiguous,
                head=head,
                waiting=waiting,
                oldest_s=oldest_s,
                missing=sum(last - first + 1 for _, of, first, last in spans if of == fact_class.value),
                gone={why: count for why, (count, _) in gone.items()},
                ranges=sum(ranges for _, ranges in gone.values()),
                duplicates=sum(head["duplicates"] for head in chains),
            )
        return out

    def _waiting(
        self, entry: ClassStatus | None, contiguous: int, row: Any
    ) -> tuple[int | None, int | None, int | None]:
        if entry is None:
            return None, None, None
        waiting = max(0, entry.head - contiguous)
        oldest_s = entry.oldest_s + self._since(row["heard_at"]) if entry.oldest_s is not None and waiting else None
        return max(entry.head, contiguous), waiting, oldest_s

    def _twin(self, name: str, epochs: list[str]) -> Twin | None:
        if len(epochs) < 2:
            return None
        newest = epochs[-1]
        older = max(epochs[:-1], key=lambda epoch: self._last.get((name, epoch), ""))
        last, began = self._last.get((name, older), ""), self._first[name][newest]
        if not last or self._since(began) - self._since(last) <= LATE_S or self._since(last) > ALARM_S:
            return None
        return Twin(older, newest, self._since(last))

    def _outages(self, name: str) -> list[Outage]:
        table = schema.outages
        query = select(table.c.body).where(table.c.store == name).order_by(table.c.ended.desc()).limit(SHOWN_OUTAGES)
        return [Outage.model_validate_json(body) for body in self._db.execute(query).scalars()]

    def _since(self, at: str) -> int:
        try:
            return max(0, int((self._at - datetime.fromisoformat(at)).total_seconds()))
        except ValueError:
            return 0


def _said(body: str) -> StoreStatus | None:
    try:
        return StoreStatus.model_validate_json(body)
    except ValidationError:
        return None  # of a store that is newer than this program and says what it cannot read


def _in_parts(items: list[str], size: int) -> Iterable[list[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))
