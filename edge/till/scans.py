"""Scans as a till should see them: once, in order, and only while they are fresh.

Strategy: a late scan is worse than none, because it lands in the next customer's basket. The broker already drops
messages that expired on the way; what is left is measured here with this machine's monotonic clock: the time a scan
waited in this program, and how much longer it travelled than the quickest one so far. Comparing wall clocks would
throw everything away on a till whose clock is wrong. A network that stood still delivers its late scans in one burst;
when scans still look late after `BURST_S`, it is the gateway's clock that was set, and measuring starts anew.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from edge.bus.messages.scans import SCAN_EXPIRY_S

BURST_S = 1.0
"""Less than a cashier needs to scan the dropped item again, more than a stalled connection needs to empty itself."""

REMEMBERED = 256
"""Ids kept to recognise a repeat; a person scans about one code a second, so this is minutes."""

MAX_WAITING = 64
"""Scans that wait to be taken; they are stale after seconds anyway."""


@dataclass(frozen=True, slots=True)
class Scan:
    """One code. `embedded` and `gs1` as the gateway cut them out; `missed`: scans lost just before this one."""

    scan_id: str
    counter: int
    text: str
    symbology: str | None
    gtin: str | None
    gs1: dict[str, str] | None
    item: str | None
    price_minor: int | None
    weight: str | None
    unit: str | None
    count: int | None
    add_on: str | None
    captured_at: str
    device: str
    missed: int
    received_s: float = field(repr=False)
    """`time.monotonic()` when it reached this program, already put back by how late it came."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Something was scanned and is not delivered. `please` is for the cashier, `reason` for whoever looks why."""

    code: str
    reason: str
    please: str
    device: str


@dataclass(slots=True)
class ScanCounts:
    """Since start. `stale` were dropped because nobody took them in time, `missed` never came.

    `rejected` the gateway could not deliver; `unreadable` are messages that this library could not read.
    """

    received: int = 0
    repeated: int = 0
    stale: int = 0
    missed: int = 0
    unreadable: int = 0
    rejected: int = 0


class ScanInbox:
    """Takes payloads, hands out `Scan`s. `receive` is called by the bus client, `next` by the till's program."""

    def __init__(
        self, max_age_s: float = float(SCAN_EXPIRY_S), *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.counts = ScanCounts()
        self._max_age_s = max_age_s
        self._monotonic = monotonic
        self._waiting: deque[Scan] = deque()
        self._arrived = asyncio.Event()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._counter: int | None = None
        self._quickest: float | None = None
        self._late_since: float | None = None

    def receive(self, payload: bytes) -> None:
        """One message of the lane's ``scans`` topic. What cannot be read is counted and dropped."""
        try:
            table = orjson.loads(payload)
            scan_id, counter = str(table["scan_id"]), int(table["counter"])
            captured_s = datetime.fromisoformat(table["captured_at"]).timestamp()
            if scan_id in self._seen:
                self.counts.repeated += 1
                return
            scan = self._scan(table, scan_id, counter, self._missed(counter), captured_s)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
            self.counts.unreadable += 1
            return
        self._seen[scan_id] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        self._counter = counter
        self.counts.received += 1
        self.counts.missed += scan.missed
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self.counts.stale += 1
        self._waiting.append(scan)
        self._arrived.set()

    def receive_rejected(self, payload: bytes) -> Rejection | None:
        """One message of the lane's ``scans/rejected`` topic; None (and counted) when it cannot be read."""
        try:
            table = orjson.loads(payload)
            fields = {key: str(table[key]) for key in ("code", "reason", "please", "device")}
        except (orjson.JSONDecodeError, KeyError, TypeError):
            self.counts.unreadable += 1
            return None
        self.counts.rejected += 1
        return Rejection(**fields)

    async def next(self) -> Scan:
        """The next fresh scan, waiting for it as long as it takes."""
        while True:
            while self._waiting:
                scan = self._waiting.popleft()
                if self._monotonic() - scan.received_s <= self._max_age_s:
                    return scan
                self.counts.stale += 1
            self._arrived.clear()
            await self._arrived.wait()

    def discard(self) -> int:
        """Forget what waits, between two customers; returns how many there were."""
        count = len(self._waiting)
        self._waiting.clear()
        return count

    def _missed(self, counter: int) -> int:
        """The hole before `counter`. It starts again at 1 with the gateway; what a restart swallowed is not known."""
        if self._counter is None or counter <= self._counter:
            return 0
        return counter - self._counter - 1

    def _scan(self, table: dict[str, Any], scan_id: str, counter: int, missed: int, captured_s: float) -> Scan:
        embedded = table.get("embedded") or {}
        now = self._monotonic()
        return Scan(
            scan_id=scan_id,
            counter=counter,
            text=str(table["text"]),
            symbology=table.get("symbology"),
            gtin=table.get("gtin"),
            gs1=table.get("gs1"),
            item=embedded.get("item"),
            price_minor=embedded.get("price_minor"),
            weight=embedded.get("weight"),
            unit=embedded.get("unit"),
            count=embedded.get("count"),
            add_on=table.get("add_on"),
            captured_at=str(table["captured_at"]),
            device=str(table.get("device", "")),
            missed=missed,
            received_s=now - self._late_by(now - captured_s, now),
        )

    def _late_by(self, delta: float, now: float) -> float:
        """How much longer this one travelled than the quickest so far, from the difference of the two clocks."""
        if self._quickest is None or delta < self._quickest:
            self._quickest = delta
        if delta - self._quickest <= self._max_age_s:
            self._late_since = None
        elif self._late_since is None:
            self._late_since = now
        elif now - self._late_since > BURST_S:
            self._quickest, self._late_since = delta, None
        return delta - self._quickest
