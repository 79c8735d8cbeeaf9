"""The bridge's own status on the store's bus, from which edge composes the gateway's.

Strategy: whatever changes calls `changed`; one task publishes at most five times a second, retained. The time a drain
will still take is estimated from the confirmations of the last few seconds.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Literal, NoReturn

from cloud_bridge.cursors import Cursors
from cloud_bridge.outages import Outages
from cloud_bridge.uplink import Uplink
from edge.bus.envelope import now_utc
from edge.bus.messages.links import BridgeStatus
from edge.bus.messages.statuses import Link

QUIET_S = 0.2
RATE_OVER_S = 10.0


class Report:
    """Says how the link is. `publish` puts the payload on the bus, retained."""

    def __init__(self, publish: Callable[[bytes], None], confirm: Literal["hq", "broker"] = "hq") -> None:
        self.uplink: Uplink | None = None
        self.cursors: Cursors | None = None
        self.outages: Outages | None = None
        self._publish = publish
        self._confirm = confirm
        self._link: Link = "unknown"
        self._detail = ""
        self._since = now_utc()
        self._dirty = asyncio.Event()
        self._rate: deque[tuple[float, int]] = deque()
        self._last = b""

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
        payload = (await self.compose()).model_dump_json().encode()
        if payload != self._last:
            self._publish(payload)
            self._last = payload

    async def compose(self) -> BridgeStatus:
        """The status as it is now."""
        uplink = self.uplink
        parked = await self.cursors.parked() if self.cursors else 0
        if uplink is None:
            return BridgeStatus(link=self._link, since=self._since, detail=self._detail, confirm=self._confirm)
        return BridgeStatus(
            link=self._link,
            since=self._since,
            detail=self._detail or uplink.trouble,
            epoch=uplink.epoch,
            confirmed=uplink.outbox.confirmed,
            parked=parked,
            eta_s=self._eta_s(uplink),
            budget_wait_s=math.ceil(uplink.outbox.budget_wait_s(asyncio.get_running_loop().time())),
            outages=self.outages.last if self.outages is not None else (),
            confirm=self._confirm,
        )

    def _eta_s(self, uplink: Uplink) -> int | None:
        """Seconds until the backlog is drained at the present rate; 0 without a backlog, None when unknown."""
        now = asyncio.get_running_loop().time()
        total = sum(uplink.outbox.confirmed.values())
        self._rate.append((now, total))
        while self._rate[0][0] < now - RATE_OVER_S:
            self._rate.popleft()
        backlog = sum(uplink.outbox.backlog().values())
        if not backlog:
            return 0
        began, before = self._rate[0]
        if self._link != "online" or total <= before or now <= began:
            return None
        return round(backlog * (now - began) / (total - before))


def unknown(detail: str = "") -> bytes:
    """The status of a bridge that is gone: its last will."""
    return BridgeStatus(link="unknown", since=now_utc(), detail=detail).model_dump_json().encode()
