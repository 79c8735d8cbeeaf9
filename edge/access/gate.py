"""The gate between the broker's tills and the gateway: who is cut off, who is not listened to, what is cleared away.

Strategy: the broker checks certificates and access patterns, and cannot do three things: end a connection that stands
(a revoked lane's), slow one lane for the sake of the others, and judge what is retained. Edge does them here.

- **Cut**: an MQTT server ends a connection when another client comes with the same client id (MQTT 5, 3.1.4-3). Over
  TLS the client id is the lane, so edge comes with the lane's id, over its own socket, and goes again. The lane's
  session ends with it. Proved with mosquitto 2.0.11 and 2.0.21.
- **Shut**: what a shut lane sends is refused, and its connection cut each time it sends something.
- **Flood**: a lane whose messages had to be dropped for `FLOOD_S` on end is cut; one that floods again before its pause
  is over is cut at once. Pauses grow with each time.
- **Retained**: what is retained on a lane's facts or requests is cleared, also what nobody saw arrive: after each cut
  and when edge comes to the bus, the broker is asked for it (`_sweep`).

Nothing here stops a sale: a till that is cut keeps its facts and sends them when it is let in again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from edge.access.audit import Audit
from edge.bus import topics
from edge.bus.address import Address
from edge.bus.client import Client
from edge.bus.errors import BusError
from edge.bus.message import Message
from edge.bus.messages.facts import AuditAction
from edge.services.warnings import Warnings

log = logging.getLogger(__name__)

FLOOD_S = 2.0
CALM_S = 1.0
"""A flood is over when for so long nothing had to be dropped."""
WARNING = "lane_floods"
PAUSE_S = 2.0
LONGEST_PAUSE_S = 300.0
FORGIVEN_S = 600.0
"""After so long without a flood the pauses begin anew."""
CUT_WITHIN_S = 5.0
SWEEP_WITHIN_S = 5.0
SWEEPS = 20
AT_ONCE = 500


@dataclass(slots=True)
class _Flood:
    """What is known of one lane's floods."""

    since_s: float
    last_s: float
    cuts: int = 0
    cut_s: float = 0.0
    paused_until_s: float = 0.0


