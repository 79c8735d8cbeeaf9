"""What a person is in a store, and what each role may."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a person is here."""

    CASHIER = "cashier"
    SUPERVISOR = "supervisor"
    TECHNICIAN = "technician"
    OWNER = "owner"


class Right(StrEnum):
    """What a role may. At the box a `Service` names the one that it needs; what needs none is everybody's there."""

    WORK_AT_LANE = "work_at_lane"
    APPROVE = "approve"
    DEVICES = "devices"
    LANES = "lanes"
    KEYS = "keys"
    PEOPLE = "people"
    PRIVACY = "privacy"


@dataclass(frozen=True, slots=True)
class RoleRow:
    """`least_characters` of a password; `rights`."""

    least_characters: int
    rights: frozenset[Right]


_R = Right

ROLES: dict[Role, RoleRow] = {
    # A cashier types it at a till that shows it to a queue: a PIN, whose guessing the pauses hold up.
    Role.CASHIER: RoleRow(6, frozenset({_R.WORK_AT_LANE})),
    Role.SUPERVISOR: RoleRow(8, frozenset({_R.WORK_AT_LANE, _R.APPROVE})),
    Role.TECHNICIAN: RoleRow(12, frozenset({_R.DEVICES, _R.LANES})),
    Role.OWNER: RoleRow(12, frozenset(Right)),
}


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who has proved who they are, or is only spoken of."""

    id: str
    name: str
    role: Role

    def may(self, right: Right) -> bool:
        """Whether this person's role has the right."""
        return right in ROLES[self.role].rights
