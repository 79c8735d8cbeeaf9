"""Customer displays: the newest picture stands on them, and the idle text when there is nothing to show.

Strategy: one `Face` per display knows what should stand on it now. It is painted when a till shows something, when its
time is over, and whenever the way to the display is free again (plugged in, the printer that carries it has paper), so
a display that was away shows the present, not the past. What a till showed stays the present also where it could not
be painted; the till is told. Nothing is kept on disk: after a restart the idle text stands there until a till shows
more.

A display tells nothing, so its state is "unknown" while its way is up; `not_ready` with the printer's reason where the
printer that carries it is stuck.

Source: design page "Devices" (customer displays).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from drivers import catalog
from drivers.displays.base import Display, Line, Picture, behind_printer
from drivers.displays.display_driver import DisplayDriver, LatestWins
from drivers.errors import DeviceLost, NotReady
from drivers.events import PrinterStatus
from drivers.printers.printer_driver import PrinterDriver
from edge.bus.messages.replies import Code, ProblemError
from edge.bus.messages.requests import DisplayShow
from edge.devices.attached import Attached
from edge.devices.display_lines import lines_of
from edge.devices.registry import Registry
from edge.services.requests import Asked, Handler
from edge.supervisor import Background

log = logging.getLogger(__name__)


class Face:
    """One display: what should stand on it, and the way there."""

    def __init__(self, device: Attached, registry: Registry) -> None:
        self.device = device
        self._registry = registry
        driver = device.driver
        self.display: Display = (
            driver.display if isinstance(driver, DisplayDriver) else catalog.build_display(device.options)
        )
        self._pictures = LatestWins(self._through_printer)
        self._lines: Sequence[Line] = device.options.idle
        self._timer: asyncio.TimerHandle | None = None
        self._painting = Background()

    async def show(self, lines: Sequence[Line], for_ms: int | None) -> tuple[Picture, bool]:
        """Show `lines` and return when they have left; False: something newer came first. NotReady, DeviceLost."""
        picture = self.display.picture(lines)  # before anything changes: it may not fit
        self._lines = lines
        self._idle_in(for_ms / 1000 if for_ms is not None else self.device.options.idle_after_s or None)
        return picture, await self._carry(picture)

    async def show_idle(self) -> tuple[Picture, bool]:
        """Show the idle text; the display is set anew with it."""
        self._lines = self.device.options.idle
        self._idle_in(None)
        picture = self.display.picture(self._lines, fresh=True)
        return picture, await self._carry(picture)

    def repaint(self) -> None:
        """The way to the display is free: show what should stand there."""
        self._soon(self.display.picture(self._lines, fresh=True))

    async def stop(self) -> None:
        """Show nothing any more."""
        self._idle_in(None)
        await self._painting.stop()
        await self._pictures.stop()

    def _idle_in(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(seconds, self._time_is_over) if seconds is not None else None

    def _time_is_over(self) -> None:
        self._lines = self.device.options.idle
        self.repaint()

    def _soon(self, picture: Picture) -> None:
        self._painting.start(self._paint(picture), f"paint {self.device.id}")

    async def _paint(self, picture: Picture) -> None:
        try:
            await self._carry(picture)
        except (NotReady, DeviceLost) as error:
            log.info("%s is not painted, it will be when its way is free: %s", self.device.id, error)

    async def _carry(self, picture: Picture) -> bool:
        if isinstance(self.device.driver, DisplayDriver):
            return await self.device.driver.show(picture.data)
        return await self._pictures.show(behind_printer(picture.data))

    async def _through_printer(self, data: bytes) -> None:
        carrier = self.device.through
        if carrier is None or not isinstance(carrier.driver, PrinterDriver):
            raise DeviceLost(f"{self.device.id} has no printer that could carry it")
        try:
            await carrier.driver.pass_through(data)
        except NotReady as error:
            self._registry.display_is(self.device, error.reason)
            raise


class Displays:
    """Serves `display.show`. Made before the registry runs; `run` stands beside everything else."""

    def __init__(self, registry: Registry, currency: str) -> None:
        self._registry = registry
        self._currency = currency
        self._faces = {device.id: Face(device, registry) for device in registry.all("display")}
        registry.watch_links(self._link)
        registry.subscribe(PrinterStatus, self._printer)

    async def run(self) -> NoReturn:
        """Own what runs for the displays, until cancelled."""
        try:
            while True:
                await asyncio.get_running_loop().create_future()
        finally:
            for face in self._faces.values():
                await face.stop()

    def operations(self) -> Mapping[str, Handler]:
        """What tills may ask of displays."""
        return {"display.show": self._show}

    async def _show(self, asked: Asked, parameters: DisplayShow) -> dict[str, Any]:
        """``{"shown": bool, "lines", "replaced", "device"}``; `shown` false: something newer came before it began."""
        device = self._registry.device_for(asked.lane, "display", parameters.device, parameters.lease)
        face = self._faces[device.id]
        try:
            if parameters.template == "idle":
                picture, shown = await face.show_idle()
            else:
                lines = lines_of(parameters, device.options, self._currency)
                picture, shown = await face.show(lines, parameters.for_ms)
        except ValueError as error:
            raise ProblemError(Code.BAD_MESSAGE, f"parameters: {error}") from error
        except NotReady as error:
            raise ProblemError(Code.NOT_READY, f"{error.reason}: {error}") from error
        except DeviceLost as error:
            raise ProblemError(Code.DEVICE_LOST, str(error)) from error
        return {"shown": shown, "lines": list(picture.lines), "replaced": picture.replaced, "device": device.id}

    # -- the way to a display ------------------------------------------------------------------------------------------

    def _link(self, device: Attached, up: bool) -> None:
        for face in self._faces.values():
            if face.device is device or face.device.through is device:
                if face.device.through is not None:
                    self._registry.display_is(face.device)
                if up:
                    face.repaint()

    def _printer(self, printer: Attached, status: PrinterStatus) -> None:
        for face in self._faces.values():
            if face.device.through is printer and face.device.state == "not_ready" and status.reason is None:
                self._registry.display_is(face.device)
                face.repaint()
