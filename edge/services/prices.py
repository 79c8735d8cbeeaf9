"""Price versions: taken from the bridge, activated at their local time, looked up by code.

Strategy: the bridge hands over HQ's messages byte for byte, and `price_staging` puts them on disk until a version is
whole. One transaction makes it the active one at its effective time in the store's own zone, WAN or not. A version that
is refused changes nothing: the old one stays.

Source: design pages "Journal, bridge, HQ" (downlink) and "Store services" (prices).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

from edge.bus import frame, topics
from edge.bus.client import Message
from edge.bus.envelope import now_utc
from edge.bus.messages.base import Recorded
from edge.bus.messages.facts import PriceActivated, PriceRefused
from edge.bus.messages.links import Committed
from edge.bus.messages.prices import PriceNotice
from edge.bus.messages.replies import Code, ProblemError
from edge.bus.messages.requests import PriceLookup
from edge.journal.store import Statement, StorageFull, Store, StoreFaulted
from edge.services.facts import Report
from edge.services.price_staging import Refused, Staging, Version
from edge.services.requests import Asked, Handler
from edge.supervisor import Background

log = logging.getLogger(__name__)

LONGEST_SLEEP_S = 60.0
"""The wall clock may jump, so the next activation is looked at again at least this often."""


class Prices:
    """The store's price versions. `run` activates them in time; `on_down` takes what HQ sent."""

    def __init__(
        self,
        store: Store,
        store_id: str,
        zone: ZoneInfo,
        public_key: str | None,
        publish: Callable[..., None],
        report: Report,
    ) -> None:
        self._store = store
        self._publish = publish
        self._report = report
        self._active: Version | None = None
        self._activated_at = ""
        self._changed = asyncio.Event()
        self._staging = Staging(store, store_id, zone, public_key, self._changed.set)
        self._turn = asyncio.Lock()
        self._taking = Background()

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
            "SELECT number, manifest, effective_utc, activated_at FROM price_versions WHERE state = 'active'"
        )
        if row is not None:
            self._active = Version.of(*row[:3])
            self._activated_at = str(row[3])

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

    def on_down(self, message: Message) -> None:
        """Take one downlink message from the bridge; answered on ``bridge/committed`` once it is on disk."""
        self._taking.start(self._taken(message), "price message")

    async def _taken(self, message: Message) -> None:
        """Take it; when the disk does not let us, say nothing: the bridge still owns it and gives it to us again."""
        try:
            await self._take(message)
        except (StorageFull, StoreFaulted) as error:
            log.error("a price message is not kept: %s", error)
            message.ack()

    async def _take(self, message: Message) -> None:
        try:
            header, body = frame.unpack(message.payload)
            stream, epoch, seq = str(header["stream"]), str(header["epoch"]), int(header["seq"])
        except (frame.BadFrame, KeyError, ValueError, TypeError) as error:
            log.error("a downlink message cannot be read: %s", error)
            message.ack()
            return
        ok, detail = True, ""
        async with self._turn:  # in order: a chunk needs its manifest
            try:
                await self._staging.take(header, body)
            except Refused as refused:
                ok, detail = False, refused.detail
                await self._refuse(refused)
        answer = Committed(stream=stream, epoch=epoch, seq=seq, ok=ok, detail=detail)
        self._publish(topics.BRIDGE_COMMITTED, answer.model_dump_json().encode(), qos=1)
        message.ack()

    async def _refuse(self, refused: Refused) -> None:
        log.error("price version %s refused: %s", refused.version or "(unknown)", refused.detail)
        also: list[Statement] = [
            (
                "UPDATE price_versions SET state = 'refused' WHERE version = ? AND state = 'receiving'",
                (refused.version,),
            )
        ]
        await self._record(PriceRefused(version=refused.version, code=refused.code, detail=refused.detail), also)

    # -- in time -------------------------------------------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Activate each staged version when its time has come."""
        while True:
            self._changed.clear()
            wait_s = await self._activate_due()
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                continue  # its time has come, or time to look at the clock again

    async def _activate_due(self) -> float:
        """Activate what is due; returns seconds until the next look."""
        rows = await self._store.fetch_all(
            "SELECT number, manifest, effective_utc FROM price_versions WHERE state = 'staged'"
        )
        now = datetime.now(UTC)
        waiting = sorted(
            (Version.of(*row) for row in rows), key=lambda version: (version.effective_utc, version.number)
        )
        due = [version for version in waiting if version.effective_utc <= now]
        if due:
            await self._activate(due[-1], older=due[:-1])
        later = [version for version in waiting if version.effective_utc > now]
        if not later:
            return 24 * 3600.0
        return min(LONGEST_SLEEP_S, (later[0].effective_utc - now).total_seconds() + 0.001)

    async def _activate(self, version: Version, older: Iterable[Version]) -> None:
        at = now_utc()
        late = (datetime.now(UTC) - version.effective_utc).total_seconds() > LONGEST_SLEEP_S
        retire = [old.number for old in older] + ([self._active.number] if self._active else [])
        statements: list[Statement] = [
            ("UPDATE price_versions SET state = 'retired' WHERE number = ?", (number,)) for number in retire
        ]
        statements.append(
            (
                "UPDATE price_versions SET state = 'active', activated_at = ? WHERE number = ?",
                (at, version.number),
            )
        )
        # A basket in flight keeps its version, so the one before stays; what is older goes.
        keep = self._active.number if self._active else version.number
        statements.append(("DELETE FROM prices WHERE number < ?", (min(keep, version.number),)))
        fact = PriceActivated(
            version=version.manifest.version,
            items=version.manifest.items,
            effective_at=version.manifest.effective_at,
            late=late,
        )
        await self._record(fact, statements)
        self._active, self._activated_at = version, at
        log.info("price version %s is in force: %d items", version.manifest.version, version.manifest.items)
        self.announce()

    async def _record(self, fact: Recorded, also: list[Statement]) -> None:
        await self._report(fact, also=also)

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


def _spellings(code: str) -> Iterable[str]:
    """A GTIN is the same with 8, 12, 13 or 14 digits: as given, then as the other lengths (GS1 GenSpecs 24, 3.3.2)."""
    yield code
    if code.isdigit() and len(code) in (12, 13, 14):
        bare = code.lstrip("0")
        for length in (13, 8, 12, 14):
            if len(bare) <= length and bare.rjust(length, "0") != code:
                yield bare.rjust(length, "0")
