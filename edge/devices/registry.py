"""Every configured device: its driver, who may use it, how it is, and what a person should do about it.

Strategy: a device is built once from the catalogue and runs under the supervisor for as long as the gateway does.
Lost: reopened with backoff. Another thing than configured: stopped until a person corrects the configuration. A bug:
marked faulted. In each case everything else carries on. Events go straight from the driver's callback to whoever
subscribed to their type; nothing is queued on the way.

A status is published (retained) only when it changed; what line noise alone changes, at most once a second. A state is
"unknown" until the device itself has said something: an open port is no proof of a scale.

Source: design pages "Devices" (model) and "The local bus" (devices/{device}/status).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from drivers import catalog
from drivers.driver import Driver
from drivers.errors import BadOption, DeviceLost, NotReady, WrongDevice
from drivers.events import Event, Noise, PrinterStatus, ScaleStatus, Weight
from drivers.scales.scale_driver import Scale, ScaleDriver
from edge.bus import topics
from edge.bus.envelope import now_utc
from edge.bus.errors import BusFull
from edge.bus.messages.facts import DeviceChanged
from edge.bus.messages.replies import Code, ProblemError
from edge.bus.messages.statuses import DeviceState, DeviceStatus
from edge.config import Device as DeviceConfig
from edge.devices.advice import please, printer_detail, printer_please
from edge.supervisor import keep_running

log = logging.getLogger(__name__)

Category = catalog.Category
Quarantine = Callable[[str, str | None, str, str, bytes], None]
"""Keep bad input: origin, lane, code, reason, payload."""
Report = Callable[..., Awaitable[Any]]
"""Record a fact of the gateway's own; keyword `also`: statements of the same transaction. Done when on disk."""

GARBLED = "scan.garbled"
NOISE_QUIET_S = 1.0
"""A line that rattles may change a status this often."""

E = TypeVar("E", bound=Event)
Detail = dict[str, str | bool | None]


@dataclass(slots=True, eq=False)
class Attached:
    """One configured device. `lanes`: the first is its home. `options` are those of its kind, read and checked.

    A device without a link of its own (a drawer, a display behind a printer) has no driver: `through` carries it.
    """

    id: str
    category: Category
    lanes: tuple[str, ...]
    options: Any = None
    driver: Driver | None = None
    through: Attached | None = None
    state: DeviceState = "unknown"
    detail: Detail = field(default_factory=dict)
    please: str = ""
    garbled: int = 0
    since: str = field(default_factory=now_utc)
    fault: str = ""

    @property
    def is_open(self) -> bool:
        """Whether the link to the device, or to the one that carries it, is up."""
        driver = self.driver or (self.through.driver if self.through else None)
        return driver is not None and driver.is_open

    @property
    def scale(self) -> Scale | None:
        """What is asked for a weight: the driver of a scale, or the scale of the scanner that carries it."""
        if isinstance(self.driver, ScaleDriver):
            return self.driver
        carried = getattr(self.through.driver, "scale", None) if self.through else None
        return carried if isinstance(carried, Scale) else None


