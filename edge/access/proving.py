"""Proving who one is: one path for everybody, in one order, with one answer when it fails.

Strategy: first whether this person may try here now, then the password (with the same work for somebody who does not
exist), then the second factor; what of it was wrong is not said. One at a time, off the event loop. All of it is done
here, with HQ or without, and with a full disk too: what a log-in leaves counts at once and is written soon.

Sources: NIST SP 800-63B-4; OWASP Authentication Cheat Sheet (the same answer whatever was wrong).
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, replace
from functools import partial

from edge.access import passwords, recovery, totp
from edge.access.audit import Audit
from edge.access.lockout import Lockout
from edge.access.passwords import Hasher, TooBusy
from edge.access.places import BOX, lane_of
from edge.access.register import App, Kept, Register
from edge.access.roles import Person
from edge.bus.messages.facts import AuditAction
from edge.bus.messages.replies import Code, ProblemError
from edge.journal.clock import Clock, ClockTrust, Stamp
from edge.supervisor import Background

REFUSED = "person, password or code is wrong"
"""Whatever of it was wrong, and whether there is such a person."""
BUSY_MS = 1_000


_NOBODYS_APP = App(secret=base64.b64encode(bytes(totp.SECRET_BYTES)).decode())


@dataclass(frozen=True, slots=True)
class _Good:
    """What a good proof leaves: a hash with today's parameters, the app's step, the recovery codes that are left."""

    password: str | None = None
    step: int | None = None
    recovery: recovery.RecoveryCodes | None = None


class Proving:
    """Checks who somebody is. `turn` is held meanwhile, and by whoever changes what is kept of a person."""

    def __init__(self, register: Register, lockout: Lockout, audit: Audit, clock: Clock) -> None:
        self._register = register
        self._lockout = lockout
        self._audit = audit
        self._clock = clock
        self._at: set[str] = set()
        self._background = Background(ProblemError)
        self.hasher = Hasher()
        self.turn = asyncio.Lock()

    async def prove(self, id_: str, password: str, code: str | None, place: str) -> Person:
        """Who it is, from their password and, where they have one, a code of their app or a recovery code.

        ProblemError: `log_in_refused` whatever was wrong, `too_fast` with how long to wait.
        """
        if place in self._at and place != BOX:  # a lane that asks for many at once would keep the others waiting
            raise ProblemError(Code.TOO_FAST, "one log-in at a time", retry_after_ms=BUSY_MS)
        # To its end, also when the till's deadline is over: a wrong try is counted however soon its asker goes.
        return await self._background.finish(self._in_turn(id_, password, code or "", place), f"log-in at {place}")

    async def _in_turn(self, id_: str, password: str, code: str, place: str) -> Person:
        self._at.add(place)
        try:
            async with self.turn:
                return await self._prove(id_, password, code, place)
        finally:
            self._at.discard(place)

    async def _prove(self, id_: str, password: str, code: str, place: str) -> Person:
        wait_s = self._lockout.wait_s(id_, place)
        if wait_s > 0:
            wait_ms = int(wait_s * 1000) + 1
            raise ProblemError(Code.TOO_FAST, "after wrong tries there is a pause", retry_after_ms=wait_ms)
        kept = self._register.get(id_)
        try:
            good = await self.hasher.run(partial(_check, kept, password, code, self._clock.now()))
        except TooBusy:
            raise ProblemError(Code.TOO_FAST, "too many log in at once", retry_after_ms=BUSY_MS) from None
        if good is None or kept is None:
            self._wrong(id_, kept, place)
            raise ProblemError(Code.LOG_IN_REFUSED, REFUSED)
        self._register.keep_soon(self._lockout.succeeded(id_, place))
        self._leave(id_, kept, good, place)
        return Person(id_, kept.name, kept.role)

    def _leave(self, id_: str, kept: Kept, good: _Good, place: str) -> None:
        if good.password is not None:
            self._register.change_soon(id_, password=good.password)
        if good.step is not None and kept.app is not None:
            self._register.change_soon(id_, app=kept.app.model_copy(update={"last_step": good.step}))
        if good.recovery is not None:
            self._register.change_soon(id_, recovery_hashes=good.recovery.hashes)
            left = f"{len(good.recovery.hashes)} are left"
            self._audit.record(
                AuditAction.RECOVERY_CODE_USED, person=id_, role=kept.role, lane=lane_of(place), detail=left
            )

    def _wrong(self, id_: str, kept: Kept | None, place: str) -> None:
        self._register.keep_soon([*self._lockout.forget_old(), *self._lockout.failed(id_, place)])
        role, lane = kept.role if kept is not None else None, lane_of(place)
        self._audit.record(AuditAction.PERSON_LOGGED_IN, "refused", person=id_, role=role, lane=lane)
        if (wait_s := self._lockout.wait_s(id_, place)) > 0:
            self._audit.record(AuditAction.PERSON_LOCKED, "refused", subject=id_, lane=lane, detail=f"{wait_s:.0f} s")


def _check(kept: Kept | None, password: str, code: str, now: Stamp) -> _Good | None:
    """What the proof leaves behind; None when it is none. On the thread for passwords.

    How long it takes depends on what was typed, not on who there is or what of it is right.
    """
    short = password[: passwords.LONGEST + 1]
    fits = passwords.fits(short, kept.password if kept is not None else None)
    second = _second(kept, code, now)
    if not fits or second is None or kept is None or not kept.active or len(password) > passwords.LONGEST:
        return None
    again = passwords.hashed(password) if passwords.outdated(kept.password) else None
    return replace(second, password=again)


def _second(kept: Kept | None, code: str, now: Stamp) -> _Good | None:
    """What the second factor leaves behind; None when it is missing or wrong."""
    app = kept.app if kept is not None else None
    if recovery.looks_like_one(code):
        salt = (kept.recovery_salt if kept is not None else None) or "00" * passwords.SALT_BYTES
        hashes = kept.recovery_hashes if kept is not None else ()
        left = recovery.RecoveryCodes(salt, hashes).without(code)
        return _Good() if app is None else _Good(recovery=left) if left is not None else None
    step = step_of(app or _NOBODYS_APP, code, now)
    return _Good() if app is None else _Good(step=step) if step is not None else None


def step_of(app: App, code: str, now: Stamp) -> int | None:
    """The step for which `code` is good, if it is. Not for the event loop."""
    wall_s = (now.offset_ms + now.mono_ms) / 1000
    trusted = now.trust is not ClockTrust.UNKNOWN
    return totp.accepted(base64.b64decode(app.secret), code, wall_s, app.last_step, trusted=trusted)
