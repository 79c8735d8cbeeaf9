"""Keeps the store's certificates well while edge runs: the broker's fresh, the revoked out, the lanes following.

Strategy: one task looks every few seconds, and at once after any change of the authority. It gives the broker a new
certificate when it needs one, tells mosquitto by SIGHUP to read its files again (connections stay), tells the tills who
certifies, drops a former authority when every lane has followed, and says in the status what a person should mend.
Everything that signs or writes runs in a thread.

A former authority is believed for so many hours of a running gateway, not until a date: a clock that jumps must not
drop it while tills still need it.

Source: design page "In the field" (store authority).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn

from edge.access import broker_identity
from edge.access.audit import Audit
from edge.access.authority import OVERLAP_H, RENEW_LEFT, Authority, Revoked
from edge.access.authority_keys import AuthorityFault
from edge.access.broker_identity import BrokerIdentity
from edge.access.configured import AUTHORITY, runs_with
from edge.access.renewal_pace import RenewalPace
from edge.bus import topics
from edge.bus.messages.authority import RenewedCertificate, StoreAuthority
from edge.bus.messages.facts import AuditAction
from edge.bus.messages.replies import Code, ProblemError
from edge.bus.messages.requests import RenewCertificate
from edge.config import StoreConfig
from edge.journal.clock import Clock, ClockTrust
from edge.services.requests import Asked, Handler
from edge.services.warnings import Warnings

log = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
"""Also how soon a clock that has jumped is noticed."""
HOUR_S = 3600.0
FOLLOWED_FOR_H = 1
"""So long a former authority is believed although every lane has followed: invitations may name it."""
RENEWALS = 6
"""A lane is given so many certificates a day on the bus: each is kept for good."""
ENDING_LEFT = timedelta(days=7)
"""A certificate that its till should have renewed three weeks ago: a person is told."""

RELOADED_S = 2.0
"""mosquitto 2.0 looks for signals ten times a second: who connects in between is let in once more by what it had read,
and cut when it has surely read the new list."""

Cut = Callable[[str, str], object]
"""Ends a lane's present connection: (lane, why)."""


@dataclass(frozen=True, slots=True)
class Hands:
    """What revoking reaches for. `shut`: the lanes of which nothing is taken any more."""

    cut: Cut = lambda lane, why: None
    shut: Callable[[frozenset[str]], object] = lambda lanes: None


