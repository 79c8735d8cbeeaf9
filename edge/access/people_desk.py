"""What `tillgate people` asks of the running gateway.

Strategy: whoever can open the broker's own socket can do all of this; that is root and the gateway's own user. Once
there is an owner, changes ask for the log-in of somebody who may make them all the same, so that the audit has a name:
it is no barrier to root, who can go on without, and that is recorded as such. Everybody who is logged in changes their
own password and app.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ConfigDict, Field

from edge.access.people import People
from edge.access.places import BOX
from edge.access.roles import Right, Role
from edge.bus.messages.base import Id, Message
from edge.bus.messages.replies import Code, ProblemError
from edge.bus.messages.requests import Password, SecondFactor
from edge.services.requests import Asked
from edge.services.technician import Service


class _AtDesk(Message):
    """Built when it is first asked for: the start of a day has other things to do."""

    model_config = ConfigDict(defer_build=True)


class Asker(_AtDesk):
    """Who asks: a session of `people.log_in`, or `without_log_in`; `user` is their name in the system."""

    session: str | None = Field(default=None, max_length=128, repr=False)
    without_log_in: bool = False
    user: str = Field(default="", max_length=32)


class OfPerson(Asker):
    """Something with one person."""

    person: Id


class Add(OfPerson):
    """A new person."""

    name: str = Field(min_length=1, max_length=100)
    role: Role = Field(strict=False)
    password: Password = Field(repr=False)


class SetRole(OfPerson):
    """Another role, with a new password where the role needs a longer one."""

    role: Role = Field(strict=False)
    password: Password | None = Field(default=None, repr=False)


class SetActive(OfPerson):
    """May log in, or not."""

    active: bool


class SetPassword(OfPerson):
    """Another password."""

    password: Password = Field(repr=False)


class TakeApp(OfPerson):
    """A code of the app that was offered."""

    code: str = Field(max_length=64, repr=False)


class LogIn(_AtDesk):
    """At the box."""

    person: Id
    password: Password = Field(repr=False)
    code: SecondFactor = Field(default=None, repr=False)


class PeopleDesk:
    """Serves `people.*` at the technician's desk. `on_change` is called when people have changed."""

    def __init__(self, people: People, store_id: str, on_change: Callable[[], None]) -> None:
        self._people = people
        self._store_id = store_id
        self._on_change = on_change

    def services(self) -> Mapping[str, Service]:
        """What the desk serves."""
        rows: dict[str, tuple[type[Message], Any]] = {
            "people.list": (Asker, self._list),
            "people.add": (Add, self._add),
            "people.role": (SetRole, self._role),
            "people.active": (SetActive, self._active),
            "people.password": (SetPassword, self._password),
            "people.app": (OfPerson, self._app),
            "people.app_taken": (TakeApp, self._app_taken),
            "people.app_off": (OfPerson, self._app_off),
            "people.recovery": (OfPerson, self._recovery),
            "people.unlock": (OfPerson, self._unlock),
            "people.log_in": (LogIn, self._log_in),
            "people.log_out": (Asker, self._log_out),
        }
        return {name: Service(model, handler, secret=True) for name, (model, handler) in rows.items()}

    def _by(self, asker: Asker, own: str | None = None) -> str:
        """Who is at work; ProblemError `not_logged_in`, `not_allowed`. `own`: who may do this to themselves."""
        if asker.session is not None:
            person = self._people.who(asker.session, BOX)
            if person is None:
                raise ProblemError(Code.NOT_LOGGED_IN, "the log-in is over: tillgate people log-in NAME")
            if not person.may(Right.PEOPLE) and person.id != own:
                raise ProblemError(Code.NOT_ALLOWED, f"a {person.role} may not change people: an owner may")
            return person.id
        if self._people.register.active_with(Right.PEOPLE) and not asker.without_log_in:
            raise ProblemError(
                Code.NOT_LOGGED_IN,
                "log in first (tillgate people log-in NAME), or add --without-log-in: it is recorded",
            )
        return f"box:{asker.user or '?'}"

    async def _list(self, asked: Asked, asker: Asker) -> dict[str, Any]:
        """``{"people": [...]}``."""
        return {"people": self._people.all(), "unreadable": list(self._people.register.unreadable)}

    async def _add(self, asked: Asked, wish: Add) -> dict[str, Any]:
        await self._people.add(self._by(wish), wish.person, wish.name, wish.role, wish.password)
        return self._done()

    async def _role(self, asked: Asked, wish: SetRole) -> dict[str, Any]:
        await self._people.set_role(self._by(wish), wish.person, wish.role, wish.password)
        return self._done()

    async def _active(self, asked: Asked, wish: SetActive) -> dict[str, Any]:
        await self._people.set_active(self._by(wish), wish.person, wish.active)
        return self._done()

    async def _password(self, asked: Asked, wish: SetPassword) -> dict[str, Any]:
        await self._people.set_password(self._by(wish, wish.person), wish.person, wish.password)
        return self._done()

    async def _app(self, asked: Asked, wish: OfPerson) -> dict[str, Any]:
        """``{"uri"}``: the text of the QR code; a secret."""
        self._by(wish, wish.person)
        return {"uri": self._people.offer_app(wish.person, self._store_id)}

    async def _app_taken(self, asked: Asked, wish: TakeApp) -> dict[str, Any]:
        await self._people.take_app(self._by(wish, wish.person), wish.person, wish.code)
        return self._done()

    async def _app_off(self, asked: Asked, wish: OfPerson) -> dict[str, Any]:
        await self._people.drop_app(self._by(wish), wish.person)
        return self._done()

    async def _recovery(self, asked: Asked, wish: OfPerson) -> dict[str, Any]:
        """``{"codes"}``: to be shown once."""
        return {"codes": await self._people.new_recovery_codes(self._by(wish, wish.person), wish.person)}

    async def _unlock(self, asked: Asked, wish: OfPerson) -> dict[str, Any]:
        await self._people.unlock(self._by(wish), wish.person)
        return self._done()

    async def _log_in(self, asked: Asked, wish: LogIn) -> dict[str, Any]:
        """``{"session", "person", "name", "role"}``."""
        token, person = await self._people.log_in(wish.person, wish.password, wish.code, BOX)
        return {"session": token, "person": person.id, "name": person.name, "role": person.role.value}

    async def _log_out(self, asked: Asked, asker: Asker) -> dict[str, Any]:
        """``{"logged_out"}``."""
        return {"logged_out": asker.session is not None and self._people.log_out(asker.session, BOX)}

    def _done(self) -> dict[str, Any]:
        self._on_change()
        return {}
