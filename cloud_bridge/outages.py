"""The outages of one store in ``bridge.db``: each is written while it goes on, reported when it is over and drained.

Strategy: `outage_tracker` knows how an outage goes; this module writes its row and hands one that is over to edge,
which journals it: as a fact (``tillgate.link.restored.v1``) it reaches HQ. Edge is told again until it says that the
fact is on disk; the outage's id is the fact's, so that it is recorded once.

A link that flaps is one outage with many cuts (see `MERGE_S`), and only the newest `KEPT` stay: 100 cuts an hour do
not fill the table.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NoReturn

import aiosqlite
import orjson

from cloud_bridge.outage_tracker import Counts, Tracked, Tracker
from edge.bus.messages.facts import FactClass, Outage
from edge.bus.messages.statuses import Link
from edge.journal.clock import Clock

log = logging.getLogger(__name__)

MERGE_S = 60.0
"""A cut so soon after the link's return belongs to the outage before."""

SEEN_EVERY_S = 60.0
"""How often an outage that goes on is written: what a power cut costs of its seconds."""

ASK_AGAIN_S = 30.0
"""Edge has not said that an outage is in the journal: it is told again after so long."""

AGAIN_S = 10.0
"""Pause after ``bridge.db`` could not be written: the disk is full."""

KEPT = 200
SHOWN = 3

SCHEMA = """
CREATE TABLE IF NOT EXISTS outages (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,    -- open, draining, over, reported
    outage TEXT NOT NULL,   -- as it is told
    resume TEXT NOT NULL    -- what is needed to go on after a restart
) STRICT;
"""


class Outages:
    """The outages of one store in ``bridge.db``. `report` hands one to edge, `on_change` is called when one changed."""

    def __init__(
        self,
        db: aiosqlite.Connection,
        clock: Clock,
        report: Callable[[Outage], None],
        on_change: Callable[[], None],
        *,
        merge_s: float | None = None,
    ) -> None:
        merge_s = MERGE_S if merge_s is None else merge_s
        self._db = db
        self._clock = clock
        self._report = report
        self._on_change = on_change
        self._tracker = Tracker(merge_s)
        self._merge_s = merge_s
        self._wake = asyncio.Event()
        self._past: list[Outage] = []
        self._unreported: dict[str, Outage] = {}
        self._recorded: list[str] = []
        self._failing = False

    async def open(self) -> None:
        """Read what is known."""
        await self._db.executescript(SCHEMA)
        rows = await self._db.execute_fetchall(
            "SELECT state, outage, resume FROM outages ORDER BY number DESC LIMIT ?", (KEPT,)
        )
        for index, (state, outage, resume) in enumerate(rows):
            try:
                if index == 0 and state in ("open", "draining"):
                    self._tracker.resume(_resumed(resume), self._clock.now())
                    continue
                told = Outage.model_validate_json(outage)
            except (ValueError, TypeError, KeyError) as error:
                log.error("an outage in bridge.db cannot be read and is passed over: %s", error)
                continue
            if state == "over":
                self._unreported[told.id] = told
            if len(self._past) < SHOWN:
                self._past.append(told)

    # -- what the daemon tells -----------------------------------------------------------------------------------------

    def link(self, link: Link, detail: str = "") -> None:
        """How the link is now. ``unknown`` before the first connection says nothing."""
        if link == "online":
            self._tracker.up(self._clock.now())
        else:
            self._tracker.down(link, detail, self._clock.now())
        self._told()

    def journal(self, epoch: str, heads: Counts, confirmed: Counts) -> None:
        """How far the journal goes, and what of it HQ has."""
        self._tracker.journal(epoch, heads, confirmed, self._clock.now())
        self._told()

    def shed(self, gone: Counts) -> None:
        """How many facts were evicted or expired before HQ had them, per class."""
        self._tracker.shed(gone)

    def on_recorded(self, outage_id: str) -> None:
        """Edge has it in the journal."""
        if self._unreported.pop(outage_id, None) is not None:
            self._recorded.append(outage_id)
            self._wake.set()

    def report_again(self) -> None:
        """Edge may not have got what it was told."""
        for outage in self._unreported.values():
            self._report(outage)

    def _told(self) -> None:
        if self._tracker.dirty:
            self._wake.set()
            self._on_change()

    # -- what is known -------------------------------------------------------------------------------------------------

    @property
    def last(self) -> tuple[Outage, ...]:
        """The last ones, the newest first."""
        now = self._tracker.current
        return tuple([*([now.told()] if now is not None else []), *self._past][:SHOWN])

    # -- running -------------------------------------------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Write what changed, and report what is over, until cancelled."""
        self.report_again()
        while True:
            self._wake.clear()
            pause_s = await self._stepped()
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            except TimeoutError:
                self.report_again()

    async def save(self) -> None:
        """Write what is known of an outage that goes on."""
        self._tracker.look(self._clock.now())
        try:
            if self._tracker.current is not None:
                await self._write(self._tracker.current)
        except aiosqlite.Error as error:
            log.error("the outage that goes on is not written: %s", error)

    async def _stepped(self) -> float | None:
        """One step; returns how long to wait for the next, None when only an event makes one."""
        try:
            await self._step()
        except aiosqlite.Error as error:
            if not self._failing:
                log.error("bridge.db cannot be written (%s): outages are followed on and written later", error)
            self._failing = True
            return AGAIN_S
        self._failing = False
        return self._pause_s()

    async def _step(self) -> None:
        over = self._tracker.look(self._clock.now())
        self._tracker.dirty = False
        if over is not None:
            told = over.told()
            self._past = [told, *self._past][:SHOWN]
            self._unreported[told.id] = told
            await self._write(over)
            await self._db.execute("DELETE FROM outages WHERE number <= (SELECT max(number) FROM outages) - ?", (KEPT,))
            await self._db.commit()
            self._report(told)
            self._on_change()
        elif self._tracker.current is not None:
            await self._write(self._tracker.current)
        recorded, self._recorded = self._recorded, []
        if recorded:
            ids = [(outage_id,) for outage_id in recorded]
            await self._db.executemany("UPDATE outages SET state = 'reported' WHERE id = ?", ids)
            await self._db.commit()

    def _pause_s(self) -> float | None:
        now = self._tracker.current
        if now is not None and now.state == "over":
            return max(0.05, self._merge_s - (self._clock.now().mono_ms - now.ended_ms) / 1000)
        if now is not None and now.state == "open":
            return SEEN_EVERY_S
        return ASK_AGAIN_S if self._unreported else None

    async def _write(self, tracked: Tracked) -> None:
        resume = orjson.dumps(tracked, option=orjson.OPT_NON_STR_KEYS).decode()
        values = (tracked.id, tracked.state, tracked.told().model_dump_json(), resume)
        await self._db.execute(
            "INSERT INTO outages (id, state, outage, resume) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
            " SET state = excluded.state, outage = excluded.outage, resume = excluded.resume",
            values,
        )
        await self._db.commit()


def _resumed(text: str) -> Tracked:
    values = orjson.loads(text)
    for key in ("heads", "kept", "kept_before", "shed_from", "shed", "due"):
        if values[key] is not None:
            values[key] = {FactClass(name): count for name, count in values[key].items()}
    return Tracked(**values)
