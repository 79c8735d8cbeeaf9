"""How every device is, told to the tills (retained), to the journal and to the log.

Strategy: a status is published only when it changed; what line noise alone changes, at most once a second. A change of
state is recorded at once, but for no device more than six times a minute: what comes above is gathered into one fact
that counts the changes, so that a loose cable fills neither the journal nor the log. A state is "unknown" until the
device itself has said something: an open port is no proof of a scale.

Source: design pages "Devices" (model) and "The local bus" (devices/{device}/status).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from drivers.errors import Garbled, NotReady
from drivers.events import PrinterStatus
from edge.bus import topics
from edge.bus.envelope import now_utc
from edge.bus.errors import BusFull
from edge.bus.messages.facts import DeviceChanged
from edge.bus.messages.statuses import DeviceState, DeviceStatus, LeaseShown
from edge.devices.advice import SCALE_STUCK, please, printer_detail, printer_please
from edge.devices.attached import Attached, Category, Detail
from edge.devices.leases import Leases
from edge.journal.store import NotStored
from edge.services.facts import Report
from edge.supervisor import Background

log = logging.getLogger(__name__)

NOISE_QUIET_S = 1.0
"""A line that rattles may change a status this often."""
CHANGES_RECORDED, CHANGES_WITHIN_S = 6, 60.0
"""So many changes of a device are recorded in this time; the others are gathered. A person makes fewer."""
WHY_CHARACTERS = 200

SILENT: dict[Category, Detail] = {"drawer": {"open": None}}
"""The detail of a device that has not said anything."""


class Statuses:
    """The statuses of `devices`; only this changes them. `publish` is `Client.publish_soon`."""

    def __init__(
        self,
        devices: dict[str, Attached],
        publish: Callable[..., None],
        report: Report,
        leases: Leases,
        *,
        changes_within_s: float = CHANGES_WITHIN_S,
    ) -> None:
        self._devices = devices
        self._publish = publish
        self._report = report
        self._leases = leases
        self._changes_within_s = changes_within_s
        self._due: dict[str, asyncio.TimerHandle] = {}
        self._gathering: dict[str, asyncio.TimerHandle] = {}
        self._changes: dict[str, int] = {}
        self._recorded: dict[str, deque[float]] = {}
        self._background = Background(NotStored)
        leases.on_change = self._lease_changed

    def statuses(self) -> list[DeviceStatus]:
        """How every device is now."""
        return [self._status(device) for device in self._devices.values()]

    def publish_all(self) -> None:
        """Publish every status; also after the broker came back without its memory."""
        for device in self._devices.values():
            self._publish_one(device)

    # -- what is known of a device ---------------------------------------------------------------------------------

    def answers(self, scale: Attached, reason: str | None = None) -> None:
        """The scale has spoken; `reason` is what keeps it from weighing (what passes by itself is no state)."""
        stuck = reason if reason in SCALE_STUCK else None
        if stuck is None:
            self._set(scale, "ready", {}, "")
        else:
            self._set(scale, "not_ready", {"reason": stuck}, please(scale.id, stuck))

    def refuses(self, scale: Attached, error: NotReady | Garbled) -> None:
        """The scale was asked in vain: it did not answer, though its port is open, or only rubbish came.

        Any other reason is its own word, which `answers` takes.
        """
        if isinstance(error, Garbled) or error.reason == "no_answer":
            state: DeviceState = "not_ready" if isinstance(error, Garbled) else "offline"
            self._set(scale, state, {"reason": error.reason}, please(scale.id, error.reason))

    def printer_said(self, printer: Attached, status: PrinterStatus) -> None:
        """Take a printer's own words."""
        if status.reason is not None:
            state: DeviceState = "not_ready"
        elif status.online is None:
            state = "unknown"
        else:
            state = "ready"
        self._set(printer, state, printer_detail(status), printer_please(printer.id, status))

    def drawer_is(self, drawer: Attached, open_: bool | None, *, left_open: bool = False, wanted: str = "") -> None:
        """Take what is known of a drawer: True open, False closed, None unknown; `wanted` is for a person to do."""
        if not drawer.is_open:
            carrier = drawer.through or drawer
            self._set(drawer, "offline", {"open": None}, please(carrier.id, "lost"))
            return
        detail: Detail = {"open": open_}
        if left_open:
            detail["left_open"] = True
        self._set(drawer, "unknown" if open_ is None else "ready", detail, wanted)

    def display_is(self, display: Attached, reason: str | None = None) -> None:
        """Take what is known of a display that is carried by another device; `reason` keeps that one from carrying."""
        carrier = display.through or display
        if not display.is_open:
            self._set(display, "offline", {}, please(carrier.id, "lost"))
        elif reason is not None:
            self._set(display, "not_ready", {"reason": reason}, please(carrier.id, reason))
        else:
            self._set(display, "unknown", {}, "")

    def count_garbled(self, device: Attached) -> None:
        """One more thing from this device could not be read; its status follows within a second."""
        device.garbled += 1
        if device.id not in self._due:
            loop = asyncio.get_running_loop()
            self._due[device.id] = loop.call_later(NOISE_QUIET_S, self._publish_one, device)

    def _unknown(self, device: Attached) -> None:
        self._set(device, "unknown", dict(SILENT.get(device.category, {})), "")

    def _offline(self, device: Attached, carrier: Attached, error: Exception | None = None) -> None:
        """The link is gone; `carrier` is the device whose cable it is."""
        detail = dict(SILENT.get(device.category, {}))
        if error is not None and device is carrier:
            detail["why"] = str(error)[:WHY_CHARACTERS]
        self._set(device, "offline", detail, please(carrier.id, "lost"))

    # -- telling it ------------------------------------------------------------------------------------------------

    def _set(self, device: Attached, state: DeviceState, detail: Detail, wanted: str) -> None:
        if device.broken and state != "faulted":
            return  # it is restarted again and again: what it says in between is no good news
        if (device.state, device.detail, device.please) == (state, detail, wanted):
            return
        changed = device.state != state
        device.state, device.detail, device.please = state, detail, wanted
        if changed:
            device.since = now_utc()
            self._changes[device.id] = self._changes.get(device.id, 0) + 1
            if device.id not in self._gathering:
                self._record(device)
        self._publish_one(device)

    def _record(self, device: Attached) -> None:
        """Write down how the device is, now or as soon as its share of facts allows."""
        self._gathering.pop(device.id, None)
        loop = asyncio.get_running_loop()
        recorded = self._recorded.setdefault(device.id, deque(maxlen=CHANGES_RECORDED))
        if len(recorded) == CHANGES_RECORDED and (left_s := recorded[0] + self._changes_within_s - loop.time()) > 0:
            self._gathering[device.id] = loop.call_later(left_s, self._record, device)
            return
        recorded.append(loop.time())
        changes = self._changes.pop(device.id)
        if changes > 1:
            log.warning("%s comes and goes: %d changes, %s now; check its cable", device.id, changes, device.state)
        else:
            log.info("%s is %s%s", device.id, device.state, f": {device.please}" if device.please else "")
        fact = DeviceChanged(
            device=device.id, category=device.category, state=device.state, detail=device.please, changes=changes
        )
        self._background.hold(asyncio.ensure_future(self._report(fact)), f"recording a change of {device.id}")

    def _lease_changed(self, device_id: str) -> None:
        if (device := self._devices.get(device_id)) is not None:
            self._leased(device)
            self._publish_one(device)

    def _leased(self, device: Attached) -> None:
        lease = self._leases.of(device.id)
        device.leased_to = lease.lane if lease is not None else None

    def _status(self, device: Attached) -> DeviceStatus:
        lease = self._leases.of(device.id)
        return DeviceStatus(
            device=device.id,
            category=device.category,
            state=device.state,
            detail=device.detail,
            please=device.please,
            lanes=device.lanes,
            lease=LeaseShown(lane=lease.lane, until=self._leases.until(lease)) if lease is not None else None,
            garbled=device.garbled,
            since=device.since,
        )

    def _publish_one(self, device: Attached) -> None:
        handle = self._due.pop(device.id, None)
        if handle is not None:
            handle.cancel()
        payload = self._status(device).model_dump_json().encode()
        try:
            self._publish(topics.device_status(device.id), payload, qos=1, retain=True)
        except BusFull as error:
            log.warning("the status of %s is not published: %s", device.id, error)

    async def _stop_telling(self) -> None:
        """The gateway ends: tell nothing any more."""
        for handle in (*self._due.values(), *self._gathering.values()):
            handle.cancel()
        self._due.clear()
        self._gathering.clear()
        await self._background.stop()
