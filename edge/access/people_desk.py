"""What `tillgate people` asks of the running gateway.

Strategy: who asks, and whether they may, is decided before it comes here (`at_box`). Everybody who is logged in changes
their own password and app.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ConfigDict, Field

from edge.access.people import People
from edge.access.places import BOX
from edge.access.roles import Right, Role
from edge.bus.messages.base import Id, Message
from edge.bus.messages.requests import Password, SecondFactor
from edge.services.requests import Asked
from edge.services.technician import Service


class _AtDesk(Message):
    """Built when it is first asked for: the start of a day has other things to do."""

    model_config = ConfigDict(defer_build=True)


class Nothing(_AtDesk):
    """Nothing is needed."""


class OfPerson(_AtDesk):
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
        """What the desk serves: changes need an owner, but for one's own password, app and recovery codes."""
        changes: dict[str, tuple[type[Message], Any, bool]] = {
            "people.add": (Add, self._add, False),
            "people.role": (SetRole, self._role, False),
            "people.active": (SetActive, self._active, False),
            "people.password": (SetPassword, self._password, True),
            "people.app": (OfPerson, self._app, True),
            "people.app_taken": (TakeApp, self._app_taken, True),
            "people.app_off": (OfPerson, self._app_off, False),
            "people.recovery": (OfPerson, self._recovery, True),
            "people.unlock": (OfPerson, self._unlock, False),
        }
        return {
            "people.list": Service(Nothing, self._list),
            "people.log_in": Service(LogIn, self._log_in, secret=True),
            "people.log_out": Service(Nothing, self._log_out),
        } | {
            name: Service(model, handler, Right.PEOPLE, own=own, secret=True)
            for name, (model, handler, own) in changes.items()
        }

    async def _list(self, asked: Asked, parameters: Nothing) -> dict[str, Any]:
        """``{"people": [...]}``."""
        return {"people": self._people.all(), "unreadable": list(self._people.register.unreadable)}

    async def _add(self, asked: Asked, wish: Add) -> dict[str, Any]:
        await self._people.add(_by(asked), wish.person, wish.name, wish.role, wish.password)
        return self._done()

    async def _role(self, asked: Asked, wish: SetRole) -> dict[str, Any]:
        await self._people.set_role(_by(asked), wish.person, wish.role, wish.password)
        return self._done()

    async def _active(self, asked: Asked, wish: SetActive) -> dict[str, Any]:
        await self._people.set_active(_by(asked), wish.person, wish.active)
        return self._done()

    async def _password(self, asked: Asked, wish: SetPassword) -> dict[str, Any]:
        await self._people.set_password(_by(asked), wish.person, wish.password)
        return self._done()

    async def _app(self, asked: Asked, wish: OfPerson) -> dict[str, Any]:
        """``{"uri"}``: the text of the QR code; a secret."""
        return {"uri": self._people.offer_app(wish.person, self._store_id)}

    async def _app_taken(self, asked: Asked, wish: TakeApp) -> dict[str, Any]:
        await self._people.take_app(_by(asked), wish.person, wish.code)
        return self._done()

    async def _app_off(self, asked: Asked, wish: OfPerson) -> dict[str, Any]:
        await self._people.drop_app(_by(asked), wish.person)
        return self._done()

    async def _recovery(self, asked: Asked, wish: OfPerson) -> dict[str, Any]:
        """``{"codes"}``: to be shown once."""
        return {"codes": await self._people.new_recovery_codes(_by(asked), wish.person)}

    async def _unlock(self, asked: Asked, wish: OfPerson) -> dict[str, Any]:
        await self._people.unlock(_by(asked), wish.person)
        return self._done()

    async def _log_in(self, asked: Asked, wish: LogIn) -> dict[str, Any]:
        """``{"session", "person", "name", "role"}``."""
        token, person = await self._people.log_in(wish.person, wish.password, wish.code, BOX)
        return {"session": token, "person": person.id, "name": person.name, "role": person.role.value}

    async def _log_out(self, asked: Asked, parameters: Nothing) -> dict[str, Any]:
        """``{"logged_out"}``."""
        return {"logged_out": asked.session is not None and self._people.log_out(asked.session, BOX)}

    def _done(self) -> dict[str, Any]:
        self._on_change()
        return {}


def _by(asked: Asked) -> str:
    """Who makes a change: the desk lets none through without."""
    assert asked.by is not None
    return asked.by
