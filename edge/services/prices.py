"""Price versions: taken from the bridge, activated at their local time, looked up by code.

Strategy: `price_staging` puts HQ's messages on disk until a version is whole. One transaction makes it the active one
at its effective time in the store's own zone, WAN or not. A version that is refused changes nothing: the old one stays.
Which of two is in force is a matter of `Version.rank` alone: one that arrives late, whole or still in pieces, is put
away when another has overtaken it.

Source: design pages "Journal, bridge, HQ" (downlink) and "Store services" (prices).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

from edge.bus import topics
from edge.bus.envelope import now_utc
from edge.bus.messages.facts import PriceActivated, PriceRefused
from edge.bus.messages.prices import PriceNotice
from edge.bus.messages.replies import Code, ProblemError
from edge.bus.messages.requests import PriceLookup
from edge.journal.store import Statement, Store
from edge.services.facts import Report
from edge.services.from_hq import Believed, Delivery
from edge.services.price_staging import COLUMNS, ROWS_AT_ONCE, Refused, Staging, Version
from edge.services.requests import Asked, Handler

log = logging.getLogger(__name__)

LONGEST_SLEEP_S = 60.0
"""The wall clock may jump, so the next activation is looked at again at least this often."""


class Prices:
    """The store's price versions. `run` activates them in time; `take` takes what HQ sent."""

    def __init__(
        self,
        store: Store,
        zone: ZoneInfo,
        believed: Believed,
        publish: Callable[..., None],
        report: Report,
    ) -> None:
        self._store = store
        self._publish = publish
        self._report = report
        self._active: Version | None = None
        self._activated_at = ""
        self._changed = asyncio.Event()
        self._staging = Staging(store, zone, believed, self._changed.set)

    @property
    def active(self) -> str | None:
        """The version in force, or None while the store has none."""
        return self._active.manifest.version if self._active else None

    def operations(self) -> Mapping[str, Handler]:
        """The operations that the router lets this service serve."""
        return {"price.lookup": self._lookup}

    async def load(self) -> None:
        """Read what earlier lives of this gateway staged and activated."""
        row = await self._store.fetch_one(
            f"SELECT {COLUMNS}, activated_at FROM price_versions WHERE state = 'active'"  # noqa: S608
        )
        if row is not None:
            self._active = Version.of(*row[:4])
            self._activated_at = str(row[4])

    def announce(self) -> None:
        """Tell every till which version is in force (retained)."""
        if self._active is None:
            return
        notice = PriceNotice(
            version=self._active.manifest.version,
            items=self._active.manifest.items,
            effective_at=self._active.manifest.effective_at,
            activated_at=self._activated_at,
        )
        self._publish(topics.store_subject("prices"), notice.model_dump_json().encode(), qos=1, retain=True)

    # -- from HQ -------------------------------------------------------------------------------------------------------

    async def take(self, delivery: Delivery) -> None:
        """Put one message of the stream ``prices`` on disk; Refused, once that is recorded, when it never will be."""
        try:
            await self._staging.take(delivery)
        except Refused as refused:
            await self._refuse(refused)
            raise

    async def _refuse(self, refused: Refused) -> None:
        log.error("price version %s refused: %s", refused.version or "(unknown)", refused.detail)
        also: list[Statement] = [
            (
                "UPDATE price_versions SET state = 'refused' WHERE version = ? AND state = 'receiving'",
                (refused.version,),
            )
        ]
        fact = PriceRefused(version=refused.version, code=refused.code, detail=refused.detail)
        await self._report(fact, also=also)

    # -- in time -------------------------------------------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Activate each staged version when its time has come."""
        while True:
            self._changed.clear()
            wait_s = await self._activate_due()
            await self._clear_away()
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                continue  # its time has come, or time to look at the clock again

    async def _activate_due(self) -> float:
        """Activate what is due and not overtaken; returns seconds until the next look."""
        rows = await self._store.fetch_all(
            f"SELECT {COLUMNS}, state FROM price_versions WHERE state IN ('receiving', 'staged')"  # noqa: S608
        )
        now = datetime.now(UTC)
        waiting = [(Version.of(*row[:4]), row[4]) for row in rows]
        best = max(
            (version for version, state in waiting if state == "staged" and version.effective_utc <= now),
            key=lambda version: version.rank,
            default=None,
        )
        in_force = self._active if best is None or (self._active and self._active.rank > best.rank) else best
        overtaken = [version for version, _ in waiting if in_force and version.rank < in_force.rank]
        if best is not None and best is in_force:
            await self._activate(best, overtaken)
        elif overtaken:
            await self._store.write([_retired(version) for version in overtaken])
        for version in overtaken:
            log.info("price version %s is put away: %s has overtaken it", version.manifest.version, self.active)
        later = [
            version.effective_utc for version, state in waiting if state == "staged" and version.effective_utc > now
        ]
        if not later:
            return 24 * 3600.0
        return min(LONGEST_SLEEP_S, (min(later) - now).total_seconds() + 0.001)

    async def _activate(self, version: Version, overtaken: Sequence[Version]) -> None:
        at = now_utc()
        late = (datetime.now(UTC) - version.effective_utc).total_seconds() > LONGEST_SLEEP_S
        retire = [*overtaken, self._active] if self._active else overtaken
        statements: list[Statement] = [_retired(old) for old in retire]
        statements.append(
            (
                "UPDATE price_versions SET state = 'active', activated_at = ? WHERE number = ?",
                (at, version.number),
            )
        )
        fact = PriceActivated(
            version=version.manifest.version,
            items=version.manifest.items,
            effective_at=version.manifest.effective_at,
            late=late,
        )
        await self._report(fact, also=statements)
        self._active, self._activated_at = version, at
        log.info("price version %s is in force: %d items", version.manifest.version, version.manifest.items)
        self.announce()

    async def _clear_away(self) -> None:
        """Remove the prices of versions that are over, some at a time: a till's fact does not wait for all of them.

        A basket in flight keeps its version, so the one that was in force before stays.
        """
        before = await self._store.fetch_one(
            "SELECT number FROM price_versions WHERE state = 'retired' AND activated_at IS NOT NULL"
            " ORDER BY activated_at DESC, number DESC LIMIT 1"
        )
        over = await self._store.fetch_all(
            "SELECT number FROM price_versions WHERE state IN ('retired', 'refused') AND number IS NOT ?",
            (before[0] if before else None,),
        )
        some = (
            "DELETE FROM prices WHERE number = ?1"
            " AND code IN (SELECT code FROM prices WHERE number = ?1 ORDER BY code LIMIT ?2)"
        )
        for (number,) in over:
            while await self._store.fetch_one("SELECT 1 FROM prices WHERE number = ? LIMIT 1", (number,)):
                await self._store.write([(some, (number, ROWS_AT_ONCE))])
            await self._store.write([("DELETE FROM price_chunks WHERE number = ?", (number,))], urgent=False)

    # -- look-up -------------------------------------------------------------------------------------------------------

    async def _lookup(self, asked: Asked, parameters: PriceLookup) -> dict[str, Any]:
        if self._active is None:
            raise ProblemError(Code.NOT_FOUND, "the store has no price version yet; HQ publishes one")
        for code in _spellings(parameters.code):
            row = await self._store.fetch_one(
                "SELECT code, text, price_minor, per, tax FROM prices WHERE number = ? AND code = ?",
                (self._active.number, code),
            )
            if row is not None:
                return {
                    **dict(zip(("code", "text", "price_minor", "per", "tax"), row, strict=True)),
                    "currency": self._active.manifest.currency,
                    "version": self._active.manifest.version,
                }
        raise ProblemError(Code.NOT_FOUND, f"{parameters.code!r} is not in price version {self.active}")


def _retired(version: Version) -> Statement:
    return "UPDATE price_versions SET state = 'retired' WHERE number = ?", (version.number,)


def _spellings(code: str) -> Iterable[str]:
    """A GTIN is the same with 8, 12, 13 or 14 digits: as given, then as the other lengths (GS1 GenSpecs 24, 3.3.2)."""
    yield code
    if code.isdigit() and len(code) in (12, 13, 14):
        bare = code.lstrip("0")
        for length in (13, 8, 12, 14):
            if len(bare) <= length and bare.rjust(length, "0") != code:
                yield bare.rjust(length, "0")
