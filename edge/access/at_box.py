"""Who asks at the box: the one place where a command of `tillgate` is let through or not.

Strategy: whoever can open the broker's own socket can do all of this; that is root and the gateway's own user. Once
there is an owner, what needs a right asks for the log-in of somebody who has it all the same, so that the audit has a
name: it is no barrier to root, who can go on without, and that is recorded as such. Where nobody is an owner (people
not set up, the store's key lost) nothing is asked for: there is nobody who could log in.
"""

from __future__ import annotations

from typing import Any

from edge.access.audit import Audit
from edge.access.people import People
from edge.access.places import BOX
from edge.access.roles import Person, Right
from edge.bus.messages.facts import AuditAction
from edge.bus.messages.replies import Code, ProblemError
from edge.services.technician import BoxRequest, Service

WHAT_TO_DO = "tillgate people log-in NAME; or --without-log-in, which is recorded"


class AtBox:
    """Decides at the technician's desk; `permit` is its `Permit`."""

    def __init__(self, people: People, audit: Audit) -> None:
        self._people = people
        self._audit = audit

    def permit(self, request: BoxRequest, operation: str, service: Service, parameters: Any) -> str:
        """Who asks; ProblemError `not_logged_in`, `not_allowed`, which are recorded."""
        person = None if request.session is None else self._people.who(request.session, BOX)
        by = request.somebody if person is None else person.id
        if not self._people.register.active_with(Right.PEOPLE):
            return by
        try:
            _let(request, person, service, parameters)
        except ProblemError as problem:
            role = None if person is None else person.role
            detail = problem.code
            self._audit.record(AuditAction.BOX_ASKED, "refused", person=by, role=role, subject=operation, detail=detail)
            raise
        if service.noted is not None:
            self._audit.record(AuditAction.BOX_ASKED, person=by, subject=operation, detail=service.noted(parameters))
        return by


def _let(request: BoxRequest, person: Person | None, service: Service, parameters: Any) -> None:
    if person is not None:
        own = service.own and parameters.person == person.id
        if service.right is not None and not person.may(service.right) and not own:
            raise ProblemError(
                Code.NOT_ALLOWED, f"a {person.role} may not do this: log in as somebody who may: {WHAT_TO_DO}"
            )
    elif request.session is not None:
        raise ProblemError(Code.NOT_LOGGED_IN, f"the log-in is over; log in first: {WHAT_TO_DO}")
    elif not request.without_log_in:
        raise ProblemError(Code.NOT_LOGGED_IN, f"log in first: {WHAT_TO_DO}")
