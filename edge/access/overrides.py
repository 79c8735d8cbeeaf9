"""What a second person has approved: one request, at one lane, once, within a minute.

Strategy: a grant names everything it is good for (the lane, the person who asked, the operation and the digest of its
parameters) and is void the moment it is used, or tried with anything else. Grants live in memory only: whoever was
granted something before a restart asks again.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
from pydantic import ValidationError

from edge.bus.messages.facts import first_error
from edge.bus.messages.replies import Code, ProblemError
from edge.bus.messages.requests import OPERATIONS, DeviceClaim, DrawerOpen

GRANT_S = 60.0
MOST = 100
"""Grants that wait to be used; the oldest goes."""


class Override(StrEnum):
    """What can be made to need a second person (``[people] overrides``)."""

    DRAWER_WITHOUT_SALE = "drawer_without_sale"
    TAKEOVER = "takeover"


def needed(parameters: Any) -> Override | None:
    """Which of them a request is; None: an ordinary one."""
    if isinstance(parameters, DrawerOpen) and not parameters.receipt_number:
        return Override.DRAWER_WITHOUT_SALE
    if isinstance(parameters, DeviceClaim) and parameters.takeover:
        return Override.TAKEOVER
    return None


def read(operation: str, parameters: dict[str, Any]) -> Any:
    """The parameters of an operation, checked; ProblemError `bad_message`."""
    try:
        return OPERATIONS[operation].parameters.model_validate(parameters)
    except ValidationError as error:
        raise ProblemError(Code.BAD_MESSAGE, f"parameters.parameters.{first_error(error, shown=False)}") from None


@dataclass(frozen=True, slots=True)
class Grant:
    """`person` may do this once; `approver` has approved."""

    lane: str
    person: str
    approver: str
    override: Override
    digest: bytes
    expires_s: float


class Grants:
    """Grants that wait to be used. `now_s` is a clock that nobody can set."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._grants: dict[bytes, Grant] = {}

    def give(self, lane: str, person: str, approver: str, override: Override, parameters: Any) -> str:
        """A token for `parameters`."""
        now_s = self._now_s()
        self._grants = {key: grant for key, grant in self._grants.items() if grant.expires_s > now_s}
        while len(self._grants) >= MOST:
            del self._grants[next(iter(self._grants))]
        token = secrets.token_urlsafe(32)
        grant = Grant(lane, person, approver, override, _digest(parameters), now_s + GRANT_S)
        self._grants[_hash(token)] = grant
        return token

    def take(self, token: str, lane: str, person: str, override: Override, parameters: Any) -> Grant | str:
        """The grant, which is used up; or why it is none."""
        grant = self._grants.pop(_hash(token), None)
        if grant is None:
            return "there is no such approval, or it was used"
        if grant.expires_s <= self._now_s():
            return "the approval is too old"
        if grant.lane != lane:
            return f"it was approved at lane {grant.lane}"
        if grant.person != person:
            return f"it was approved for {grant.person}"
        if grant.override is not override or grant.digest != _digest(parameters):
            return "something else was approved"
        return grant


def _digest(parameters: Any) -> bytes:
    """Of the parameters as they are understood: what was left out counts as its default."""
    return hashlib.sha256(orjson.dumps(parameters.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)).digest()


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
