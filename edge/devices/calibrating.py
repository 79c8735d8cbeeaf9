"""Calibrating a cash drawer: a technician at the drawer, three steps, and what was learnt is in force at once.

    device.calibrate begin   asks the person to close the drawer
    device.calibrate open    reads the level, opens the drawer (a recorded opening, reason "calibration"), reads again,
                             asks the person to close it
    device.calibrate judge   reads once more, judges, keeps the verdict on disk (`drawer_ledger`)

Each answer says what the person does (`text`) and which step follows (`next`), until `done`. Where only the person can
tell, it asks a `question`, and the next step says yes or no to the parameter of that name. From "open" on the level
has no meaning, so the drawer's state is unknown; a calibration that nobody ends is forgotten. What the configuration
says is never overridden: where it says the opposite, the verdict is kept, the answer and the drawer's status complain,
and the state stays unknown until a person corrects one of the two.

Source: design page "Devices" (cash drawers).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import Field

from drivers.drawers.calibration import Readings, judge, named
from drivers.errors import DeviceLost, NotReady
from drivers.printers.printer_driver import PrinterDriver
from edge.access.roles import Right
from edge.bus.messages.base import Id, Message
from edge.bus.messages.replies import Code, ProblemError
from edge.bus.messages.requests import DrawerOpen
from edge.devices.cash_drawers import CashDrawers
from edge.devices.drawer import Drawer
from edge.devices.drawer_ledger import Learnt
from edge.journal.clock import Clock
from edge.journal.store import NotStored
from edge.services.replies import not_stored
from edge.services.requests import Asked
from edge.services.technician import Service

FORGOTTEN_AFTER_S = 600.0
LOOK_EVERY_S, LOOKS = 0.1, 20
"""A drawer springs open in far less than these together."""
REASON = "calibration"


class Calibrate(Message):
    """One step. A contact that did not change is only believed to tell nothing when `it_opened`; None: asks that."""

    device: Id
    step: Literal["begin", "open", "judge"]
    it_opened: bool | None = Field(default=None, description="with judge: the person saw the drawer spring open")


@dataclass(slots=True)
class _Begun:
    readings: Readings
    forget: asyncio.TimerHandle


class Calibrating:
    """Serves `device.calibrate` at the technician's desk."""

    def __init__(self, drawers: CashDrawers, clock: Clock) -> None:
        self._drawers = drawers
        self._clock = clock
        self._begun: dict[str, _Begun] = {}

    def services(self) -> Mapping[str, Service]:
        """What the desk serves."""
        return {"device.calibrate": Service(Calibrate, self.calibrate, Right.DEVICES, noted=_noted)}

    async def calibrate(self, asked: Asked, parameters: Calibrate) -> dict[str, Any]:
        """``{"done", "text", "next", "question"}``; the last one also ``{"open_when", "saved", "complaint", ...}``."""
        drawer = self._drawers.named(parameters.device)
        if drawer is None:
            raise ProblemError(Code.NOT_FOUND, f"there is no drawer {parameters.device!r} in this store")
        try:
            match parameters.step:
                case "begin":
                    _printer(drawer)  # complains now where nothing can come of it
                    return {"done": False, "next": "open", "text": f"Close {drawer.device.id}"}
                case "open":
                    return await self._open(asked, drawer)
                case "judge":
                    return await self._judge(drawer, parameters)
        except NotReady as error:
            raise ProblemError(Code.NOT_READY, f"{error.reason}: {error}") from error
        except DeviceLost as error:
            raise ProblemError(Code.DEVICE_LOST, str(error)) from error
        except NotStored as error:
            raise not_stored(error) from error

    async def _open(self, asked: Asked, drawer: Drawer) -> dict[str, Any]:
        printer = _printer(drawer)
        self._forget(drawer)
        drawer.calibrate(True)
        forget = asyncio.get_running_loop().call_later(FORGOTTEN_AFTER_S, self._forget, drawer)
        self._begun[drawer.device.id] = begun = _Begun(Readings(), forget)
        try:
            self._look(drawer, printer)
            closed = await _level(printer)
            lane = Asked(drawer.device.home, asked.request_id, asked.deadline_s)
            opening = DrawerOpen(device=drawer.device.id, operator_id="technician", reason=REASON)
            await self._drawers.open_drawer(lane, opening)
            opened = await _changed(printer, closed)
        except BaseException:
            self._forget(drawer)
            raise
        begun.readings = Readings(closed, opened)
        return {
            "done": False,
            "next": "judge",
            "text": f"{drawer.device.id} was told to open. Close it again",
            "closed": named(closed),
            "opened": named(opened),
        }

    async def _judge(self, drawer: Drawer, parameters: Calibrate) -> dict[str, Any]:
        begun = self._begun.get(drawer.device.id)
        if begun is None or begun.readings.opened is None:
            raise ProblemError(Code.CONFLICT, f"{drawer.device.id} is not being calibrated; begin with step 'open'")
        printer = _printer(drawer)
        if begun.readings.closed_again is None:
            begun.readings = replace(begun.readings, closed_again=await _level(printer))
        readings = begun.readings
        same = readings.closed == readings.opened == readings.closed_again and readings.closed is not None
        if same and parameters.it_opened is None:
            text = f"The contact said the same all the time. Did {drawer.device.id} spring open?"
            return {"done": False, "next": "judge", "question": "it_opened", "text": text}
        verdict = judge(readings)
        does_not_tell = same and parameters.it_opened is True
        saved = verdict.open_when is not None or does_not_tell
        if saved:
            await drawer.learn(Learnt(verdict.open_when, self._clock.now().wall))
        self._forget(drawer)
        found = f"open when {verdict.open_when}" if verdict.open_when else "nothing learnt"
        if does_not_tell:
            found = "has no contact that tells; whether it is open is recorded as unknown"
        return {
            "done": True,
            "text": drawer.complaint or f"{drawer.device.id}: {found}{'' if does_not_tell else f'; {verdict.why}'}",
            "open_when": verdict.open_when,
            "closed": named(readings.closed),
            "opened": named(readings.opened),
            "closed_again": named(readings.closed_again),
            "saved": saved,
            "complaint": drawer.complaint,
        }

    def _forget(self, drawer: Drawer) -> None:
        """End the calibration: the level means again what it meant, or what has been learnt."""
        begun = self._begun.pop(drawer.device.id, None)
        if begun is None:
            return
        begun.forget.cancel()
        drawer.calibrate(False)
        carrier = drawer.device.through
        if carrier is not None and isinstance(carrier.driver, PrinterDriver) and carrier.driver.is_open:
            self._look(drawer, carrier.driver)

    def _look(self, drawer: Drawer, printer: PrinterDriver) -> None:
        """Read anew what the contact says, with the meaning that it has now."""
        self._drawers.contact_of(drawer).says(printer.drawer_status)


def _printer(drawer: Drawer) -> PrinterDriver:
    carrier = drawer.device.through
    if carrier is None or not isinstance(carrier.driver, PrinterDriver):
        raise ProblemError(Code.NOT_FOUND, f"{drawer.device.id} hangs on no printer: it has no contact to calibrate")
    if not carrier.driver.is_open:
        raise DeviceLost(f"{carrier.id} is not connected; check its cable and power")
    return carrier.driver


async def _level(printer: PrinterDriver) -> bool | None:
    """The level of pin 3 now."""
    if printer.profile.real_time_status:
        await printer.ask()
    return printer.drawer_status.pin3_high


async def _changed(printer: PrinterDriver, before: bool | None) -> bool | None:
    """The level when it has become another one, or after the time in which a drawer springs open."""
    level = await _level(printer)
    for _ in range(LOOKS):
        if level != before:
            break
        await asyncio.sleep(LOOK_EVERY_S)
        level = await _level(printer)
    return level


def _noted(step: Calibrate) -> str:
    return f"{step.device}: {step.step}"
