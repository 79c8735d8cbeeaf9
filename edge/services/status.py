"""The gateway's own status, and the journal's heads for the bridge.

Strategy: whatever changes calls `changed`; one task publishes at most once a second, and every ten seconds while facts
wait for HQ, because their age grows. Heads go out at once, at most twenty times a second: the bridge waits for them.

Source: design page "The local bus" (gateway/status).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable
from typing import Literal, NoReturn

from pydantic import ValidationError

from edge import __version__
from edge.bus import topics
from edge.bus.client import Message
from edge.bus.envelope import now_utc
from edge.bus.messages.facts import FactClass, first_error
from edge.bus.messages.links import HQ_WARNINGS, BridgeStatus, JournalHeads
from edge.bus.messages.statuses import Backlog, GatewayStatus
from edge.journal.clock import Clock, age_ms
from edge.journal.store import Store, StoreFaulted
from edge.services.warnings import Warnings

log = logging.getLogger(__name__)

QUIET_S = 1.0
"""At most one status in this time."""

AGEING_S = 10.0
"""How often the age of the oldest waiting fact is told again."""

IDLE_S = 30.0
"""How often it is looked whether something has changed that tells nobody, as the disk's free space."""

HEADS_QUIET_S = 0.05

LOOK_EVERY_S = 5.0
"""How often what is lost, what is in conflict and the disk are looked at: sums over tables that grow."""


