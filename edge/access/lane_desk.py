"""What a technician does about the lanes' tills: invite one, wait for it, see who has enrolled, shut one out.

Strategy: served at the technician's desk (the broker's own socket). Each answer is what `tillgate lanes ...` prints.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from edge.access.enrolment import Enrolment, utc
from edge.access.roles import Right
from edge.bus.discovery import own_addresses
from edge.bus.invitation import Invitation
from edge.bus.messages.base import Id, Message
from edge.bus.messages.replies import Code, ProblemError
from edge.services.requests import Asked
from edge.services.technician import Service

if TYPE_CHECKING:
    from edge.access.authority import Authority
    from edge.access.enrolment_listener import Listener
    from edge.config import StoreConfig


OPENING_S = 3.0
"""The port is open that soon after edge begins to serve, or it is another's."""


class OneLane(Message):
    """Which lane."""

    lane: Id


class OneInvitation(Message):
    """Which invitation, by its name, which is no secret."""

    invitation: str = Field(min_length=1, max_length=64)


class NoParameters(Message):
    """All lanes."""


class LaneDesk:
    """Serves `lanes.invite`, `lanes.withdraw`, `lanes.invited`, `lanes.list` and `lanes.revoke`."""

    def __init__(
        self,
        config: StoreConfig,
        enrolment: Enrolment,
        listener: Listener | None,
        authority: Authority,
        revoke: Callable[..., Awaitable[int]],
        last_seen: Callable[[], Mapping[str, str]],
    ) -> None:
        self._config = config
        self._lanes: Collection[str] = [lane.id for lane in config.lanes]
        self._enrolment = enrolment
        self._listener = listener
        self._authority = authority
        self._revoke_lane = revoke
        self._last_seen = last_seen

    def services(self) -> Mapping[str, Service]:
        """What the desk serves."""
        return {
            "lanes.invite": Service(OneLane, self._invite, Right.LANES),
            "lanes.withdraw": Service(OneLane, self._withdraw, Right.LANES),
            "lanes.invited": Service(OneInvitation, self._invited),
            "lanes.list": Service(NoParameters, self._list),
            "lanes.revoke": Service(OneLane, self._revoke, Right.LANES),
        }

    def _checked(self, lane: str) -> str:
        if lane not in self._lanes:
            raise ProblemError(Code.NOT_FOUND, f"there is no lane {lane!r}; lanes: {', '.join(self._lanes)}")
        return lane

    async def _invite(self, asked: Asked, parameters: OneLane) -> dict[str, Any]:
        lane = self._checked(parameters.lane)
        if self._listener is None:
            raise ProblemError(Code.NOT_READY, "[enrolment] port is 0: no till can enrol here")
        try:
            async with asyncio.timeout(OPENING_S):
                await self._listener.listening.wait()
        except TimeoutError:
            raise ProblemError(
                Code.NOT_READY, f"port {self._listener.port} is not open: tillgate status says why"
            ) from None
        made = await self._enrolment.invite(lane, person=asked.by)
        hosts = tuple(own_addresses(self._config.bus.host, self._config.bus.interfaces))
        whole = Invitation(
            made.code, self._config.store.id, lane, hosts, self._listener.port, self._authority.advertised
        )
        return {
            "invitation": made.name,
            "store": self._config.store.id,
            "lane": lane,
            "code": made.code,
            "text": whole.text(),
            "hosts": hosts,
            "port": self._listener.port,
            "expires_s": made.expires_s,
        }

    async def _withdraw(self, asked: Asked, parameters: OneLane) -> dict[str, Any]:
        await self._enrolment.withdraw(self._checked(parameters.lane), person=asked.by)
        return {"lane": parameters.lane}

    async def _invited(self, asked: Asked, parameters: OneInvitation) -> dict[str, Any]:
        kept = await self._enrolment.outcome(parameters.invitation, asked.answer_by_s)
        if kept is None:
            return {"state": "withdrawn", "left_s": 0, "failures": 0}
        state = "open" if kept.over is None else str(kept.over).removeprefix("invitation_")
        return {"state": state, "left_s": kept.left_s, "failures": kept.failures}

    async def _list(self, asked: Asked, parameters: NoParameters) -> dict[str, Any]:
        await asyncio.to_thread(self._authority.refresh)
        rows = [self._row(lane.id, lane.name) for lane in self._config.lanes]
        gone = sorted(lane for lane in self._authority.following() if lane not in self._lanes)
        return {"lanes": rows + [self._row(lane, "not in store.toml: revoke it") for lane in gone]}

    def _row(self, lane: str, name: str) -> dict[str, Any]:
        """One lane; `state`: valid, expired, revoked, or none (no till has ever enrolled)."""
        held = self._authority.lanes().get(lane)
        row: dict[str, Any] = {"lane": lane, "name": name, "seen": self._last_seen().get(lane)}
        if held is None or held.state == "revoked":
            return row | {"state": "none" if held is None else "revoked", "days_left": None, "not_after": None}
        return row | {"state": held.state, "days_left": held.left.days, "not_after": utc(held.not_after)}

    async def _revoke(self, asked: Asked, parameters: OneLane) -> dict[str, Any]:
        lane = parameters.lane
        if lane not in self._authority.lanes():  # one that was taken out of store.toml may have a till all the same
            self._checked(lane)
        try:
            await self._enrolment.withdraw(lane, person=asked.by)
        finally:  # also on a full disk: a stolen till is shut out now, and its open invitation is over in minutes
            revoked = await self._revoke_lane(lane, "revoked by a technician", person=asked.by)
        return {"lane": lane, "revoked": revoked}
