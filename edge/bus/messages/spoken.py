"""What HQ's receivers sign: confirmations and offers. The cloud broker in between can hold them back, not make them up.

A receiver is online all day, so it has a key of its own; HQ's main key, which signs prices and commands, may stay in a
drawer. With it a small statement was signed once that says which keys speak for the receivers, and until when.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from edge.bus.messages.base import Id, Message
from edge.bus.messages.signed import UTC_TIME, Signed

Ed25519Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]{43}=$")]
"""32 bytes in base64."""


class ConfirmKeys(Message):
    """The statement, signed by HQ's main key. One with a higher `serial` takes the place of every earlier one."""

    type: Literal["tillgate.hq.confirm-keys.v1"] = "tillgate.hq.confirm-keys.v1"
    keys: tuple[Ed25519Key, ...] = Field(strict=False, min_length=1, max_length=8)
    serial: int = Field(ge=1, le=2**53, description="when it was made: milliseconds since 1970")
    not_after: str = Field(pattern=UTC_TIME)


class Said(Message):
    """The signed text: to which store, about what, and when by HQ's clock."""

    type: Literal["tillgate.hq.said.v1"] = "tillgate.hq.said.v1"
    store: Id
    about: Literal["confirmed", "offer"]
    at_ms: int = Field(ge=0, le=2**53)
    says: dict[str, Any] = Field(description="a `Confirmed` or an `Offer`")


class Spoken(Message):
    """What is on the wire: `text` is a `Said`. `statement` comes when the store has just asked something."""

    text: str
    signature: str = Field(description="Ed25519 by one of the statement's keys, base64")
    serial: int = Field(description="of the statement")
    statement: Signed | None = None
