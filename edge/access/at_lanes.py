"""People at the lanes: logging in and out, second persons, and what stands before drawers and takeovers.

Strategy: a session that a request carries says who is at the lane, and that name goes into facts in place of what the
till claims. A sale never needs one: an opening with a receipt works whether anybody is logged in or not. What the store
has made to need a second person (``[people] overrides``) needs a session and a grant of somebody else, approved at the
same lane. Where nobody is left who could approve, it is let through, recorded and told in the status: a security fault
must not stop a shop.

Whether a receipt number belongs to a sale is the till's word; the drawer's facts and the sales stand side by side in
the journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from edge.access import overrides
from edge.access.audit import Audit
from edge.access.overrides import GRANT_S, Grants, Override
from edge.access.people import People
from edge.access.roles import Person, Right
from edge.bus.messages.facts import AuditAction
from edge.bus.messages.replies import Code, ProblemError
from edge.bus.messages.requests import OverrideGrant, PersonLogIn, PersonLogOut
from edge.journal.store import NotStored
from edge.services.replies import not_stored
from edge.services.requests import Asked, Guard, Handler
from edge.services.warnings import Warnings

NOBODY_APPROVES = "nobody_approves"
_TEXT = (
    "[people] overrides asks for a second person, but nobody here may approve: it is let through. Add one on the box:"
    " tillgate people add NAME --role supervisor"
)
_ACTIONS = {
    Override.DRAWER_WITHOUT_SALE: AuditAction.DRAWER_WITHOUT_SALE,
    Override.TAKEOVER: AuditAction.DEVICE_TAKEN_OVER,
}


class AtLanes:
    """Serves the lanes' operations about people, and stands before those that may need a second person."""

    def __init__(self, people: People, audit: Audit, needs: Iterable[str], warnings: Warnings) -> None:
        self._people = people
        self._audit = audit
        self._needs = frozenset(Override(one) for one in needs)
        self._warnings = warnings
        self._grants = Grants(people.now_s)

    def operations(self) -> Mapping[str, Handler]:
        """What tills may ask about people."""
        return {"person.log_in": self._log_in, "person.log_out": self._log_out, "override.grant": self._grant}

    def guards(self) -> Mapping[str, Guard]:
        """What stands before other operations."""
        return {"drawer.open": self._before, "device.claim": self._before}

    def look(self) -> None:
        """Say whether what is asked for can be had; once at the start, and when people change."""
        if self._needs and not self._people.register.active_with(Right.APPROVE):
            self._warnings.set(NOBODY_APPROVES, _TEXT)
        else:
            self._warnings.clear(NOBODY_APPROVES)

    # -- log-in --------------------------------------------------------------------------------------------------------

    async def _log_in(self, asked: Asked, parameters: PersonLogIn) -> dict[str, Any]:
        """``{"session", "person", "name", "role"}``."""
        token, person = await self._people.log_in(parameters.person, parameters.password, parameters.code, asked.lane)
        return {"session": token, "person": person.id, "name": person.name, "role": person.role.value}

    async def _log_out(self, asked: Asked, parameters: PersonLogOut) -> dict[str, Any]:
        """``{"logged_out"}``; false: there was nobody."""
        return {"logged_out": asked.session is not None and self._people.log_out(asked.session, asked.lane)}

    def _who(self, asked: Asked) -> Person | None:
        return self._people.who(asked.session, asked.lane) if asked.session is not None else None

    # -- a second person -----------------------------------------------------------------------------------------------

    async def _grant(self, asked: Asked, parameters: OverrideGrant) -> dict[str, Any]:
        """``{"grant": for the request, "expires_in_ms", "approved_by"}``."""
        wanted = overrides.read(parameters.operation, parameters.parameters)
        override = overrides.needed(wanted)
        if override is None or override not in self._needs:
            raise ProblemError(Code.BAD_MESSAGE, f"this {parameters.operation} needs no approval here")
        person = self._who(asked)
        if person is None:
            raise ProblemError(Code.NOT_LOGGED_IN, "whoever asks for it must be logged in at this lane")
        approver = await self._approver(asked, person, parameters, override)
        try:
            await self._audit.record(
                AuditAction.OVERRIDE_GRANTED,
                person=person.id,
                second_person=approver.id,
                role=person.role,
                lane=asked.lane,
                subject=override,
                detail=_words(wanted),
            )
        except NotStored as error:
            raise not_stored(error) from error
        token = self._grants.give(asked.lane, person.id, approver.id, override, wanted)
        return {"grant": token, "expires_in_ms": int(GRANT_S * 1000), "approved_by": approver.id}

    async def _approver(self, asked: Asked, person: Person, parameters: OverrideGrant, override: Override) -> Person:
        if parameters.person == person.id:
            self._refused(AuditAction.OVERRIDE_GRANTED, asked, person, override, "by themselves")
            raise ProblemError(Code.NOT_ALLOWED, "another person must approve")
        approver = await self._people.proving.prove(parameters.person, parameters.password, parameters.code, asked.lane)
        if not approver.may(Right.APPROVE):
            self._refused(
                AuditAction.OVERRIDE_GRANTED, asked, person, override, f"by a {approver.role}", second=approver.id
            )
            raise ProblemError(Code.NOT_ALLOWED, f"a {approver.role} may not approve")
        return approver

    def _refused(
        self,
        action: AuditAction,
        asked: Asked,
        person: Person | None,
        override: Override,
        why: str,
        second: str | None = None,
    ) -> None:
        self._audit.record(
            action,
            "refused",
            person=person.id if person is not None else None,
            second_person=second,
            role=person.role if person is not None else None,
            lane=asked.lane,
            subject=override,
            detail=why,
        )

    async def _before(self, asked: Asked, parameters: Any, handler: Handler) -> dict[str, Any]:
        """Do it as whoever is logged in, with the approval it needs."""
        person = self._who(asked)
        override = overrides.needed(parameters)
        approver = await self._approved(asked, person, override, parameters) if override is not None else None
        if person is not None:
            asked = replace(asked, operator=person.id)
        if override is None:
            return await handler(asked, parameters)
        try:
            result = await handler(asked, parameters)
        except ProblemError as problem:
            self._note(asked, person, approver, override, parameters, problem)
            raise
        self._note(asked, person, approver, override, parameters, None)
        return result

    async def _approved(self, asked: Asked, person: Person | None, override: Override, parameters: Any) -> str | None:
        """Who has approved; None when nobody needs to."""
        if override not in self._needs:
            return None
        self.look()
        if not self._people.register.active_with(Right.APPROVE):
            return None
        if person is None:
            raise ProblemError(Code.NOT_LOGGED_IN, "this needs somebody who is logged in, and a second person")
        if asked.grant is None:
            raise ProblemError(Code.APPROVAL_NEEDED, f"{override} needs a second person: override.grant")
        found = self._grants.take(asked.grant, asked.lane, person.id, override, parameters)
        approver = None if isinstance(found, str) else self._people.register.person(found.approver)
        if isinstance(found, str) or approver is None or not approver.may(Right.APPROVE):
            why = found if isinstance(found, str) else f"{found.approver} may not approve any more"
            self._refused(AuditAction.OVERRIDE_USED, asked, person, override, why)
            raise ProblemError(Code.APPROVAL_NEEDED, why)
        try:
            await self._audit.record(
                AuditAction.OVERRIDE_USED,
                person=person.id,
                second_person=approver.id,
                role=person.role,
                lane=asked.lane,
                subject=override,
                detail=_words(parameters),
            )
        except NotStored as error:
            raise not_stored(error) from error
        return approver.id

    def _note(
        self,
        asked: Asked,
        person: Person | None,
        approver: str | None,
        override: Override,
        parameters: Any,
        problem: ProblemError | None,
    ) -> None:
        """Record what became of it."""
        said = "" if person is not None else f"the till says {parameters.operator_id}; "
        self._audit.record(
            _ACTIONS[override],
            "done" if problem is None else "failed",
            person=person.id if person is not None else None,
            second_person=approver,
            role=person.role if person is not None else None,
            lane=asked.lane,
            subject=parameters.device,
            detail=f"{said}{parameters.reason or ''}" + (f"; {problem.code}" if problem is not None else ""),
        )


def _words(parameters: Any) -> str:
    """The parameters for people."""
    given = parameters.model_dump(mode="json", exclude_defaults=True, exclude={"operator_id"})
    return ", ".join(f"{name} {value}" for name, value in given.items())
