"""What a technician asks of the store authority, through the technician's desk: `tillgate access authority ...`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from edge.access.authority import RotationOn
from edge.access.authority_care import AuthorityCare, not_done
from edge.access.authority_keys import AuthorityFault
from edge.access.roles import Right
from edge.bus.messages.base import Message
from edge.bus.messages.replies import Code, ProblemError
from edge.services.requests import Asked
from edge.services.technician import Service


class NoParameters(Message):
    """Nothing is needed."""


class Rotate(Message):
    """`anew`: without the old key; every till must be enrolled again."""

    anew: bool = False


class AuthorityDesk:
    """Serves `authority.show`, `authority.rotate` and `authority.drop`."""

    def __init__(self, care: AuthorityCare) -> None:
        self._care = care

    def services(self) -> Mapping[str, Service]:
        """What the technician's desk serves."""
        return {
            "authority.show": Service(NoParameters, self._show),
            "authority.rotate": Service(Rotate, self._rotate, Right.KEYS),
            "authority.drop": Service(NoParameters, self._drop, Right.KEYS),
        }

    async def _show(self, asked: Asked, parameters: NoParameters) -> dict[str, Any]:
        authority = self._care.authority
        with contextlib.suppress(OSError):  # then what was read last is shown
            await asyncio.to_thread(authority.refresh)
        book = authority.book
        if book is None:
            return {"fault": authority.fault, "authorities": [], "lanes": [], "broker": None}
        names = {one.fingerprint: "current" if one is book.current else "former" for one in book.generations}
        server = book.server
        return {
            "fault": authority.fault,
            "authorities": [
                {
                    "fingerprint": one.fingerprint,
                    "role": names[one.fingerprint],
                    "since": one.since.isoformat(),
                    "left_h": one.left_h,
                    "revoked": sum(
                        entry.revoked_at is not None for entry in book.entries if entry.authority == one.fingerprint
                    ),
                }
                for one in book.generations
            ],
            "broker": None
            if server is None
            else {
                "not_after": server.not_after.isoformat(),
                "days_left": (server.not_after - authority.now()).days,
                "names": list(server.names),
                "authority": names.get(server.authority, "none"),
            },
            "lanes": [
                {
                    "lane": lane,
                    "state": held.state,
                    "days_left": held.days_left,
                    "not_after": held.not_after.isoformat(),
                    "authority": "current" if held.follows else "former",
                }
                for lane, held in sorted(authority.lanes().items())
            ],
        }

    async def _rotate(self, asked: Asked, parameters: Rotate) -> dict[str, Any]:
        try:
            made = await self._care.rotate(anew=parameters.anew, person=asked.by)
        except RotationOn as error:
            raise ProblemError(Code.CONFLICT, str(error)) from None
        except (AuthorityFault, OSError) as error:
            raise not_done(error) from None
        return {"fingerprint": made}

    async def _drop(self, asked: Asked, parameters: NoParameters) -> dict[str, Any]:
        try:
            behind = [lane for lane, follows in self._care.authority.following().items() if not follows]
            dropped = await self._care.drop_former(person=asked.by)
        except (AuthorityFault, OSError) as error:
            raise not_done(error) from None
        return {"fingerprint": dropped, "lanes": behind if dropped else []}