class StatusBoard:
    """Composes `GatewayStatus` from the journal, the bridge and the services."""

    def __init__(
        self,
        store: Store,
        publish: Callable[..., None],
        clock: Clock,
        *,
        price_version: Callable[[], str | None],
        quarantined: Callable[[], int],
        full: Callable[[], bool],
        busy: Callable[[], bool],
        warnings: Warnings | None = None,
        configuration: Callable[[], int | None] = lambda: None,
        heard: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = store
        self._publish = publish
        self._price_version = price_version
        self._quarantined = quarantined
        self._full = full
        self._busy = busy
        self._configuration = configuration
        self._warnings = warnings or Warnings()
        self._heard = heard
        self._clock = clock
        self._bridge = BridgeStatus(link="unknown", since=now_utc())
        self._dirty = asyncio.Event()
        self._heads_due: asyncio.TimerHandle | None = None
        self._heads_sent_at = 0.0
        self.last: GatewayStatus | None = None
        """What was told last."""
        self._last = b""
        self._gone: dict[tuple[str, str], int] = {}
        self._ages: dict[FactClass, int | None] = {}
        self._missing = 0
        self._looked_at = -LOOK_EVERY_S
        self._disk_free_mb: int | None = None
        self._conflicts = 0

    def changed(self) -> None:
        """Something that the status tells has changed."""
        self._dirty.set()

    def on_bridge(self, message: Message) -> None:
        """Take the bridge's status from ``bridge/status``."""
        try:
            self._bridge = BridgeStatus.model_validate_json(message.payload)
        except ValidationError as error:
            log.error("the bridge's status cannot be read: %s", first_error(error))
        message.ack()
        for code in HQ_WARNINGS:
            if text := self._bridge.warnings.get(code):
                self._warnings.set(code, text[:500])
            else:
                self._warnings.clear(code)
        self._store.note_confirmed(self.confirmed)
        self.changed()

    @property
    def confirmed(self) -> dict[FactClass, int]:
        """What HQ has confirmed of the journal's present epoch."""
        return self._bridge.confirmed if self._bridge.epoch == self._store.epoch else {}

    # -- heads ---------------------------------------------------------------------------------------------------------

    def on_commit(self, heads: dict[FactClass, int]) -> None:
        """The journal has grown: tell the bridge, soon but not more often than it can use."""
        self.changed()
        if self._heads_due is not None:
            return
        loop = asyncio.get_running_loop()
        wait = max(0.0, self._heads_sent_at + HEADS_QUIET_S - loop.time())
        self._heads_due = loop.call_later(wait, self.publish_heads)

    def publish_heads(self) -> None:
        """Tell the bridge how far the journal goes (retained)."""
        self._heads_due = None
        self._heads_sent_at = asyncio.get_running_loop().time()
        message = JournalHeads(epoch=self._store.epoch, heads=self._store.heads)
        self._publish(topics.JOURNAL_HEADS, message.model_dump_json().encode(), qos=0, retain=True)

    def stop(self) -> None:
        """Tell nothing any more: the bus is about to close."""
        if self._heads_due is not None:
            self._heads_due.cancel()
        self._store.on_commit.remove(self.on_commit)

    # -- status --------------------------------------------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Publish the status whenever it changed; it is looked for now and then, more often while facts wait."""
        while True:
            waiting = await self.publish()
            await asyncio.sleep(QUIET_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGEING_S if waiting else IDLE_S):
                    await self._dirty.wait()

    async def publish(self, *, again: bool = False) -> bool:
        """Publish the status if it differs from the last one, or `again`; returns whether facts wait for HQ."""
        self._dirty.clear()
        status = self.last = await self._compose()
        payload = status.model_dump_json().encode()
        if payload != self._last or again:
            self._publish(topics.GATEWAY_STATUS, payload, qos=1, retain=True)
            self._last = payload
        return any(backlog.facts for backlog in status.backlog.values())

    async def now(self) -> GatewayStatus:
        """The status as it is at this moment."""
        return await self._compose()

    async def _compose(self) -> GatewayStatus:
        await self._look()
        bridge = self._bridge
        backlog = {fact_class: await self._backlog(fact_class) for fact_class in FactClass}
        with contextlib.suppress(StoreFaulted):  # what was read last is told on
            row = await self._store.fetch_one("SELECT coalesce(sum(last - first + 1), 0) FROM lane_gaps")
            self._missing = int(row[0]) if row else 0
        return GatewayStatus(
            state=self._state(),
            link=bridge.link,
            since=bridge.since,
            link_detail=bridge.detail,
            backlog=backlog,
            eta_s=bridge.eta_s,
            budget_wait_s=bridge.budget_wait_s,
            parked=bridge.parked,
            outages=bridge.outages,
            epoch=self._store.epoch,
            clock=self._clock.now().trust.value,
            version=__version__,
            confirm=bridge.confirm,
            lane_gaps=self._missing,
            conflicts=self._conflicts,
            quarantined=self._quarantined(),
            disk_free_mb=self._disk_free_mb,
            price_version=self._price_version(),
            please=self._please(),
            configuration=self._configuration(),
            certificates=bridge.certificates,
            warnings=self._warnings.shown(),
            safe_to_switch_off=self._nothing_in_hand() and not any(entry.facts for entry in backlog.values()),
        )

    def _state(self) -> Literal["faulted", "storage_full", "serving", "starting"]:
        if self._store.faulted:
            return "faulted"
        if self._full():
            return "storage_full"
        return "serving" if self._heard() else "starting"

    def _nothing_in_hand(self) -> bool:
        return self._store.faulted is None and not self._busy() and not self._store.unwritten

    async def _backlog(self, fact_class: FactClass) -> Backlog:
        head, confirmed = self._store.heads.get(fact_class, 0), self.confirmed.get(fact_class, 0)
        facts = max(0, head - confirmed)
        with contextlib.suppress(StoreFaulted):
            self._ages[fact_class] = await self._age_s(fact_class, confirmed) if facts else None
        return Backlog(
            facts=facts,
            oldest_s=self._ages.get(fact_class),
            eta_s=self._bridge.eta_by_class_s.get(fact_class) if facts else None,
            head=head,
            confirmed=confirmed,
            evicted=self._gone.get((fact_class.value, "evicted"), 0),
            expired=self._gone.get((fact_class.value, "expired"), 0),
        )

    async def _look(self) -> None:
        """What is summed up over tables that grow, and the disk: now and then."""
        now = asyncio.get_running_loop().time()
        if now - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now
        with contextlib.suppress(StoreFaulted):
            rows = await self._store.fetch_all(
                "SELECT class, reason, sum(last - first + 1) FROM tombstones GROUP BY class, reason"
            )
            self._gone = {(row[0], row[1]): int(row[2]) for row in rows}
            found = await self._store.fetch_one("SELECT count(*) FROM facts WHERE conflict IS NOT NULL")
            self._conflicts = int(found[0]) if found is not None else 0
        with contextlib.suppress(OSError):
            self._disk_free_mb = shutil.disk_usage(self._store.path.parent).free // (16 * 1024 * 1024) * 16

    def _please(self) -> str:
        if self._store.faulted:
            return f"Tell a technician: {self._store.faulted}. Tills keep their sales; devices go on"
        if self._full():
            return "Tell a technician: the gateway's disk is full, tills keep their sales themselves"
        if (damaged := self._store.salvaged) is not None:
            return f"Tell a technician: an earlier journal was damaged and set aside as {damaged.path.name}"
        return ""

    async def _age_s(self, fact_class: FactClass, after: int) -> int | None:
        """Age of the first fact above `after` in seconds: never by a wall clock that nobody has trusted."""
        row = await self._store.fetch_one(
            "SELECT boot, mono_ms FROM facts WHERE class = ? AND seq > ? ORDER BY seq LIMIT 1",
            (fact_class.value, after),
        )
        if row is None:
            return None
        boots = "SELECT boot, offset_ms FROM boots WHERE offset_ms IS NOT NULL AND boot IN (?, ?)"
        now = self._clock.now()
        offsets = dict(await self._store.fetch_all(boots, (row[0], now.boot)))
        return max(0, age_ms(str(row[0]), int(row[1]), now, offsets) // 1000)


def stopped() -> bytes:
    """The status that the broker publishes for a gateway that is gone: its last will."""
    status = GatewayStatus(state="stopped", link="unknown", since=now_utc(), version=__version__)
    return status.model_dump_json().encode()
