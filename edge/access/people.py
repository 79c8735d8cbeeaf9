"""The people of a store: adding and changing them, their log-ins and what they may.

Strategy: what is kept of each is in `register`, how they prove who they are in `proving`, who is logged in where in
`sessions`. Here they are put together, and changed: on disk with its audit entry before it counts. Somebody who is
disabled, or whose password changes, is logged out everywhere; a role counts from the next request on.

There is always an owner who can log in: the last one can neither be disabled nor made something else.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from edge.access import passwords, recovery, totp
from edge.access.audit import Audit
from edge.access.lockout import LOCKOUT_SCHEMA, Lockout
from edge.access.passwords import TooBusy
from edge.access.places import BOX, lane_of
from edge.access.proving import BUSY_MS, Proving, step_of
from edge.access.register import REGISTER_SCHEMA, App, Kept, Register
from edge.access.roles import ROLES, Person, Right, Role
from edge.access.sessions import SESSIONS_SCHEMA, Sessions
from edge.bus.messages.facts import AuditAction
from edge.bus.messages.replies import Code, ProblemError
from edge.journal.clock import Clock
from edge.journal.store import Store
from edge.seal import Seal

PEOPLE_SCHEMA = REGISTER_SCHEMA + LOCKOUT_SCHEMA + SESSIONS_SCHEMA

MOST = 1_000
PENDING_S = 600.0
"""How long an authenticator app that was shown its secret may take to prove that it has it."""


class People:
    """The people of a store. `open` first. `names` are the store's own, which no password may be.

    `now_s` is a clock that nobody can set.
    """

    def __init__(
        self,
        store: Store,
        seal: Seal,
        audit: Audit,
        clock: Clock,
        *,
        names: Iterable[str] = (),
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._audit = audit
        self._clock = clock
        self._names = tuple(names)
        self.now_s = now_s
        self._pending: dict[str, tuple[bytes, float]] = {}
        self._lockout = Lockout(now_s)
        self.register = Register(store, seal, audit)
        self.proving = Proving(self.register, self._lockout, audit, clock)
        self.sessions = Sessions(clock, self.register.keep_soon)

    async def open(self) -> None:
        """Read who there is, who is logged in, and who must wait."""
        await self.register.open()
        self._lockout.load(await self._store.fetch_all("SELECT person, place, failures FROM wrong_tries"))
        columns = "hash, person, place, boot, made_ms, used_ms"
        self.sessions.load(await self._store.fetch_all(f"SELECT {columns} FROM sessions"))  # noqa: S608  # a constant

    async def close(self) -> None:
        """Let go of what runs."""
        await self.register.close()
        self.proving.hasher.close()

    @property
    def configured(self) -> bool:
        """Whether anybody can log in at all: without people a store works as if none of this existed."""
        return any(kept.active for kept in self.register.all().values())

    def all(self) -> list[dict[str, Any]]:
        """Everybody, without what is secret."""
        return [
            {
                "person": id_,
                "name": kept.name,
                "role": kept.role.value,
                "active": kept.active,
                "app": kept.app is not None,
                "recovery_codes": len(kept.recovery_hashes),
                "passkeys": len(kept.passkeys),
                "logged_in_at": sorted({session.place for session in self.sessions.of(id_)}),
            }
            for id_, kept in self.register.all().items()
        ]

    # -- logging in ----------------------------------------------------------------------------------------------------

    async def log_in(self, id_: str, password: str, code: str | None, place: str) -> tuple[str, Person]:
        """A session's token and who it is; ProblemError as `Proving.prove`, and `not_allowed`."""
        return self.admit(await self.proving.prove(id_, password, code, place), place)

    def admit(self, person: Person, place: str) -> tuple[str, Person]:
        """The same for somebody who has proved who they are, as `Passkeys.prove` says; ProblemError `not_allowed`."""
        if place != BOX and not person.may(Right.WORK_AT_LANE):
            self._logged_in(person, place, "refused", f"a {person.role} does not work at a lane")
            raise ProblemError(Code.NOT_ALLOWED, f"a {person.role} does not work at a lane")
        token = self.sessions.begin(person.id, place)
        self._logged_in(person, place, "done")
        return token, person

    def _logged_in(self, person: Person, place: str, outcome: Any, detail: str = "") -> None:
        self._audit.record(
            AuditAction.PERSON_LOGGED_IN,
            outcome,
            person=person.id,
            role=person.role,
            lane=lane_of(place),
            detail=detail,
        )

    def who(self, token: str, place: str) -> Person | None:
        """Whose session it is, as they are now: a role that was taken away is gone at once."""
        session = self.sessions.find(token, place)
        if session is not None:
            return self.register.person(session.person)
        taken = self.sessions.belongs_elsewhere(token, place)
        if taken is not None:
            detail = f"a session of {taken.place} was used here"
            self._audit.record(
                AuditAction.LANE_REFUSED, "refused", lane=lane_of(place), subject=taken.person, detail=detail
            )
        return None

    def log_out(self, token: str, place: str) -> bool:
        """End a session; False when there was none."""
        session = self.sessions.find(token, place)
        if session is None:
            return False
        self.sessions.end(session)
        self._audit.record(AuditAction.PERSON_LOGGED_OUT, person=session.person, lane=lane_of(place))
        return True

    # -- changes -------------------------------------------------------------------------------------------------------

    async def add(self, by: str, id_: str, name: str, role: Role, password: str) -> None:
        """Add somebody. ProblemError: `conflict`, `bad_message` (the password will not do)."""
        async with self.proving.turn:
            if self.register.get(id_) is not None or id_ in self.register.unreadable:
                raise ProblemError(Code.CONFLICT, f"there is a person {id_!r} already")
            if len(self.register.all()) >= MOST:
                raise ProblemError(Code.TOO_LARGE, f"a store has at most {MOST} people")
            kept = Kept(name=name, role=role, password=await self._hashed(password, role, id_, name))
            await self.register.change(AuditAction.PERSON_ADDED, by, id_, kept, f"as {role}")

    async def set_role(self, by: str, id_: str, role: Role, password: str | None = None) -> None:
        """Another role, in force at once; one that needs a longer password needs it now (`conflict` without)."""
        async with self.proving.turn:
            kept = self.register.there(id_)
            if role is not Role.OWNER:
                self._not_the_last_owner(id_)
            changes: dict[str, Any] = {"role": role}
            if password is not None:
                changes["password"] = await self._hashed(password, role, id_, kept.name)
            elif ROLES[role].least_characters > ROLES[kept.role].least_characters:
                least = ROLES[role].least_characters
                raise ProblemError(Code.CONFLICT, f"a {role} needs a password of {least} characters: give a new one")
            detail = f"{kept.role} to {role}"
            await self.register.change(AuditAction.PERSON_CHANGED, by, id_, kept.model_copy(update=changes), detail)
            if password is not None:
                self._log_out_everywhere(id_)

    async def set_active(self, by: str, id_: str, active: bool) -> None:
        """Let somebody in no more, or again. The last owner stays."""
        async with self.proving.turn:
            kept = self.register.there(id_)
            if not active:
                self._not_the_last_owner(id_)
            detail = "may log in again" if active else "may not log in any more"
            changed = kept.model_copy(update={"active": active})
            await self.register.change(AuditAction.PERSON_DISABLED, by, id_, changed, detail)
            if not active:
                self._log_out_everywhere(id_)

    def _not_the_last_owner(self, id_: str) -> None:
        if [one for one, kept in self.register.all().items() if kept.active and kept.role is Role.OWNER] == [id_]:
            raise ProblemError(Code.CONFLICT, f"{id_} is the last owner: make another one first")

    def _log_out_everywhere(self, id_: str) -> None:
        self.sessions.end_all(lambda session: session.person == id_)

    async def set_password(self, by: str, id_: str, password: str) -> None:
        """Another password; whoever is logged in with the old one no longer is."""
        async with self.proving.turn:
            kept = self.register.there(id_)
            new = await self._hashed(password, kept.role, id_, kept.name)
            changed = kept.model_copy(update={"password": new})
            await self.register.change(AuditAction.PERSON_CHANGED, by, id_, changed, "password")
            self._log_out_everywhere(id_)

    async def _hashed(self, password: str, role: Role, id_: str, name: str) -> str:
        names = (id_, *name.split(), *self._names)
        complaint = passwords.complaint(password, ROLES[role].least_characters, names)
        if complaint is not None:
            raise ProblemError(Code.BAD_MESSAGE, f"this password will not do: {complaint}")
        try:
            return await self.proving.hasher.run(partial(passwords.hashed, password))
        except TooBusy:
            raise ProblemError(Code.TOO_FAST, "too many log in at once", retry_after_ms=BUSY_MS) from None

    def offer_app(self, id_: str, store_id: str) -> str:
        """The text of the QR code for a new authenticator app; it counts once `take_app` has heard a code of it."""
        self.register.there(id_)
        secret = totp.new_secret()
        self._pending[id_] = (secret, self.now_s() + PENDING_S)
        return totp.uri(secret, store_id, id_)

    async def take_app(self, by: str, id_: str, code: str) -> None:
        """The app has shown a code: from now on one is needed. ProblemError: `log_in_refused`, `expired`."""
        async with self.proving.turn:
            kept = self.register.there(id_)
            secret, until_s = self._pending.get(id_, (b"", 0.0))
            if until_s < self.now_s():
                raise ProblemError(Code.EXPIRED, "it took too long; begin again and scan the new code")
            app = App(secret=base64.b64encode(secret).decode())
            step = await self.proving.hasher.run(partial(step_of, app, code, self._clock.now()))
            if step is None:
                hint = "not a code of this app now; where a clock is wrong, give two codes, one after the other"
                raise ProblemError(Code.LOG_IN_REFUSED, hint)
            changed = kept.model_copy(update={"app": app.model_copy(update={"last_step": step})})
            await self.register.change(AuditAction.PERSON_CHANGED, by, id_, changed, "authenticator app")
            del self._pending[id_]

    async def drop_app(self, by: str, id_: str) -> None:
        """No second factor any more."""
        async with self.proving.turn:
            kept = self.register.there(id_)
            changed = kept.model_copy(update={"app": None, "recovery_salt": None, "recovery_hashes": ()})
            await self.register.change(AuditAction.PERSON_CHANGED, by, id_, changed, "authenticator app taken off")

    async def new_recovery_codes(self, by: str, id_: str) -> list[str]:
        """Ten codes to be shown once; those before are void. ProblemError `conflict` without an app to recover."""
        async with self.proving.turn:
            kept = self.register.there(id_)
            if kept.app is None:
                raise ProblemError(Code.CONFLICT, f"{id_} has no authenticator app whose loss they would make good")
            codes, left = await self.proving.hasher.run(recovery.new)
            changed = kept.model_copy(update={"recovery_salt": left.salt, "recovery_hashes": left.hashes})
            await self.register.change(AuditAction.PERSON_CHANGED, by, id_, changed, "recovery codes")
            return codes

    async def unlock(self, by: str, id_: str) -> None:
        """End the pauses after wrong tries, also of somebody who does not exist."""
        await self.register.write(self._lockout.unlock(id_))
        self._audit.record(AuditAction.PERSON_UNLOCKED, person=by, subject=id_)