class AuthorityCare:
    """Serves the authority within edge. `run` is its task; `announce` when the bus is there (again)."""

    def __init__(
        self,
        authority: Authority,
        config: StoreConfig,
        publish: Callable[..., None],
        clock: Clock,
        warnings: Warnings,
        audit: Audit,
        hands: Hands = Hands(),
    ) -> None:
        self.authority = authority
        self._config = config
        self._publish = publish
        self._clock = clock
        self._warnings = warnings
        self._audit = audit
        self._hands = hands
        self._loop = asyncio.get_running_loop()
        self._look = asyncio.Event()
        self._said: bytes | None = None
        self._shut: frozenset[str] = frozenset()
        self._out: dict[str, str | None] = {}
        """Lanes that a person wants out: the certificate each had, until that is revoked or another is given."""
        self._broker_files: object = None
        self._pace = RenewalPace(RENEWALS)
        self._hour_began = self._loop.time()
        authority.on_change.append(self._changed_somewhere)
        self._changed()

    # -- tills ---------------------------------------------------------------------------------------------------------

    def operations(self) -> Mapping[str, Handler]:
        """What tills may ask."""
        return {"certificate.renew": self._renew}

    def announce(self) -> None:
        """Tell all tills again who certifies: the broker may have lost it."""
        self._said = None
        self._say()

    async def _renew(self, asked: Asked, parameters: RenewCertificate) -> dict[str, Any]:
        from edge.access.certificates import BadRequest

        lane = asked.lane
        if self.authority.newest(lane) is None and await asyncio.to_thread(self._still_none, lane):
            raise ProblemError(Code.NOT_YOURS, f"lane {lane} has no certificate that could be renewed: enrol the till")
        if wait_ms := self._pace.wait_ms(lane):
            raise ProblemError(Code.TOO_FAST, f"{RENEWALS} certificates a day are enough", retry_after_ms=wait_ms)
        try:
            issued = await asyncio.to_thread(self.authority.issue_lane, lane, parameters.csr.encode())
        except BadRequest as error:
            raise ProblemError(Code.BAD_MESSAGE, f"parameters.csr: {error}") from None
        except Revoked as error:
            raise ProblemError(Code.NOT_YOURS, str(error)) from None
        except (AuthorityFault, OSError) as error:
            raise not_done(error) from None
        self._pace.gave(lane)
        log.info("lane %s has a new certificate, until %s", lane, issued.not_after.date())
        result = RenewedCertificate(
            certificate=issued.pem, trusted=self.authority.trusted(), not_after=_utc(issued.not_after)
        )
        return result.model_dump()

    def _still_none(self, lane: str) -> bool:
        self.authority.refresh()
        return self.authority.newest(lane) is None

    async def revoke_lane(self, lane: str, why: str, *, person: str | None = None) -> int:
        """Make every certificate of this lane worthless, at once; how many there were. Raises ProblemError.

        What the lane sends is refused and its connection cut, whatever the disk does; that it is refused on connecting
        too is on disk when this returns.
        """
        had = self.authority.newest(lane)
        self._out[lane] = had.serial if had else None
        self._see_to_shut()
        self._hands.cut(lane, why)
        try:
            gone = await asyncio.to_thread(self.authority.revoke_lane, lane, why)
        except (AuthorityFault, OSError) as error:
            self._audit.record(AuditAction.LANE_REVOKED, "failed", lane=lane, person=person, detail=str(error))
            raise not_done(error) from None
        self._out.pop(lane, None)  # what is revoked says so itself; a lane that had nothing may be enrolled
        self._see_to_shut()
        self._reload("a lane was revoked")
        self._hands.cut(lane, why)
        self._loop.call_later(RELOADED_S, self._cut_again, lane, why)
        self._audit.record(AuditAction.LANE_REVOKED, lane=lane, person=person, detail=f"{len(gone)}: {why}")
        return len(gone)

    def _cut_again(self, lane: str, why: str) -> None:
        if lane in self._shut:
            self._hands.cut(lane, why)

    # -- the authority itself ------------------------------------------------------------------------------------------

    async def rotate(self, *, anew: bool = False, person: str | None = None) -> str:
        """Put a new authority in place of the current one; its fingerprint. Raises RotationOn, AuthorityFault, OSError.

        `anew`: nothing ties it to the old one, every till must be enrolled again; for a key that is lost.
        """
        if anew:
            made = await asyncio.to_thread(self.authority.begin_anew)
        else:
            made = await asyncio.to_thread(self.authority.rotate)
        how = "every till must be enrolled anew" if anew else "lanes follow by renewing"
        known = [runs_with(AUTHORITY, made.fingerprint)]
        self._audit.record(
            AuditAction.AUTHORITY_ROTATED, person=person, subject=made.fingerprint, detail=how, also=known
        )
        await self.care()
        return made.fingerprint

    async def drop_former(self, *, person: str | None = None) -> str | None:
        """Believe the former authority no more, at once; its fingerprint, None when there was none."""
        behind = [lane for lane, followed in self.authority.following().items() if not followed]
        dropped = await asyncio.to_thread(self.authority.drop_former)
        if dropped is None:
            return None
        left = f"; to be enrolled anew: {', '.join(behind)}" if behind else ""
        self._audit.record(
            AuditAction.AUTHORITY_ROTATED, person=person, subject=dropped.fingerprint, detail=f"the former one{left}"
        )
        log.warning("the former authority %s is believed no more%s", dropped.fingerprint[:16], left)
        await self.care()
        return dropped.fingerprint

    # -- care ----------------------------------------------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Look after it, until cancelled."""
        self._reload("edge has started")  # what a crash kept from being told
        while True:
            self._look.clear()
            await self.care()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._look.wait()

    async def care(self) -> None:
        """Look once: see to the broker's certificate, to a rotation, to what is told."""
        failed = ""
        try:
            fresh = await asyncio.to_thread(self._see_to_broker)
            self._see_to_shut()
            if fresh:
                log.info("the broker has a new certificate")
            await self._see_to_rotation()
        except (AuthorityFault, OSError) as error:
            failed = str(error)
        files = BrokerIdentity.of(self._config.state_dir).stamp()
        if files != self._broker_files:
            if self._broker_files is not None:
                self._reload("its files have changed")
            self._broker_files = files
        self._warn(failed)
        self._say()

    def _see_to_broker(self) -> bool:
        self.authority.mend()
        if not self._config.bus.port:
            return False
        identity = BrokerIdentity.of(self._config.state_dir)
        synced = self._clock.now().trust is ClockTrust.SYNCED
        return broker_identity.refresh(self.authority, self._config, identity, synced=synced)

    async def _see_to_rotation(self) -> None:
        hours = int((self._loop.time() - self._hour_began) / HOUR_S)
        self._hour_began += hours * HOUR_S
        former = self.authority.book.former if self.authority.book else None
        if former is None or former.left_h is None:
            return
        if hours:
            left_h = await asyncio.to_thread(self.authority.pass_hours, hours)
            passed = OVERLAP_H - left_h
            if left_h == 0 or (passed >= FOLLOWED_FOR_H and all(self.authority.following().values())):
                await self.drop_former()

    def _reload(self, why: str) -> None:
        if self._config.bus.port:
            broker_identity.reload_broker(self._config.state_dir / "run", why)

    def _changed_somewhere(self) -> None:
        """The authority has changed, in some thread."""
        with contextlib.suppress(RuntimeError):  # edge is ending, the loop is closed
            self._loop.call_soon_threadsafe(self._changed)

    def _changed(self) -> None:
        self._see_to_shut()
        self._look.set()

    def _see_to_shut(self) -> None:
        revoked = {lane for lane, held in self.authority.lanes().items() if held.state == "revoked"}
        for lane, serial in list(self._out.items()):
            held = self.authority.newest(lane)
            if (held.serial if held else None) == serial:
                revoked.add(lane)
            else:
                del self._out[lane]
        shut = frozenset(revoked)
        if shut != self._shut:
            new, self._shut = shut - self._shut, shut
            self._hands.shut(shut)
            for lane in new:  # revoked beside edge, or before it was started: its connection may stand
                self._hands.cut(lane, "revoked")

    def _say(self) -> None:
        book = self.authority.book
        if book is None:
            return
        message = StoreAuthority(
            fingerprint=book.current.fingerprint,
            trusted=book.trusted() + (book.current.cross or ""),
            since=_utc(book.current.since),
            former=book.former.fingerprint if book.former else None,
        )
        payload = message.model_dump_json().encode()
        if payload != self._said:
            self._publish(topics.store_subject("authority"), payload, qos=1, retain=True)
            self._said = payload

    # -- what a person should know -------------------------------------------------------------------------------------

    def _warn(self, failed: str) -> None:
        self._tell("authority", self.authority.fault or failed)
        now, book = self.authority.now(), self.authority.book
        ended = ""
        if book is not None and book.server is not None and self._config.bus.port:
            left = book.server.not_after - now
            if left < RENEW_LEFT / 2:
                when = "has ended" if left < timedelta() else f"ends in {left.days} days"
                ended = (
                    f"The broker's certificate {when} ({_day(book.server.not_after)}; the gateway's date is"
                    f" {_day(now)}) and cannot be renewed: tills that are connected go on, others are kept out."
                    " See to the store authority: tillgate access authority show"
                )
        self._tell("broker.certificate", ended)
        expired, ending = [], []
        for lane, held in self.authority.lanes().items():
            if held.state == "expired":
                expired.append(lane)
            elif held.state == "valid" and held.left < ENDING_LEFT:
                ending.append(lane)
        self._tell(
            "lanes.certificates.expired",
            f"By this gateway's date, {_day(now)}, the certificates of {_lanes(expired)} have expired: set the date if"
            " it is wrong. Tills that are connected go on; the others renew by themselves when they are switched on."
            " One that is gone for good: tillgate lanes revoke LANE"
            if expired
            else "",
        )
        self._tell(
            "lanes.certificates.ending",
            f"The certificates of {_lanes(ending)} end within {ENDING_LEFT.days} days and their tills have not renewed"
            " them: are they switched on, and is their software up to date?"
            if ending
            else "",
        )

    def _tell(self, code: str, text: str) -> None:
        if text:
            self._warnings.set(code, text[:1].upper() + text[1:500])
        else:
            self._warnings.clear(code)


def not_done(error: AuthorityFault | OSError) -> ProblemError:
    """What whoever asked for it hears."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ProblemError(
            Code.STORAGE_FULL,
            "the gateway's disk is full: free some space, then again",
            retry_after_ms=int(HOUR_S * 1000),
        )
    return ProblemError(Code.FAULTED, str(error), retry_after_ms=int(HOUR_S * 1000))


def _lanes(lanes: list[str]) -> str:
    shown = ", ".join(lanes[:8]) + (f" and {len(lanes) - 8} more" if len(lanes) > 8 else "")
    return f"lane{'s' if len(lanes) > 1 else ''} {shown}"


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def _utc(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
