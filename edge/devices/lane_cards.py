"""Lane cards: scanning one binds the scanner to that card's lane, until another card is scanned. No configuration.

    TILLGATE-LANE/<lane>/<check>        the home card, which brings a scanner back to its configured lanes, has no lane

The check is eight letters and digits that only this store and this lane give, so neither goods nor the card of another
store can move a scanner. It is no secret: whoever can read store.toml's store id can make a card, as whoever can read
a card can copy it; each binding is a fact that says when and where from.

Strategy: the binding and its fact are on disk, in one transaction, before the scanner changes its lane; cards are
taken one after the other. A binding outlives restarts and replugging. One whose device or lane the configuration no
longer has sleeps until both are back.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Iterable

from edge.bus.envelope import now_utc
from edge.bus.messages.facts import DeviceBound
from edge.devices.attached import Attached
from edge.devices.registry import Registry
from edge.devices.rejected import Rejected
from edge.journal.store import NotStored, Statement, Store
from edge.services.facts import Report

PREFIX = "TILLGATE-LANE/"

LANE_CARDS_SCHEMA = """
CREATE TABLE lane_bindings (
    device TEXT PRIMARY KEY,
    lane   TEXT NOT NULL,
    at     TEXT NOT NULL                 -- wall clock, for people
) STRICT, WITHOUT ROWID;
"""


def card_text(store_id: str, lane: str | None) -> str:
    """What the card of a lane says; None: the home card."""
    digest = hashlib.sha256(f"tillgate lane card\n{store_id}\n{lane or ''}".encode()).digest()
    return f"{PREFIX}{lane or ''}/{base64.b32encode(digest[:5]).decode()}"


def lane_of_card(text: str, store_id: str) -> str | None:
    """The lane of a card, None for the home card; Rejected when it is not a card of this store."""
    lane = text.removeprefix(PREFIX).rpartition("/")[0] or None
    if text != card_text(store_id, lane):
        raise Rejected("other_store", f"{text[:100]!r} is not a lane card of this store")
    return lane


class LaneCards:
    """Binds scanners to lanes. `open` before the devices run."""

    def __init__(self, store_id: str, lanes: Iterable[str], registry: Registry, store: Store, report: Report) -> None:
        self._store_id = store_id
        self._lanes = frozenset(lanes)
        self._registry = registry
        self._store = store
        self._report = report
        self._home = {device.id: device.lanes for device in registry.all("scanner")}
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Bind every scanner that a card has bound before."""
        bound = dict(await self._store.fetch_all("SELECT device, lane FROM lane_bindings"))
        for device in self._registry.all("scanner"):
            lane = bound.get(device.id)
            if lane in self._lanes:
                self._registry.bind(device.id, (lane,))

    async def take(self, device: Attached, text: str) -> None:
        """Obey a card that `device` has scanned; Rejected when it cannot be."""
        lane = lane_of_card(text, self._store_id)
        if lane is not None and lane not in self._lanes:
            raise Rejected("no_lane", f"there is no lane {lane!r} in this store")
        async with self._turn:
            lanes = (lane,) if lane is not None else self._home[device.id]
            if device.lanes != lanes:
                await self._record(device, lane, lanes[0])
                self._registry.bind(device.id, lanes)

    async def _record(self, device: Attached, lane: str | None, now_at: str) -> None:
        statement: Statement = ("DELETE FROM lane_bindings WHERE device = ?", (device.id,))
        if lane is not None:
            statement = (
                "INSERT INTO lane_bindings(device, lane, at) VALUES (?, ?, ?) "
                "ON CONFLICT (device) DO UPDATE SET lane = excluded.lane, at = excluded.at",
                (device.id, lane, now_utc()),
            )
        fact = DeviceBound(device=device.id, lane=now_at, previous=device.home, home=lane is None)
        try:
            await self._report(fact, also=[statement])
        except NotStored as error:
            raise Rejected("storage_full", f"the binding cannot be recorded: {error}") from None