class Registry:
    """Builds, runs and looks up devices.

    `publish` is `Client.publish_soon`, `report` records a fact of the gateway, `quarantine` keeps bad input.
    Subscribe before `run`. Nothing is opened before `run`.
    """

    def __init__(
        self,
        devices: Iterable[DeviceConfig],
        publish: Callable[..., None],
        report: Report,
        quarantine: Quarantine,
    ) -> None:
        self._publish = publish
        self._report = report
        self._quarantine = quarantine
        self._subscribers: dict[type[Any], list[Callable[[Attached, Any], None]]] = {}
        self._link_watchers: list[Callable[[Attached, bool], None]] = []
        self._due: dict[str, asyncio.TimerHandle] = {}
        self._background: set[asyncio.Future[Any]] = set()
        self._devices: dict[str, Attached] = {}
        configured = tuple(devices)
        for row in configured:
            self._devices[row.id] = self._built(row)
        for row in configured:
            self._join(row, self._devices[row.id], {other.id: other.protocol for other in configured})

    # -- building --------------------------------------------------------------------------------------------------

    def _built(self, row: DeviceConfig) -> Attached:
        kind = catalog.DEVICES[row.protocol]
        device = Attached(row.id, kind.category, row.lanes)
        device.options = catalog.read_device(row.protocol, row.options)
        if kind.through is not None:
            return device
        line = dict(row.transport or {})
        transport = catalog.build_transport(catalog.read_transport(row.protocol, line.pop("kind"), line))
        device.driver = catalog.build_driver(
            row.protocol,
            device.options,
            transport,
            lambda event: self._heard(device, event),
            lambda: self._opened(device),
        )
        return device

    def _join(self, row: DeviceConfig, device: Attached, kinds: dict[str, str]) -> None:
        """Join a device without a link of its own to the one that carries it."""
        through = catalog.DEVICES[row.protocol].through
        if through is None:
            return
        carrier = getattr(device.options, through)
        if kinds.get(carrier) not in catalog.carriers(row.protocol):
            raise BadOption(through, f"is {carrier!r}; expected the id of a {through} of this store that can carry it")
        device.through = self._devices[carrier]

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

    def device_for(self, lane: str, category: Category, device_id: str | None) -> Attached:
        """The device of `category` that `lane` may use; without `device_id` the lane's only one, or its own.

        ProblemError: not_found, not_yours, bad_message (which of several?), faulted.
        """
        if device_id is not None:
            device = self._devices.get(device_id)
            if device is None or device.category != category:
                raise ProblemError(Code.NOT_FOUND, f"there is no {category} {device_id!r} in this store")
            if lane not in device.lanes:
                raise ProblemError(Code.NOT_YOURS, f"{device_id} belongs to {', '.join(device.lanes)}")
        else:
            device = self._only(lane, category)
        if device.fault:
            raise ProblemError(Code.FAULTED, f"{device.id} is stopped: {device.fault}")
        return device

    def _only(self, lane: str, category: Category) -> Attached:
        usable = [device for device in self.all(category) if lane in device.lanes]
        if len(usable) > 1:
            usable = [device for device in usable if device.lanes[0] == lane] or usable
        if not usable:
            raise ProblemError(Code.NOT_FOUND, f"lane {lane} has no {category}")
        if len(usable) > 1:
            names = ", ".join(device.id for device in usable)
            raise ProblemError(Code.BAD_MESSAGE, f"lane {lane} has several of them; name one as 'device': {names}")
        return usable[0]

    # -- running ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run every driver until cancelled."""
        self.publish_all()
        try:
            async with asyncio.TaskGroup() as group:
                for device in self._devices.values():
                    if device.driver is not None:
                        group.create_task(self._kept(device, device.driver), name=f"device {device.id}")
        finally:
            for handle in self._due.values():
                handle.cancel()
            self._due.clear()
            for future in self._background:
                if isinstance(future, asyncio.Task):
                    future.cancel()

    async def _kept(self, device: Attached, driver: Driver) -> None:
        def on_state(state: str, *_: object) -> None:
            if state == "faulted":
                self._set(device, "faulted", {}, f"Tell a technician: {device.id} met a fault of the gateway's own")

        await keep_running(
            f"device {device.id}",
            lambda: self._once(device, driver),
            expected=(DeviceLost,),
            on_state=on_state,
        )

    async def _once(self, device: Attached, driver: Driver) -> NoReturn:
        try:
            await driver.run()
        except WrongDevice as error:
            log.error("%s is stopped: %s", device.id, error)
            device.fault = str(error)
            self._set(device, "faulted", {}, f"Correct the configuration of {device.id}: {error}")
            if (scale := self._scale_behind(device)) is not None:
                self._set(scale, "offline", {}, f"Correct the configuration of {device.id}: {error}")
            await asyncio.get_running_loop().create_future()  # stopped: only a new configuration helps
            raise
        except DeviceLost:
            self._lost(device)
            raise
        finally:
            task = asyncio.current_task()
            if task is None or not task.cancelling():  # stopping is no loss
                for callback in self._link_watchers:
                    callback(device, False)

    def _opened(self, device: Attached) -> None:
        """The link is up: a scanner is there, a printer is about to say how it is, a scale is asked once."""
        if device.category == "scanner":
            self._set(device, "ready", {}, "")
            if (scale := self._scale_behind(device)) is not None:
                self._opened(scale)
        elif device.category == "scale":
            self._set(device, "unknown", {}, "")
            task = asyncio.get_running_loop().create_task(self._first_answer(device), name=f"first answer {device.id}")
            self._keep(task)
        else:
            self._set(device, "unknown", {}, "")
        for callback in self._link_watchers:
            callback(device, True)

    async def _first_answer(self, device: Attached) -> None:
        if device.scale is not None:
            try:
                await device.scale.read()
            except NotReady:
                self.silent(device)
            except DeviceLost:
                return  # its own task tells

    def _lost(self, device: Attached) -> None:
        self._set(device, "offline", {}, please(device.id, "lost"))
        if (scale := self._scale_behind(device)) is not None:
            self._set(scale, "offline", {}, please(device.id, "lost"))

    def _scale_behind(self, scanner: Attached) -> Attached | None:
        """The scale that is reached through this scanner."""
        behind = (one for one in self._devices.values() if one.through is scanner and one.category == "scale")
        return next(behind, None) if scanner.category == "scanner" else None

    # -- what devices say ------------------------------------------------------------------------------------------

    def _heard(self, device: Attached, event: Event) -> None:
        kind = type(event)
        if kind in (Weight, ScaleStatus) and device.category != "scale":
            scale = self._scale_behind(device)
            if scale is None:
                return  # a scanner's scale that nobody configured
            device = scale
        for callback in self._subscribers.get(kind, ()):
            callback(device, event)
        if kind is PrinterStatus:
            self._printer_said(device, event)  # type: ignore[arg-type]  # `kind` has told
        elif kind is Noise:
            self._noise(device, event)  # type: ignore[arg-type]
        elif kind is Weight or kind is ScaleStatus:
            self.answers(device, event.reason if isinstance(event, ScaleStatus) else None)

    def _printer_said(self, device: Attached, status: PrinterStatus) -> None:
        if status.reason is not None:
            state: DeviceState = "not_ready"
        elif status.online is None:
            state = "unknown"
        else:
            state = "ready"
        self._set(device, state, printer_detail(status), printer_please(device.id, status))

    def _noise(self, device: Attached, noise: Noise) -> None:
        self.count_garbled(device)
        code = GARBLED if device.category == "scanner" else f"{device.category}.garbled"
        self._quarantine(device.id, device.lanes[0], code, noise.reason, noise.raw)

    def answers(self, scale: Attached, reason: str | None = None) -> None:
        """The scale has spoken; `reason` is what keeps it from weighing (motion passes by itself and is no state)."""
        stuck = reason in ("over", "under_zero")
        state: DeviceState = "not_ready" if stuck else "ready"
        self._set(scale, state, {"reason": reason} if stuck else {}, please(scale.id, reason or "") if stuck else "")

    def silent(self, device: Attached) -> None:
        """The device was asked and did not answer, though its port is open."""
        self._set(device, "offline", {"reason": "no_answer"}, please(device.id, "no_answer"))

    def count_garbled(self, device: Attached) -> None:
        """One more thing from this device could not be read; its status follows within a second."""
        device.garbled += 1
        if device.id not in self._due:
            loop = asyncio.get_running_loop()
            self._due[device.id] = loop.call_later(NOISE_QUIET_S, self._publish_one, device)

    def drawer_is(self, drawer: Attached, open_: bool | None) -> None:
        """Take what is known of a drawer: True open, False closed, None unknown."""
        if not drawer.is_open:
            carrier = drawer.through or drawer
            self._set(drawer, "offline", {"open": None}, please(carrier.id, "lost"))
        else:
            self._set(drawer, "unknown" if open_ is None else "ready", {"open": open_}, "")

    def display_is(self, display: Attached, reason: str | None = None) -> None:
        """Take what is known of a display that is carried by another device; `reason` keeps that one from carrying."""
        carrier = display.through or display
        if not display.is_open:
            self._set(display, "offline", {}, please(carrier.id, "lost"))
        elif reason is not None:
            self._set(display, "not_ready", {"reason": reason}, please(carrier.id, reason))
        else:
            self._set(display, "unknown", {}, "")

    # -- statuses --------------------------------------------------------------------------------------------------

    def statuses(self) -> list[DeviceStatus]:
        """How every device is now."""
        return [self._status(device) for device in self._devices.values()]

    def publish_all(self) -> None:
        """Publish every status; also after the broker came back without its memory."""
        for device in self._devices.values():
            self._publish_one(device)

    def _status(self, device: Attached) -> DeviceStatus:
        return DeviceStatus(
            device=device.id,
            category=device.category,
            state=device.state,
            detail=device.detail,
            please=device.please,
            lanes=device.lanes,
            garbled=device.garbled,
            since=device.since,
        )

    def _set(self, device: Attached, state: DeviceState, detail: Detail, wanted: str) -> None:
        if (device.state, device.detail, device.please) == (state, detail, wanted):
            return
        changed = device.state != state
        device.state, device.detail, device.please = state, detail, wanted
        if changed:
            device.since = now_utc()
            log.info("%s is %s%s", device.id, state, f": {wanted}" if wanted else "")
            fact = DeviceChanged(device=device.id, category=device.category, state=state, detail=wanted)
            self._keep(asyncio.ensure_future(self._report(fact)))
        self._publish_one(device)

    def _publish_one(self, device: Attached) -> None:
        handle = self._due.pop(device.id, None)
        if handle is not None:
            handle.cancel()
        payload = self._status(device).model_dump_json().encode()
        try:
            self._publish(topics.device_status(device.id), payload, qos=1, retain=True)
        except BusFull as error:
            log.warning("the status of %s is not published: %s", device.id, error)

    def _keep(self, future: asyncio.Future[Any]) -> None:
        """Hold on to what nobody awaits, and say so when it failed."""
        self._background.add(future)
        future.add_done_callback(self._done)

    def _done(self, future: asyncio.Future[Any]) -> None:
        self._background.discard(future)
        if not future.cancelled() and (error := future.exception()) is not None:
            log.warning("a change of a device was not recorded: %s", error)
