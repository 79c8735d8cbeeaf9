"""Cash drawers: opened on request, watched always; every opening is one fact.

Strategy: the contact decides. A commanded opening has a row on disk before the pulse leaves (`drawer_ledger.py`) and
becomes a fact in the transaction that settles the row. When the contact says open, the opening in hand is the reason;
when there is none, the drawer was opened without a command, and that is recorded too. Where the contact cannot tell
(not calibrated, cable pulled, a crash in between) the opening is recorded with the outcome "unknown": what was seen and
what is unknown together bound what happened.

An opening without a command is the same kind of fact with `request` null: one opening is one fact, counted by one type.

An opening runs to its end though the till that asked has gone: only the answer is bound by the till's deadline.

Source: design page "Devices" (cash drawers).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, NoReturn

from drivers.drawers.pulse import PrinterDrawer
from drivers.drawers.serial_drawer import SerialDrawer, SerialDrawerDriver
from drivers.errors import DeviceLost, NotReady
from drivers.events import DrawerStatus
from drivers.printers.printer_driver import PrinterDriver
from edge.bus.messages.replies import Code, ProblemError
from edge.bus.messages.requests import DrawerOpen, DrawerState
from edge.devices import drawer_ledger
from edge.devices.attached import Attached
from edge.devices.contact import Contact
from edge.devices.drawer import NO_ANSWER, NOT_TOLD, STAYED_CLOSED, WAS_OPEN, Drawer
from edge.devices.drawer_ledger import DRAWERS_SCHEMAS, Opening
from edge.devices.registry import Registry
from edge.journal.clock import Clock
from edge.journal.store import NotStored, Store
from edge.services.facts import Report
from edge.services.replies import not_stored
from edge.services.requests import Asked, Handler
from edge.supervisor import Background, keep_running

__all__ = ["DRAWERS_SCHEMAS", "CashDrawers"]

log = logging.getLogger(__name__)

SEEN_WITHIN_S = 2.0
"""A drawer that opens is seen open in far less, unless the printer still has a receipt to print before the pulse."""
RESTORED_WITHIN_MS = 60_000
"""An opening older than this when the gateway starts is not waited for."""
TRIM_EVERY_S = 24 * 3600.0


class CashDrawers:
    """Serves `drawer.open` and `drawer.state`. `open` first, then `run` beside everything else."""

    def __init__(self, registry: Registry, store: Store, report: Report, clock: Clock) -> None:
        self._registry = registry
        self._store = store
        self._report = report
        self._clock = clock
        self._drawers: dict[str, Drawer] = {}
        self._contacts: dict[str, Contact] = {}
        self._background = Background(ProblemError, NotStored)

    async def open(self) -> None:
        """Read what an earlier life left, then listen. An opening left unsettled waits a little for the contact."""
        known, learnt = await drawer_ledger.last_known(self._store), await drawer_ledger.learnt(self._store)
        for device in self._registry.all("drawer"):
            self._drawers[device.id] = Drawer(
                device,
                self._store,
                self._report,
                self._clock,
                known.get(device.id),
                learnt.get(device.id),
                self._tell,
            )
        carriers = {_carrier(drawer.device) for drawer in self._drawers.values()}
        for carrier in carriers:
            hanging = [drawer for drawer in self._drawers.values() if _carrier(drawer.device) is carrier]
            self._contacts[carrier.id] = Contact(hanging)
        now = self._clock.now()
        for opening in await drawer_ledger.unsettled(self._store):
            left = self._drawers.get(opening.device)
            if left is None:
                opening.state, opening.detail = "unknown", "the drawer is no longer in the configuration"
                await self._store.write([opening.update()])
                continue
            left.begin(opening)
            left.blind = True
            recent = opening.boot == now.boot and now.mono_ms - opening.mono_ms < RESTORED_WITHIN_MS
            if not (left.calibrated and recent):
                left.settle("unknown", "the gateway stopped while it was opened")
        self._registry.subscribe(DrawerStatus, self._status)
        self._registry.watch_links(self._link)

    async def run(self) -> NoReturn:
        """Own what runs for the drawers, until cancelled."""
        try:
            await keep_running("cash drawers' housekeeping", self._keep_house, expected=(NotStored,))
        finally:
            await self._background.stop()
            for drawer in self._drawers.values():
                drawer.stop()

    async def _keep_house(self) -> NoReturn:
        while True:
            await self._store.write([drawer_ledger.trim()], urgent=False)
            await asyncio.sleep(TRIM_EVERY_S)

    # -- what the contact says -------------------------------------------------------------------------------------

    def _status(self, carrier: Attached, status: DrawerStatus) -> None:
        contact = self._contacts.get(carrier.id)
        if contact is not None:
            contact.says(status)

    def _link(self, carrier: Attached, up: bool) -> None:
        contact = self._contacts.get(carrier.id)
        if contact is not None:
            contact.lost()

    def _tell(self, drawer: Drawer) -> None:
        self._registry.drawer_is(drawer.device, drawer.level, left_open=drawer.is_left_open, wanted=drawer.please)

    def named(self, device: str) -> Drawer | None:
        """The drawer with this id."""
        return self._drawers.get(device)

    def contact_of(self, drawer: Drawer) -> Contact:
        """The switch line that the drawer hangs on."""
        return self._contacts[_carrier(drawer.device).id]

    # -- requests --------------------------------------------------------------------------------------------------

    def operations(self) -> Mapping[str, Handler]:
        """What tills may ask of drawers."""
        return {"drawer.open": self.open_drawer, "drawer.state": self._state}

    def recoveries(self) -> Mapping[str, Handler]:
        """What became of an opening that a crash interrupted."""
        return {"drawer.open": self._recover}

    async def _state(self, asked: Asked, parameters: DrawerState) -> dict[str, Any]:
        """``{"open": true | false | null}``; null is not known."""
        device = self._registry.find(asked.lane, "drawer", parameters.device)
        return {"open": self._drawers[device.id].level, "device": device.id}

    async def open_drawer(self, asked: Asked, parameters: DrawerOpen) -> dict[str, Any]:
        """``{"opened": true | null, "already_open", "device"}``; `opened` null: the pulse left, nothing can tell."""
        if not parameters.receipt_number and not (parameters.reason or "").strip():
            raise ProblemError(Code.BAD_MESSAGE, "parameters.reason: an opening without receipt_number needs a reason")
        device = self._registry.device_for(asked.lane, "drawer", parameters.device, parameters.lease)
        drawer = self._drawers[device.id]
        return await self._background.finish(self._opening(drawer, asked, parameters), f"open {device.id}")

    async def _opening(self, drawer: Drawer, asked: Asked, parameters: DrawerOpen) -> dict[str, Any]:
        device = drawer.device
        contact = self.contact_of(drawer)
        async with contact.turn:
            if asked.deadline_s <= asyncio.get_running_loop().time():
                raise ProblemError(Code.TIMED_OUT, "another opening took the time; nothing was opened")
            if drawer.level:
                return {"opened": True, "already_open": True, "device": device.id}
            carrier = _carrier(device)
            if not device.is_open:
                raise ProblemError(Code.DEVICE_LOST, f"{carrier.id} is not connected; open it with its key")
            opening = self._row(asked, parameters, device.id)
            try:
                await self._store.write([opening.insert()])
            except NotStored as error:
                raise not_stored(error) from error
            contact.make_way(drawer)
            outcome = drawer.begin(opening)
            try:
                await _kick(carrier, drawer)
            except NotReady as error:
                if error.reason == "no_answer":  # asked before the pulse, and nothing came back
                    drawer.settle("failed", f"{NO_ANSWER}: {error}")
            except DeviceLost:
                drawer.blind = True
            return await self._seen(drawer, opening, outcome, asked.answer_by_s)

    async def _seen(
        self, drawer: Drawer, opening: Opening, outcome: asyncio.Future[Opening], until_s: float
    ) -> dict[str, Any]:
        """Wait for the contact, and for what it says to be on disk."""
        if drawer.calibrated:
            await asyncio.wait((outcome,), timeout=SEEN_WITHIN_S)
        if drawer.pending is opening and drawer.blind:
            if drawer.calibrated:
                raise ProblemError(Code.UNKNOWN_OUTCOME, f"the link to {drawer.device.id} was lost; look at it")
            drawer.settle("unknown", "the printer went away while it was opened")
        elif drawer.pending is opening and drawer.level is None:
            drawer.settle("unknown", NOT_TOLD)
        elif drawer.pending is opening:  # closed so far: the printer may have a receipt to finish first
            await asyncio.wait((outcome,), timeout=until_s - asyncio.get_running_loop().time())
        if drawer.pending is opening:
            raise ProblemError(Code.NOT_READY, f"{drawer.device.id}: {STAYED_CLOSED}")
        try:
            await outcome
        except NotStored as error:
            log.error("an opening of %s waits in its ledger for the journal: %s", drawer.device.id, error)
        return _answer(opening)

    async def _recover(self, asked: Asked, parameters: DrawerOpen) -> dict[str, Any]:
        opening = await drawer_ledger.find(self._store, asked.lane, asked.request_id)
        if opening is None:
            raise ProblemError(Code.TIMED_OUT, "the gateway was restarted before it began; it was not opened")
        drawer = self._drawers.get(opening.device)
        if opening.state == "opening" and drawer is not None and drawer.outcome is not None:
            left_s = asked.answer_by_s - asyncio.get_running_loop().time()
            await asyncio.wait((drawer.outcome,), timeout=left_s)
            opening = await drawer_ledger.find(self._store, asked.lane, asked.request_id) or opening
        return _answer(opening)

    def _row(self, asked: Asked, parameters: DrawerOpen, device: str) -> Opening:
        now = self._clock.now()
        return Opening(
            lane=asked.lane,
            request=asked.request_id,
            device=device,
            operator_id=asked.operator or parameters.operator_id,
            operator_verified=asked.operator is not None,
            receipt_number=parameters.receipt_number,
            reason=parameters.reason,
            at=now.wall,
            boot=now.boot,
            mono_ms=now.mono_ms,
        )


def _carrier(device: Attached) -> Attached:
    """The device whose link carries the drawer's pulse and contact."""
    return device.through or device


async def _kick(carrier: Attached, drawer: Drawer) -> None:
    """Have the drawer opened by whatever carries it; raises NotReady or DeviceLost."""
    match carrier.driver, drawer.opener:
        case PrinterDriver() as printer, PrinterDrawer() as opener:
            await printer.kick(opener)
        case SerialDrawerDriver() as box, SerialDrawer() as opener:
            await box.kick(opener)
        case _:
            raise TypeError(f"{drawer.device.id} cannot be opened through {carrier.id}")


def _answer(opening: Opening) -> dict[str, Any]:
    """What the till is told of a settled opening, or of one that could not be settled in time."""
    seen, was_open = opening.state == "seen", opening.detail == WAS_OPEN
    if seen or was_open or opening.detail.startswith(NOT_TOLD):
        opened = True if seen or was_open else None
        return {"opened": opened, "already_open": was_open, "device": opening.device}
    if opening.state == "failed":
        code = Code.DEVICE_LOST if opening.detail.startswith(NO_ANSWER) else Code.NOT_READY
        raise ProblemError(code, f"{opening.device} was not opened: {opening.detail}")
    raise ProblemError(Code.UNKNOWN_OUTCOME, opening.detail or "it may have been opened; look at it")