class Gate:
    """Lets lanes in or not. `run` does what `cut` and the others ask for; without it nothing is cut.

    `publish` is `Client.publish_soon` of edge's own connection.
    """

    def __init__(
        self,
        address: Address,
        lanes: frozenset[str],
        publish: Callable[..., None],
        audit: Audit,
        warnings: Warnings,
    ) -> None:
        self._audit = audit
        self._warnings = warnings
        self._address = address
        self._lanes = lanes
        self._publish = publish
        self._shut: frozenset[str] = frozenset()
        self._floods: dict[str, _Flood] = {}
        self._to_cut: dict[str, str] = {}
        self._swept = False
        self._work = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    # -- who is let in -------------------------------------------------------------------------------------------------

    def lets(self, lane: str) -> bool:
        """Whether what this lane sends is listened to: edge's own check behind the broker's."""
        if lane in self._shut:
            self._audit.record(AuditAction.LANE_REFUSED, "refused", lane=lane, detail="shut")
            self.cut_soon(lane, "this lane is shut")
        return lane in self._lanes and lane not in self._shut

    def shut(self, lanes: Iterable[str]) -> None:
        """From now on these lanes, and no others, are not listened to and are cut when they come. Cuts nobody now."""
        self._shut = frozenset(lanes)

    async def cut(self, lane: str, why: str) -> None:
        """End this lane's connections, if there are any, and its session. Raises BusError when the broker is away."""
        log.warning("lane %s is cut off: %s", lane, why)
        await self._take_over(lane)
        self._swept = False
        self._work.set()

    def cut_soon(self, lane: str, why: str) -> None:
        """The same without waiting, tried until the broker has been reached: of a lane that is shut or in its pause."""
        self._to_cut.setdefault(lane, why)
        self._work.set()

    # -- what is heard -------------------------------------------------------------------------------------------------

    def dropped(self, lane: str) -> None:
        """A message of this lane had to be dropped: it sends far more than it may."""
        now = self._loop.time()
        flood = self._floods.get(lane)
        if flood is None or now - max(flood.last_s, flood.cut_s) > FORGIVEN_S:
            flood = self._floods[lane] = _Flood(now, now)
        elif now - flood.last_s > CALM_S:
            flood.since_s = now
        flood.last_s = now
        if now < flood.paused_until_s:
            self.cut_soon(lane, "it floods again before its pause is over")
        if now - flood.since_s < FLOOD_S or now < flood.paused_until_s:
            return
        pause_s = min(LONGEST_PAUSE_S, PAUSE_S * 2**flood.cuts)
        flood.cuts, flood.cut_s, flood.paused_until_s, flood.since_s = flood.cuts + 1, now, now + pause_s, now
        self.cut_soon(lane, f"it has sent too much for {FLOOD_S:g} s; let in again in {pause_s:g} s")
        self._audit.record(AuditAction.LANE_CUT, lane=lane, detail=f"sends too much; kept out for {pause_s:g} s")
        self._tell_floods()

    def paused_s(self, lane: str) -> float:
        """For how long this lane is still kept out because it flooded."""
        flood = self._floods.get(lane)
        return max(0.0, flood.paused_until_s - self._loop.time()) if flood else 0.0

    def clear(self, topic: str) -> None:
        """Take away what the broker has retained on this topic."""
        with contextlib.suppress(BusError):  # edge ends, or is far behind: the next sweep finds it
            self._publish(topic, b"", qos=1, retain=True)

    # -- what is done --------------------------------------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Cut and sweep, for ever. Raises BusError when the broker is away: for `keep_running`."""
        while True:
            self._work.clear()
            while self._to_cut:
                lane, why = self._to_cut.popitem()  # before the cut: it may come again meanwhile
                if lane in self._lanes - self._shut and not self.paused_s(lane):
                    continue  # it has been let in again: a revoked lane that has enrolled anew
                try:
                    await self.cut(lane, why)
                except BusError:
                    self.cut_soon(lane, why)
                    raise
            if not self._swept and self._quiet():
                self._swept = True
                try:
                    await self._sweep()
                except BusError:
                    self._swept = False
                    raise
            self._tell_calm()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CALM_S):
                    await self._work.wait()

    def sweep(self) -> None:
        """Look for what is retained and should not be, soon."""
        self._swept = False
        self._work.set()

    def _quiet(self) -> bool:
        """Whether no lane floods just now: a sweep would hear all of it, and hold up the next cut."""
        now = self._loop.time()
        return all(now - max(flood.last_s, flood.cut_s) > CALM_S for flood in self._floods.values())

    def _tell_calm(self) -> None:
        now = self._loop.time()
        for lane, flood in list(self._floods.items()):
            if flood.cuts and now > flood.paused_until_s + FLOOD_S and now - flood.last_s > FORGIVEN_S:
                del self._floods[lane]
                self._tell_floods()

    def _tell_floods(self) -> None:
        wild = ", ".join(sorted(lane for lane, flood in self._floods.items() if flood.cuts))
        if wild:
            self._warnings.set(
                WARNING,
                f"the till of lane {wild} sends far more than a till does, and is cut off for a while each time: look"
                " at its program; if it is not your till, revoke the lane (tillgate lanes revoke) and enrol it anew",
            )
        else:
            self._warnings.clear(WARNING)

    async def _take_over(self, client_id: str) -> None:
        client = Client(self._address, client_id=client_id, clean_start=True, session_expiry_s=0)
        try:
            async with asyncio.timeout(CUT_WITHIN_S), client:
                await client.wait_connected()
        except TimeoutError:
            raise client.last_error or BusError(f"the broker does not let us in as {client_id!r}") from None

    async def _sweep(self) -> None:
        """Ask the broker for what it has retained on lanes' facts and requests, and take it away."""
        for _ in range(SWEEPS):
            found: list[str] = []

            def heard(message: Message, found: list[str] = found) -> None:
                message.ack()
                if message.retain and message.payload:
                    found.append(message.topic)

            end = asyncio.Event()
            token = secrets.token_hex(8)
            client = Client(self._address, client_id=f"sweep-{token}", clean_start=True, session_expiry_s=0)
            for topic_filter in (topics.LANE_FACTS_ANY, topics.LANE_REQUESTS_ANY):
                client.on_message(topic_filter, heard, qos=0)
            client.on_message(topics.swept(token), partial(_came, end))
            try:
                async with asyncio.timeout(SWEEP_WITHIN_S), client:
                    await client.wait_connected()
                    await client.publish(topics.swept(token), b"")  # comes back behind all that is retained
                    await end.wait()
            except TimeoutError:
                raise client.last_error or BusError("the broker does not say what it has retained") from None
            if not found:
                return
            log.warning("%d retained messages on lanes' topics are cleared", len(found))
            for start in range(0, len(found), AT_ONCE):
                await asyncio.gather(*map(self._cleared, found[start : start + AT_ONCE]))

    def _cleared(self, topic: str) -> asyncio.Future[None]:
        """Take it away; done when the broker has heard."""
        done: asyncio.Future[None] = self._loop.create_future()

        def told(_: BusError | None) -> None:
            if not done.done():
                done.set_result(None)

        self._publish(topic, b"", qos=1, retain=True, on_done=told)
        return done


def _came(event: asyncio.Event, message: Message) -> None:
    message.ack()
    event.set()
