"""What HQ signs: the exact bytes as text, with an Ed25519 signature over them, because the broker is not trusted.

A signed message names the one store or the one group that it is for, so that it says nothing to any other.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from edge.bus.messages.base import Id, Message

UTC_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z$"
"""RFC 3339 in UTC: ``2026-05-04T09:30:00.000Z``."""


class Signed(Message):
    """Body of a signed downlink message."""

    text: str = Field(description="JSON, canonical: keys sorted, no white space; the signature is over its UTF-8 bytes")
    signature: str = Field(description="Ed25519, base64")


class Addressed(Message):
    """What is for one store, or for every store of one group."""

    store: Id | None = None
    group: Id | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.store is None) == (self.group is None):
            raise ValueError("names either a store or a group")
        return self


class Numbered(Addressed):
    """One message of a stream: `epoch` and `seq` are signed too, so that it is that message and no other."""

    epoch: str = Field(pattern=r"^[A-Za-z0-9-]{1,64}$")
    seq: int = Field(ge=1)
