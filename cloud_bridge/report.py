"""The bridge's own status on the store's bus, from which edge composes the gateway's.

Strategy: whatever changes calls `changed`; one task publishes at most five times a second, retained.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sqlite3
from collections.abc import Callable
from typing import Literal, NoReturn

from cloud_bridge.certificate_days import CertificateDays
from cloud_bridge.cursors import Cursors
from cloud_bridge.forecast import Forecast
from cloud_bridge.meter import Sent
from cloud_bridge.outages import Outages
from cloud_bridge.uplink import Uplink
from edge.bus.envelope import now_utc
from edge.bus.messages.facts import FactClass
from edge.bus.messages.links import BridgeStatus
from edge.bus.messages.statuses import CloudCertificates, Link

QUIET_S = 0.2


class Report:
    """Says how the link is. `publish` puts the payload on the bus, retained."""

    def __init__(self, publish: Callable[[bytes], None], confirm: Literal["hq", "broker"] = "hq") -> None:
        self.uplink: Uplink | None = None
        self.cursors: Cursors | None = None
        self.outages: Outages | None = None
        self.sent = {fact_class: Sent() for fact_class in FactClass}
        self.certificates: CertificateDays | None = None
        self.warnings: dict[str, str] = {}
        """What else a person should know, by code."""
        self.last: BridgeStatus | None = None
        """What was told last."""
        self._publish = publish
        self._confirm = confirm
        self._link: Link = "unknown"
        self._detail = ""
        self._since = now_utc()
        self._dirty = asyncio.Event()
        self._forecast = Forecast()
        self._last = b""
        self._parked = 0

    def changed(self) -> None:
        """Something that the status tells has changed."""
        self._dirty.set()

    def say_again(self) -> None:
        """The broker may have lost what it had retained."""
        self._last = b""
        self.changed()

    def say(self, link: Link, detail: str = "") -> None:
        """The link is now like this; `since` moves only when `link` differs."""
        if self.outages is not None and link != "unknown":
            self.outages.link(link, detail)
        if link != self._link:
            self._since = now_utc()
        self._link, self._detail = link, detail
        self.changed()

    async def run(self) -> NoReturn:
        """Publish whenever something changed."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await self.publish()
            await asyncio.sleep(QUIET_S)

    async def publish(self) -> None:
        """Publish the status if it differs from the last one."""
        self.last = await self.compose()
        payload = self.last.model_dump_json().encode()
        if payload != self._last:
            self._publish(payload)
            self._last = payload

    async def compose(self) -> BridgeStatus:
        """The status as it is now."""
        uplink = self.uplink
        if self.cursors:
            with contextlib.suppress(sqlite3.Error):  # the link is to be told of also when bridge.db cannot be read
                self._parked = await self.cursors.parked()
        if uplink is None:
            return BridgeStatus(link=self._link, since=self._since, detail=self._detail, confirm=self._confirm)
        now = asyncio.get_running_loop().time()
        budget_wait_s = uplink.outbox.budget_wait_s(now)
        backlog = uplink.outbox.backlog()
        self._forecast.see(uplink.outbox.confirmed, now)
        budget = uplink.outbox.budget_bytes_per_s, budget_wait_s, uplink.outbox.budget_left_bytes(now)
        etas = self._forecast.by_class_s(backlog, self.sent, *budget)
        if self._link != "online":
            etas = {}
        waiting = [fact_class for fact_class, facts in backlog.items() if facts]
        return BridgeStatus(
            link=self._link,
            since=self._since,
            detail=self._detail or uplink.hindrance.words,
            epoch=uplink.epoch,
            confirmed=uplink.outbox.confirmed,
            parked=self._parked,
            eta_s=max((etas[name] for name in waiting), default=0) if all(name in etas for name in waiting) else None,
            eta_by_class_s=etas,
            budget_wait_s=math.ceil(budget_wait_s),
            outages=self.outages.last if self.outages is not None else (),
            confirm=self._confirm,
            certificates=self._until(),
            warnings=self.warnings | (self.certificates.warnings() if self.certificates else {}),
        )

    def _until(self) -> CloudCertificates:
        days = self.certificates
        if days is None:
            return CloudCertificates()
        return CloudCertificates(
            own_until=days.own.ends.isoformat() if days.own else None,
            broker_until=days.broker_ends.isoformat() if days.broker_ends else None,
        )


def unknown(detail: str = "") -> bytes:
    """The status of a bridge that is gone: its last will."""
    return BridgeStatus(link="unknown", since=now_utc(), detail=detail).model_dump_json().encode()
