"""One cash drawer: what its contact says, the opening in hand, and the facts that come of both.

Strategy: no I/O but the journal's. The contact's levels come in one after the other; each change is written at once,
in the order of the changes, together with what it settles.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from drivers import catalog
from drivers.drawers.pulse import PrinterDrawer
from edge.bus.messages.base import Recorded
from edge.bus.messages.facts import DrawerClosed, DrawerOpened
from edge.devices import drawer_ledger
from edge.devices.drawer_ledger import Known, Opening, OpeningState
from edge.devices.registry import Attached, Report
from edge.journal.clock import Clock
from edge.journal.store import Statement, Store

log = logging.getLogger(__name__)

SETTLED_WITHIN_S = 10.0
"""An opening that the contact could still tell of (receipt, cable pulled, gateway restarted) waits this long for it."""

# How an opening ended, for people; an answer depends on which it is.
NOT_TOLD = "the contact does not tell"
STAYED_CLOSED = "it stayed closed; is it locked?"
WAS_OPEN = "it was open already"
NO_ANSWER = "the printer does not answer"


class Drawer:
    """One drawer: what its contact says, and the opening in hand."""

    def __init__(self, device: Attached, store: Store, report: Report, clock: Clock, known: Known | None) -> None:
        self.device = device
        self.pulse: PrinterDrawer = catalog.build_drawer(device.options)
        self.turn = asyncio.Lock()
        self.level: bool | None = None
        """Open, closed, or not known at the moment."""
        self.known = known
        """As last seen, restarts included; what is on disk."""
        self.pending: Opening | None = None
        self.outcome: asyncio.Future[Opening] | None = None
        """Of the latest opening; done when it is on disk."""
        self.blind = False
        """Whether the contact was out of sight since the opening in hand began."""
        self._timer: asyncio.TimerHandle | None = None
        self._store = store
        self._report = report
        self._clock = clock
        self._writes: set[asyncio.Future[Any]] = set()

    @property
    def calibrated(self) -> bool:
        """Whether the contact's level has a meaning."""
        return self.pulse.options.open_when is not None

    def begin(self, opening: Opening) -> asyncio.Future[Opening]:
        """Take `opening` in hand; the future is done when its outcome is on disk."""
        self.settle("unknown", "another opening was asked for before its outcome was seen")
        self.pending = opening
        self.blind = False
        self.outcome = asyncio.get_running_loop().create_future()
        self._timer = asyncio.get_running_loop().call_later(SETTLED_WITHIN_S, self._time_is_up)
        return self.outcome

    def _time_is_up(self) -> None:
        if self.level is False and not self.blind:
            self.settle("failed", STAYED_CLOSED)
        else:
            self.settle("unknown", "the contact was out of sight while it was opened")

    def settle(self, state: OpeningState, detail: str = "") -> None:
        """Record the outcome of the opening in hand; nothing happens when there is none."""
        opening, settled = self.pending, self.outcome
        if opening is None or settled is None:
            return
        self.stop_waiting()
        self.pending = None
        opening.state, opening.detail = state, detail
        statements = [opening.update()]
        if state == "seen":
            statements.append(self._seen_now(True))
        if state == "failed":
            write: asyncio.Future[Any] = self._store.write(statements)
        else:
            write = self._recorded(
                DrawerOpened(
                    device=opening.device,
                    lane=opening.lane,
                    request=opening.request,
                    operator_id=opening.operator_id,
                    receipt_number=opening.receipt_number,
                    reason=opening.reason,
                    outcome="seen" if state == "seen" else "unknown",
                ),
                statements,
            )
        write.add_done_callback(lambda done: _pass_on(done, settled, opening))

    def stop_waiting(self) -> None:
        """Let the timer of an unsettled opening go."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def contact(self, open_: bool | None) -> None:
        """Take what the contact says."""
        self.level = open_
        if open_ is None:
            return
        before = self.known
        if open_ and (before is None or not before.open):
            if self.pending is not None:
                self.settle("seen")
            else:
                self._opened_without_command()
        elif open_:
            self.settle("failed", WAS_OPEN)  # it stood open all the time: that opening has its fact
        elif before is not None and before.open:
            self._closed(before)
        elif before is None:
            self._keep(self._store.write([self._seen_now(open_)]))
        if not open_ and self.blind:  # it may have been opened and closed again while nobody saw
            self.settle("unknown", "the drawer is closed; whether it had opened was not seen")

    def _opened_without_command(self) -> None:
        log.warning("%s was opened without a command", self.device.id)
        fact = DrawerOpened(device=self.device.id, lane=self.device.lanes[0], request=None, outcome="seen")
        self._recorded(fact, [self._seen_now(True)])

    def _closed(self, before: Known) -> None:
        now = self._clock.now()
        open_ms = now.mono_ms - before.mono_ms if before.boot == now.boot else None
        fact = DrawerClosed(device=self.device.id, lane=self.device.lanes[0], open_ms=open_ms)
        self._recorded(fact, [self._seen_now(False)])

    def _seen_now(self, open_: bool) -> Statement:
        self.known = drawer_ledger.known_now(open_, self._clock.now())
        return drawer_ledger.remember(self.device.id, self.known)

    def _recorded(self, fact: Recorded, statements: list[Statement]) -> asyncio.Future[Any]:
        return self._keep(asyncio.ensure_future(self._report(fact, also=statements)))

    def _keep(self, write: asyncio.Future[Any]) -> asyncio.Future[Any]:
        """Hold on to a write that nobody may await; they are queued in the order of what the contact said."""
        self._writes.add(write)
        write.add_done_callback(self._written)
        return write

    def _written(self, write: asyncio.Future[Any]) -> None:
        self._writes.discard(write)
        if not write.cancelled() and (error := write.exception()) is not None:
            log.error("what happened at %s could not be recorded: %s", self.device.id, error)


def _pass_on(write: asyncio.Future[Any], settled: asyncio.Future[Opening], opening: Opening) -> None:
    """The outcome is on disk, or could not be put there."""
    if settled.done() or write.cancelled():
        return
    error = write.exception()
    if error is None:
        settled.set_result(opening)
    else:
        settled.set_exception(error)
        settled.exception()  # there may be nobody waiting
