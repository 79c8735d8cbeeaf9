"""The right of one lane to use a device that several share, for a while: a lease, with an expiry and a fencing token.

Strategy: a lease is on disk before it is told. Its token is one more than the device's last, whoever had that, through
restarts and reboots: a request that carries an older one comes from somebody who has lost the device since, and is
refused. A lease counts by the monotonic clock of one boot: it survives a restart of the gateway and is void after a
reboot. It ends when it runs out, is given back, is taken over, or when the till that has it stays away.

A lease is optional: a device that nobody has leased serves its lanes in order of arrival. What was accepted before a
lease began is still done.

Source: design page "Devices" (model); design page "Architecture" (lease).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from edge.bus.messages.facts import DeviceTakenOver
from edge.bus.messages.replies import Code, ProblemError
from edge.devices.attached import Attached
from edge.journal.clock import Clock, wall_text
from edge.journal.store import NotStored, Statement, Store
from edge.services.facts import Report
from edge.services.replies import not_stored
from edge.supervisor import Background

log = logging.getLogger(__name__)

AWAY_S = 10.0
"""A till that is offline for longer loses its leases; a shorter break is a hiccup of the network."""

LEASES_SCHEMA = """
CREATE TABLE IF NOT EXISTS device_leases (
    device TEXT PRIMARY KEY,
    token INTEGER NOT NULL,
    lane TEXT,
    boot TEXT NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Lease:
    """`lane` has the device until `expires_ms` of this boot's monotonic clock; `token` is newer than any before."""

    lane: str
    token: int
    expires_ms: int


class Leases:
    """Who has which device. `open` first. `on_change` hears the id of a device whose lease began, moved or ended."""

    def __init__(self, store: Store, clock: Clock, report: Report, *, away_s: float | None = None) -> None:
        self._store = store
        self._clock = clock
        self._report = report
        self._away_s = AWAY_S if away_s is None else away_s
        self._leases: dict[str, Lease] = {}
        self._tokens: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._away: dict[str, asyncio.TimerHandle] = {}
        self._turn = asyncio.Lock()
        self._background = Background(NotStored)
        self.on_change: Callable[[str], None] = lambda _: None

    async def open(self) -> None:
        """Read what an earlier life granted; what this boot knows nothing of is void, but for its token."""
        now = self._clock.now()
        rows = await self._store.fetch_all("SELECT device, token, lane, boot, expires_ms FROM device_leases")
        for device, token, lane, boot, expires_ms in rows:
            self._tokens[device] = token
            if lane is not None and boot == now.boot and expires_ms > now.mono_ms:
                self._hold(device, Lease(lane, token, expires_ms))

    def close(self) -> None:
        """Forget the timers; what is on disk stays."""
        for handle in (*self._timers.values(), *self._away.values()):
            handle.cancel()

    # -- who has it ------------------------------------------------------------------------------------------------

    def of(self, device_id: str) -> Lease | None:
        """The lease on a device, or None when nobody has it."""
        lease = self._leases.get(device_id)
        return lease if lease is not None and self.left_ms(lease) > 0 else None

    def left_ms(self, lease: Lease) -> int:
        """How long it still runs."""
        return max(0, lease.expires_ms - self._clock.now().mono_ms)

    def until(self, lease: Lease) -> str:
        """When it runs out by the wall clock, UTC; for people, who have no monotonic clock."""
        now = self._clock.now()
        return wall_text(now.offset_ms + lease.expires_ms)

    def check(self, device_id: str, lane: str, token: int | None = None) -> None:
        """Refuse what may not use the device now.

        ProblemError: not_ready (another lane has it; retry_after_ms says for how long at most), expired (`token` is not
        that of the present lease).
        """
        lease = self.of(device_id)
        if lease is not None and lease.lane != lane:
            raise self._taken(device_id, lease)
        if token is not None and (lease is None or lease.token != token):
            raise ProblemError(
                Code.EXPIRED, f"lease {token} of {device_id} has ended; claim it again with device.claim"
            )

    def _taken(self, device_id: str, lease: Lease) -> ProblemError:
        left_ms = self.left_ms(lease)
        detail = f"leased: lane {lease.lane} has {device_id} for up to {-(-left_ms // 1000)} s more"
        return ProblemError(Code.NOT_READY, detail, retry_after_ms=max(1, left_ms))

    # -- granting --------------------------------------------------------------------------------------------------

    async def claim(self, device: Attached, lane: str, for_ms: int, token: int | None = None) -> Lease:
        """Give `lane` the device for `for_ms`, or its lease that much time from now on.

        ProblemError as `check`, and storage_full, faulted.
        """
        async with self._turn:
            self.check(device.id, lane, token)
            mine = self.of(device.id)
            return await self._grant(device.id, lane, for_ms, mine)

    async def take_over(
        self, device: Attached, lane: str, for_ms: int, operator_id: str, reason: str, operator_verified: bool = False
    ) -> Lease:
        """As `claim`, also when another lane has it: that is recorded, and whoever had it is refused from then on."""
        async with self._turn:
            before = self.of(device.id)
            if before is None or before.lane == lane:
                return await self._grant(device.id, lane, for_ms, before)
            fact = DeviceTakenOver(
                device=device.id,
                category=device.category,
                lane=lane,
                from_lane=before.lane,
                operator_id=operator_id,
                operator_verified=operator_verified,
                reason=reason,
                lease=self._tokens[device.id] + 1,
            )
            log.warning("lane %s took %s over from lane %s: %s", lane, device.id, before.lane, reason)
            return await self._grant(device.id, lane, for_ms, None, fact)

    async def _grant(
        self, device_id: str, lane: str, for_ms: int, mine: Lease | None, fact: DeviceTakenOver | None = None
    ) -> Lease:
        token = mine.token if mine is not None else self._tokens.get(device_id, 0) + 1
        lease = Lease(lane, token, self._clock.now().mono_ms + for_ms)
        try:
            if fact is None:
                await self._store.write([self._row(device_id, lease)])
            else:
                await self._report(fact, also=[self._row(device_id, lease)])
        except NotStored as error:
            raise not_stored(error) from error
        self._tokens[device_id] = token
        self._hold(device_id, lease)
        return lease

    def _hold(self, device_id: str, lease: Lease) -> None:
        self._let_go(device_id)
        self._leases[device_id] = lease
        loop = asyncio.get_running_loop()
        self._timers[device_id] = loop.call_later(self.left_ms(lease) / 1000, self._ran_out, device_id)
        self.on_change(device_id)

    # -- ending ----------------------------------------------------------------------------------------------------

    async def release(self, device_id: str, lane: str, token: int | None = None) -> bool:
        """Give the device back; False when there was nothing to give back. ProblemError: not_yours, expired."""
        async with self._turn:
            lease = self.of(device_id)
            if lease is None:
                return False
            if lease.lane != lane:
                raise ProblemError(Code.NOT_YOURS, f"lane {lease.lane} has {device_id}, not lane {lane}")
            self.check(device_id, lane, token)
            await asyncio.wait((self._end(device_id),))
            return True

    def end(self, device_id: str, why: str) -> None:
        """End the lease on a device, whoever has it."""
        if (lease := self.of(device_id)) is not None:
            log.info("the lease of lane %s on %s ended: %s", lease.lane, device_id, why)
            self._end(device_id)

    def present(self, lane: str, online: bool) -> None:
        """A till says that it is there, or the broker that it is gone: after a while its leases end."""
        handle = self._away.pop(lane, None)
        if handle is not None:
            handle.cancel()
        if not online:
            self._away[lane] = asyncio.get_running_loop().call_later(self._away_s, self._stayed_away, lane)

    def _stayed_away(self, lane: str) -> None:
        self._away.pop(lane, None)
        for device_id in [name for name, lease in self._leases.items() if lease.lane == lane]:
            self.end(device_id, "its till is gone")

    def _ran_out(self, device_id: str) -> None:
        lease = self._leases.get(device_id)
        if lease is not None and (left_ms := self.left_ms(lease)) > 0:  # the two clocks differ by some ticks
            loop = asyncio.get_running_loop()
            self._timers[device_id] = loop.call_later(left_ms / 1000, self._ran_out, device_id)
            return
        self._let_go(device_id)
        self.on_change(device_id)

    def _end(self, device_id: str) -> asyncio.Future[None]:
        """End a lease; one whose end does not get on disk runs out by itself."""
        self._let_go(device_id)
        self.on_change(device_id)
        return self._background.hold(
            self._store.write([self._row(device_id, None)]), f"ending the lease on {device_id}"
        )

    def _let_go(self, device_id: str) -> None:
        self._leases.pop(device_id, None)
        if (handle := self._timers.pop(device_id, None)) is not None:
            handle.cancel()

    def _row(self, device_id: str, lease: Lease | None) -> Statement:
        if lease is None:
            return "UPDATE device_leases SET lane = NULL WHERE device = ?", (device_id,)
        return (
            "INSERT INTO device_leases(device, token, lane, boot, expires_ms) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (device) DO UPDATE SET token = excluded.token, lane = excluded.lane, boot = excluded.boot,"
            " expires_ms = excluded.expires_ms",
            (device_id, lease.token, lease.lane, self._clock.now().boot, lease.expires_ms),
        )
