"""One cash drawer: what its contact says, the opening in hand, and the facts that come of both.

Strategy: no I/O but the journal's. The contact's levels come in one after the other; each change is written at once,
in the order of the changes, together with what it settles. A drawer that stands open too long is told of once per
opening, also when the gateway was restarted in between.

What the contact's level means comes from the configuration, or where that says nothing from calibration. Where the two
contradict each other neither is believed: the state is unknown, and a person is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from drivers import catalog
from drivers.drawers.pulse import PrinterDrawer
from drivers.drawers.serial_drawer import SerialDrawer
from edge.bus.messages.base import Recorded
from edge.bus.messages.facts import DrawerClosed, DrawerLeftOpen, DrawerOpened
from edge.devices import drawer_ledger
from edge.devices.attached import Attached
from edge.devices.drawer_ledger import Known, Learnt, Opening, OpeningState
from edge.journal.clock import Clock
from edge.journal.store import NotStored, Statement, Store
from edge.services.facts import Report
from edge.supervisor import Background

log = logging.getLogger(__name__)

SETTLED_WITHIN_S = 10.0
"""An opening that the contact could still tell of (receipt, cable pulled, gateway restarted) waits this long for it."""

# How an opening ended, for people; an answer depends on which it is.
NOT_TOLD = "the contact does not tell"
SHARED = f"{NOT_TOLD}: a drawer that shares it is open"
STAYED_CLOSED = "it stayed closed; is it locked?"
WAS_OPEN = "it was open already"
NO_ANSWER = "the printer does not answer"


class Drawer:
    """One drawer: what its contact says, and the opening in hand."""

    def __init__(
        self,
        device: Attached,
        store: Store,
        report: Report,
        clock: Clock,
        known: Known | None,
        learnt: Learnt | None = None,
        tell: Callable[[Drawer], None] = lambda _: None,
    ) -> None:
        self.device = device
        self.opener: PrinterDrawer | SerialDrawer = catalog.build_drawer(device.options)
        """What opens it, and what its contact's level means."""
        self.level: bool | None = None
        """Open, closed, or not known at the moment."""
        self.known = known
        """As last seen, restarts included; what is on disk."""
        self.pending: Opening | None = None
        self.outcome: asyncio.Future[Opening] | None = None
        """Of the latest opening; done when it is on disk."""
        self.blind = False
        """Whether the contact was out of sight since the opening in hand began."""
        self._contact_is_open: bool | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._tell = tell
        self._store = store
        self._report = report
        self._clock = clock
        self._writes = Background(NotStored)
        self._learnt = learnt
        self._calibrating = False
        self._weigh_meaning()

    # -- what the contact's level means ------------------------------------------------------------------------------

    @property
    def calibrated(self) -> bool:
        """Whether the contact's level has a meaning."""
        return self.opener.open_when is not None

    @property
    def complaint(self) -> str:
        """What is wrong between configuration and calibration; empty when nothing."""
        configured, learnt = self.device.options.open_when, self._learnt
        if configured is None or learnt is None or learnt.open_when == configured:
            return ""
        found = f"it is open when {learnt.open_when}" if learnt.open_when else "its contact does not tell"
        return (
            f"Correct open_when of {self.device.id}: the configuration says {configured!r}, calibration found that"
            f" {found}; or calibrate it again"
        )

    @property
    def please(self) -> str:
        """What a person should do about the drawer; empty when nothing."""
        if self.complaint:
            return self.complaint
        name, can_be_learnt = self.device.id, self.device.through is not None
        if can_be_learnt and self.device.options.open_when is None and self._learnt is None:
            return f"Calibrate {name}, so that it tells whether it is open: tillgate devices calibrate {name}"
        return f"Close {name}: it was left open" if self.is_left_open else ""

    @property
    def is_left_open(self) -> bool:
        """Whether it stands open for too long."""
        return bool(self._contact_is_open and self.known is not None and self.known.open and self.known.told)

    def calibrate(self, on: bool) -> None:
        """While it is calibrated its level has no meaning."""
        self._calibrating = on
        self._weigh_meaning()

    async def learn(self, learnt: Learnt) -> None:
        """Take what calibration found: on disk, and in force at once."""
        await self._store.write([drawer_ledger.keep_learnt(self.device.id, learnt)])
        self._learnt = learnt
        self.calibrate(False)

    def _weigh_meaning(self) -> None:
        configured = self.device.options.open_when
        learnt = self._learnt.open_when if self._learnt is not None else None
        self.opener.open_when = None if self._calibrating or self.complaint else configured or learnt

    # -- openings ------------------------------------------------------------------------------------------------------

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
            statements.append(self._seen_now(True, opening.request))
        if state == "failed":
            write: asyncio.Future[Any] = self._keep(self._store.write(statements))
        else:
            write = self._recorded(
                DrawerOpened(
                    device=opening.device,
                    lane=opening.lane,
                    request=opening.request,
                    operator_id=opening.operator_id,
                    operator_verified=bool(opening.operator_verified),
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

    def stop(self) -> None:
        """Wait for nothing any more."""
        self.stop_waiting()
        self._lose_patience()

    # -- what the contact says ---------------------------------------------------------------------------------------

    def contact(self, open_: bool | None, shared_with: tuple[str, ...] = ()) -> None:
        """Take what the contact says; with `shared_with` it may speak of one of those drawers as well."""
        self.level = self._contact_is_open = open_
        if open_ is None:
            self._tell(self)
            return
        before = self.known
        if open_ and (before is None or not before.open):
            if self.pending is not None:
                self.settle("seen")
            else:
                self._opened_without_command(shared_with)
        elif open_:
            self.settle("failed", WAS_OPEN)  # it stood open all the time: that opening has its fact
        elif before is not None and before.open:
            self._closed(before)
        elif before is None:
            self._keep(self._store.write([self._seen_now(open_)]))
        if not open_ and self.blind:  # it may have been opened and closed again while nobody saw
            self.settle("unknown", "the drawer is closed; whether it had opened was not seen")
        if open_ and shared_with and self.known is not None and self.known.request is None:
            self.level = None  # one of them is open, nobody knows which
        self._watch_patience()
        self._tell(self)

    def _opened_without_command(self, shared_with: tuple[str, ...]) -> None:
        log.warning("%s was opened without a command", " or ".join((self.device.id, *shared_with)))
        fact = DrawerOpened(
            device=self.device.id, lane=self.device.home, request=None, outcome="seen", shared_with=shared_with
        )
        self._recorded(fact, [self._seen_now(True)])

    def _closed(self, before: Known) -> None:
        fact = DrawerClosed(device=self.device.id, lane=self.device.home, open_ms=self._open_ms(before))
        self._recorded(fact, [self._seen_now(False)])

    def _open_ms(self, known: Known) -> int | None:
        now = self._clock.now()
        return now.mono_ms - known.mono_ms if known.boot == now.boot else None

    def _seen_now(self, open_: bool, request: str | None = None) -> Statement:
        self.known = drawer_ledger.known_now(open_, self._clock.now(), request)
        return drawer_ledger.remember(self.device.id, self.known)

    # -- left open -----------------------------------------------------------------------------------------------------

    def _watch_patience(self) -> None:
        """Begin to wait where the drawer stands open; where it was opened in an earlier boot, from now on."""
        self._lose_patience()
        known, patience_s = self.known, self.device.options.left_open_s
        if not self._contact_is_open or known is None or known.told or not patience_s:
            return
        stood_ms = self._open_ms(known) or 0
        self._patience = asyncio.get_running_loop().call_later(max(0.0, patience_s - stood_ms / 1000), self._left_open)

    def _lose_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _left_open(self) -> None:
        known = self.known
        if not self._contact_is_open or known is None or not known.open or known.told:
            return  # out of sight: told of when the contact is heard again
        log.warning("%s was left open", self.device.id)
        self.known = replace(known, told=True)
        fact = DrawerLeftOpen(
            device=self.device.id, lane=self.device.home, request=known.request, open_ms=self._open_ms(known)
        )
        self._recorded(fact, [drawer_ledger.remember(self.device.id, self.known)])
        self._tell(self)

    # -- writing -------------------------------------------------------------------------------------------------------

    def _recorded(self, fact: Recorded, statements: list[Statement]) -> asyncio.Future[Any]:
        return self._keep(asyncio.ensure_future(self._report(fact, also=statements)))

    def _keep(self, write: asyncio.Future[Any]) -> asyncio.Future[Any]:
        """Hold on to a write that nobody may await; they are queued in the order of what the contact said."""
        return self._writes.hold(write, f"recording what happened at {self.device.id}")


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
