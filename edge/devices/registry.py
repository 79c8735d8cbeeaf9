"""Every configured device: its driver, who may use it, how it is, and what a person should do about it.

Strategy: a device is built once from the catalogue and runs under the supervisor for as long as the gateway does.
Lost: reopened when something is plugged in, or with backoff. Another thing than configured: stopped until something is
plugged in, or a person corrects the configuration. A bug: marked faulted, and started again. In each case everything
else carries on. Events go straight from the driver's callback to whoever subscribed to their type; nothing is queued on
the way.

Source: design pages "Devices" (model) and "The local bus" (devices/{device}/status).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NoReturn, TypeVar

from drivers.driver import Driver
from drivers.errors import DeviceLost, Garbled, NotReady, WrongDevice
from drivers.events import Event, Noise, PrinterStatus, ScaleStatus, Weight
from drivers.printers.printer_driver import PrinterDriver
from drivers.transports.place import Place, place_of
from drivers.transports.usb_identity import UsbFound
from edge.bus.messages.facts import DeviceSwapped
from edge.bus.messages.replies import Code, ProblemError
from edge.config import Device as DeviceConfig
from edge.devices import typed_cards
from edge.devices.assembly import assembled, usb_place, usb_places
from edge.devices.attached import Attached, Category
from edge.devices.hotplug import Hotplug, Plug
from edge.devices.leases import Leases
from edge.devices.places import Places, Seen
from edge.devices.statuses import Statuses
from edge.services.facts import Report
from edge.supervisor import Pauses, keep_running

log = logging.getLogger(__name__)

Quarantine = Callable[[str, str | None, str, str, bytes], None]
"""Keep bad input: origin, lane, code, reason, payload."""

GARBLED = "scan.garbled"
EVENTFUL_PAUSE_S = 15.0
"""Where an event tells when a device is back, looking without one is only for what events do not tell: a busy port."""
PAUSES = Pauses()

E = TypeVar("E", bound=Event)


class Registry(Statuses):
    """Builds, runs and looks up devices.

    `publish` is `Client.publish_soon`, `report` records a fact of the gateway, `quarantine` keeps bad input; `leases`
    and `places` have been opened. Subscribe before `run`. Nothing is opened before `run`.
    """

    def __init__(
        self,
        devices: Iterable[DeviceConfig],
        publish: Callable[..., None],
        report: Report,
        quarantine: Quarantine,
        leases: Leases,
        places: Places,
        *,
        pauses: Pauses = PAUSES,
    ) -> None:
        super().__init__({}, publish, report, leases)
        self._pauses = pauses
        self._hotplug = Hotplug()
        self._quarantine = quarantine
        self._places = places
        self._subscribers: dict[type[Any], list[Callable[[Attached, Any], None]]] = {}
        self._link_watchers: list[Callable[[Attached, bool], None]] = []
        self._devices.update(assembled(tuple(devices), self._heard, self._opened))
        for device in self._devices.values():
            self._leased(device)
        self._behind = {
            device: [one for one in self._devices.values() if one.through is device]
            for device in self._devices.values()
        }
        self._scale_behind = {
            one.through: one for one in self._devices.values() if one.through is not None and one.category == "scale"
        }
        for device_id, place in usb_places(self._devices.values()).items():
            seen = places.last(device_id)
            place.last_port = seen.port if seen is not None else None

    # -- who gets what ---------------------------------------------------------------------------------------------

    def subscribe(self, event_type: type[E], callback: Callable[[Attached, E], None]) -> None:
        """Call `callback` for every event of this type, from inside the driver's callback: it must not block."""
        self._subscribers.setdefault(event_type, []).append(callback)

    def watch_links(self, callback: Callable[[Attached, bool], None]) -> None:
        """Call `callback` with True when a device's link is up, with False when it is gone."""
        self._link_watchers.append(callback)

    def all(self, category: Category | None = None) -> list[Attached]:
        """The devices of `category`, or all."""
        return [device for device in self._devices.values() if category in (None, device.category)]

    def device_for(
        self, lane: str, category: Category, device_id: str | None = None, lease: int | None = None
    ) -> Attached:
        """The device of `category` that `lane` may use now; without `device_id` the lane's only one, or its own.

        `lease` is the token that the lane's claim gave it, if the request carries one. ProblemError: those of `find`,
        faulted, not_ready (another lane has leased it), expired (`lease` has ended).
        """
        device = self.find(lane, category, device_id)
        if device.fault:
            raise ProblemError(Code.FAULTED, f"{device.id} is stopped: {device.fault}")
        self._leases.check(device.id, lane, lease)
        return device

    def may_use(self, lane: str, device: Attached) -> bool:
        """Whether the device is the lane's, and no other lane has leased it; for what goes on for longer."""
        lease = self._leases.of(device.id)
        return lane in device.lanes and (lease is None or lease.lane == lane)

    def find(self, lane: str, category: Category, device_id: str | None = None) -> Attached:
        """The same for somebody who only wants to know something of it: faulted or leased, it is found.

        ProblemError: not_found, not_yours, bad_message (which of several?).
        """
        if device_id is None:
            return self._only(lane, category)
        device = self._devices.get(device_id)
        if device is None or device.category != category:
            raise ProblemError(Code.NOT_FOUND, f"there is no {category} {device_id!r} in this store")
        return self.one_of(lane, device_id)

    def one_of(self, lane: str, device_id: str) -> Attached:
        """The device `device_id`, whatever it is, if `lane` may use it. ProblemError: not_found, not_yours."""
        device = self._devices.get(device_id)
        if device is None:
            raise ProblemError(Code.NOT_FOUND, f"there is no device {device_id!r} in this store")
        if lane not in device.lanes:
            raise ProblemError(Code.NOT_YOURS, f"{device_id} belongs to {', '.join(device.lanes)}")
        return device

    def _only(self, lane: str, category: Category) -> Attached:
        usable = [device for device in self.all(category) if lane in device.lanes]
        if len(usable) > 1:
            usable = [device for device in usable if device.home == lane] or usable
        if not usable:
            raise ProblemError(Code.NOT_FOUND, f"lane {lane} has no {category}")
        if len(usable) > 1:
            names = ", ".join(device.id for device in usable)
            raise ProblemError(Code.BAD_MESSAGE, f"lane {lane} has several of them; name one as 'device': {names}")
        return usable[0]

    def bind(self, device_id: str, lanes: tuple[str, ...]) -> None:
        """Let these lanes use a device from now on, the first as its home; also before `run`, for stored bindings.

        A lease of a lane that may no longer use it ends. ProblemError: not_found, bad_message (no lanes).
        """
        device = self._devices.get(device_id)
        if device is None:
            raise ProblemError(Code.NOT_FOUND, f"there is no device {device_id!r} in this store")
        if not lanes:
            raise ProblemError(Code.BAD_MESSAGE, f"{device_id} needs a lane; a device without one serves nobody")
        if lanes == device.lanes:
            return
        log.info("%s belongs to lane %s now, not %s", device_id, ", ".join(lanes), ", ".join(device.lanes))
        device.lanes = lanes
        lease = self._leases.of(device_id)
        if lease is not None and lease.lane not in lanes:
            self._leases.end(device_id, "its lane may no longer use it")
        self._publish_one(device)

    # -- running ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run every driver until cancelled."""
        self.publish_all()
        running = [(device, device.driver) for device in self._devices.values() if device.driver is not None]
        plugs = {device: self._hotplug.plug(place_of(driver.transport)) for device, driver in running}
        self._hotplug.start()
        try:
            async with asyncio.TaskGroup() as group:
                for device, driver in running:
                    group.create_task(self._kept(device, driver, plugs[device]), name=f"device {device.id}")
        finally:
            self._hotplug.close()
            self._leases.close()
            await self._stop_telling()

    async def _kept(self, device: Attached, driver: Driver, plug: Plug) -> None:
        pauses = self._pauses
        if plug.eventful:
            pauses = replace(pauses, longest_s=max(pauses.longest_s, EVENTFUL_PAUSE_S))
        await keep_running(
            f"device {device.id}",
            lambda: self._once(device, driver, plug),
            expected=(DeviceLost,),
            on_state=lambda state: self._supervised(device, state),
            pauses=pauses,
            pause=plug.wait,
        )

    def _supervised(self, device: Attached, state: str) -> None:
        """The supervisor says how the driver's life goes."""
        if state == "faulted":
            device.broken = True
            self._set(device, "faulted", {}, f"Tell a technician: {device.id} met a fault of the gateway's own")
        elif device.broken:
            device.broken = False
            if state == "lost":
                self._offline(device, device)
            elif device.is_open:
                self._up(device)
                if isinstance(device.driver, PrinterDriver):
                    self.printer_said(device, device.driver.status)

    async def _once(self, device: Attached, driver: Driver, plug: Plug) -> NoReturn:
        told = ""
        while True:
            plug.clear()
            try:
                await driver.run()
            except WrongDevice as error:
                device.fault = str(error)
                self._set(device, "faulted", {}, f"Correct the configuration of {device.id}: {error}")
                if device.fault != told:
                    log.error("%s is stopped: %s", device.id, error)
                told = device.fault
            except DeviceLost as error:
                self._offline(device, device, error)
                raise
            finally:
                task = asyncio.current_task()
                if task is None or not task.cancelling():  # stopping is no loss
                    self._down(device)
            await plug.wait(None)  # a new configuration helps, or that something else is plugged in
            device.fault = ""

    def _opened(self, device: Attached) -> None:
        """The link is up: remember where it was found, and say what is known."""
        place = usb_place(device)
        if place is not None and place.found is not None:
            self._found(device, place, place.found)
        self._up(device)
        for one in (device, *self._behind[device]):
            for callback in self._link_watchers:
                callback(one, True)

    def _down(self, device: Attached) -> None:
        """The link is gone, and with it those of the devices behind."""
        for carried in self._behind[device]:
            self._offline(carried, device)
        for one in (device, *self._behind[device]):
            for callback in self._link_watchers:
                callback(one, False)

    def _up(self, device: Attached) -> None:
        """What an open link says: a scanner is there, a printer is about to say how it is, a scale is asked once."""
        if device.category == "scanner":
            self._set(device, "ready", {}, "")
        else:
            self._unknown(device)
        if device.category == "scale":
            self._background.start(self._first_answer(device), f"first answer {device.id}")
        for carried in self._behind[device]:
            self._up(carried)

    async def _first_answer(self, device: Attached) -> None:
        scale = device.scale
        if scale is None or not scale.protocol.probed:
            return  # it stays unknown until it speaks by itself, or a till asks for a weight
        try:
            await scale.read()
        except (NotReady, Garbled) as error:
            self.refuses(device, error)
        except DeviceLost:
            return  # its own task tells

    def _found(self, device: Attached, place: Place, found: UsbFound) -> None:
        """A device was found by its identity: keep where, and record whether it is another one than before."""
        before, now = self._places.last(device.id), Seen(found.port, found.serial)
        place.last_port = found.port
        if now == before:
            return
        keep = self._places.remember(device.id, now)
        gone = before.serial if before is not None else found.in_place_of
        if gone == found.serial or (before is None and found.in_place_of is None):
            self._background.hold(self._places.store.write([keep]), f"remembering where {device.id} is")
            return
        log.warning("%s was swapped: %s in port %s is now %s", device.id, gone, found.port, found.serial)
        fact = DeviceSwapped(
            device=device.id, category=device.category, port=found.port, serial_before=gone, serial_now=found.serial
        )
        self._background.hold(
            asyncio.ensure_future(self._report(fact, also=[keep])), f"recording that {device.id} was swapped"
        )

    # -- what devices say ------------------------------------------------------------------------------------------

    def _heard(self, device: Attached, event: Event) -> None:
        kind = type(event)
        scale = self._scale_behind.get(device)
        if scale is not None and scale.scale is not None and scale.scale.protocol.owns(event):
            device = scale
        elif kind in (Weight, ScaleStatus) and device.category != "scale":
            return  # a scanner's scale that nobody configured
        for callback in self._subscribers.get(kind, ()):
            callback(device, event)
        if kind is PrinterStatus:
            self.printer_said(device, event)  # type: ignore[arg-type]  # `kind` has told
        elif kind is Noise:
            self._noise(device, event)  # type: ignore[arg-type]
        elif kind is Weight or kind is ScaleStatus:
            self.answers(device, event.reason if isinstance(event, ScaleStatus) else None)

    def _noise(self, device: Attached, noise: Noise) -> None:
        self.count_garbled(device)
        code = GARBLED if device.category == "scanner" else f"{device.category}.garbled"
        raw = b"" if device.category == "scanner" and typed_cards.in_keys(noise.raw) else noise.raw
        self._quarantine(device.id, device.serves, code, noise.reason, raw)
