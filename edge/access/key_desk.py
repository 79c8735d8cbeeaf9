"""What `tillgate access key` asks before it changes the keyring: the file is the command's, the right is an owner's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from edge.access.roles import Right
from edge.bus.messages.base import Message
from edge.services.requests import Asked
from edge.services.technician import Service


class KeyChange(Message):
    """What is to be done, as the command says it."""

    change: str = Field(min_length=1, max_length=100)


async def _let(asked: Asked, parameters: KeyChange) -> dict[str, Any]:
    """``{}``: go on."""
    return {}


def services() -> Mapping[str, Service]:
    """What the technician's desk serves."""
    return {"key.change": Service(KeyChange, _let, Right.KEYS, noted=lambda wish: wish.change)}
