"""What this store tells HQ of itself: `StoreStatus` on ``up/status``.

Strategy: composed from what edge says (its gateway status and the devices'), what the uplink knows, and the outages.
Published on connecting, `CHANGE_S` after something changed that a person at HQ would act on, and every `BEAT_S`
whatever happens; counters that move with every sale wait for the beat. What is 0 or empty is left out: a quiet store
costs some 300 bytes a minute. The last will belongs to one connection, which is why connections are counted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import NoReturn

from pydantic import ValidationError

from cloud_bridge.outages import Outages
from cloud_bridge.report import Report
from cloud_bridge.uplink import Uplink
from edge.bus.client import Message
from edge.bus.envelope import new_id, now_utc
from edge.bus.messages.facts import FactClass
from edge.bus.messages.links import ClassStatus, StoreStatus
from edge.bus.messages.statuses import DeviceState, DeviceStatus, GatewayStatus

BEAT_S = 60.0
CHANGE_S = 3.0
SHOWN_FAULTS = 16

WELL: frozenset[DeviceState] = frozenset(("ready", "busy", "unknown"))
"""Of a device that cannot say how it is nothing is known, which is no fault."""

_COUNTED = {"number", "online_s", "eta_s", "disk_free_mb", "quarantined", "classes"}
"""Fields that may wait for the beat; of `classes` what was lost may not."""


class StoreVoice:
    """Composes and publishes the status. `publish` may drop it: the next one says it all again."""

    def __init__(
        self,
        uplink: Uplink,
        report: Report,
        outages: Outages,
        devices: Iterable[str],
        publish: Callable[[bytes], None],
        *,
        beat_s: float = BEAT_S,
        change_s: float = CHANGE_S,
    ) -> None:
        self._uplink = uplink
        self._report = report
        self._outages = outages
        self._devices: dict[str, DeviceState] = dict.fromkeys(devices, "unknown")
        self._publish = publish
        self._beat_s = beat_s
        self._change_s = change_s
        self._life = new_id()
        self._connection = 0
        self._number = 0
        self._online_at: float | None = None
        self._since = ""
        self._gateway: GatewayStatus | None = None
        self._dirty = asyncio.Event()
        self._told: StoreStatus | None = None

    # -- what the daemon tells -----------------------------------------------------------------------------------------

    def will(self) -> bytes:
        """The last will of the next connection."""
        return self._ending(self._connection + 1)

    def goodbye(self) -> bytes:
        """The same, said by ourselves: a bridge that is stopped leaves no will."""
        return self._ending(self._connection)

    def _ending(self, connection: int) -> bytes:
        status = StoreStatus(link="unknown", life=self._life, connection=connection)
        return status.model_dump_json(exclude_defaults=True).encode()

    def connected(self) -> None:
        """The link is up, with the last will that was made for it."""
        self._connection += 1
        self._online_at, self._since = self._now(), now_utc()
        self._told = None
        self._dirty.set()

    def lost(self) -> None:
        """The link is gone."""
        self._online_at = None

    def hear_gateway(self, status: GatewayStatus) -> None:
        """Edge says how the gateway is."""
        self._gateway = status
        self._dirty.set()

    def on_device(self, message: Message) -> None:
        """A device says how it is; one that is not configured here (any more) is not told of."""
        with contextlib.suppress(ValidationError):
            status = DeviceStatus.model_validate_json(message.payload)
            if self._devices.get(status.device, status.state) != status.state:
                self._devices[status.device] = status.state
                self._dirty.set()
        message.ack()

    def changed(self) -> None:
        """Something that the status tells may have changed."""
        self._dirty.set()

    # -- running -------------------------------------------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Tell HQ until cancelled."""
        beat_at = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, beat_at - self._now())):
                    await self._dirty.wait()
            self._dirty.clear()
            if self._online_at is not None:
                status = await self._compose()
                if self._now() >= beat_at or self._told is None or _notable(status) != _notable(self._told):
                    self._number += 1
                    self._told = status.model_copy(update={"number": self._number})
                    self._publish(self._told.model_dump_json(exclude_defaults=True).encode())
                    beat_at = self._now() + self._beat_s
            else:
                beat_at = self._now() + self._beat_s
            await asyncio.sleep(self._change_s)

    async def _compose(self) -> StoreStatus:
        gateway, bridge = self._gateway, await self._report.compose()
        certificates = self._report.certificates
        faults = {device: state for device, state in self._devices.items() if state not in WELL}
        status = StoreStatus(
            link="online",
            life=self._life,
            connection=self._connection,
            since=self._since,
            online_s=int(self._now() - self._online_at) if self._online_at is not None else 0,
            epoch=bridge.epoch,
            classes=self._classes(),
            parked=bridge.parked,
            devices=len(self._devices),
            device_faults=dict(sorted(faults.items())[:SHOWN_FAULTS]),
            eta_s=bridge.eta_s or None,
            budget_wait_s=bridge.budget_wait_s,
            confirm=bridge.confirm,
            certificate_days=certificates.own_days if certificates else None,
            broker_certificate_days=certificates.broker_days if certificates else None,
            trouble=bridge.detail[:500],
            outage=next(iter(self._outages.last), None),
        )
        if gateway is None:
            return status
        return status.model_copy(
            update={
                "state": gateway.state,
                "version": gateway.version[:64],
                "clock": gateway.clock,
                "lane_gaps": gateway.lane_gaps,
                "conflicts": gateway.conflicts,
                "quarantined": gateway.quarantined,
                "price_version": gateway.price_version[:200] if gateway.price_version else None,
                "disk_free_mb": gateway.disk_free_mb,
            }
        )

    def _classes(self) -> dict[FactClass, ClassStatus]:
        out: dict[FactClass, ClassStatus] = {}
        for fact_class, track in self._uplink.outbox.tracks.items():
            said = self._gateway.backlog.get(fact_class) if self._gateway is not None else None
            if track.head or (said is not None and (said.evicted or said.expired)):
                waiting = track.head > track.confirmed
                out[fact_class] = ClassStatus(
                    head=track.head,
                    confirmed=track.confirmed,
                    oldest_s=said.oldest_s if said is not None and waiting else None,
                    evicted=said.evicted if said is not None else 0,
                    expired=said.expired if said is not None else 0,
                )
        return out

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _notable(status: StoreStatus) -> tuple[object, ...]:
    """What of a status does not wait for the beat."""
    fields = status.model_dump(exclude=_COUNTED | {"budget_wait_s"})
    lost = {name: (entry.evicted > 0, entry.expired > 0) for name, entry in status.classes.items()}
    return (*fields.items(), status.budget_wait_s > 0, tuple(lost.items()))
