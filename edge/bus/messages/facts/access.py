"""Facts about who is on the store's network."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edge.bus.messages.base import Id, Recorded


class StrangerSeen(Recorded):
    """Something on the network answers for this store's gateway and cannot prove that it is it."""

    addresses: tuple[str, ...] = Field(strict=False, max_length=16)
    port: int
    ca: str | None = Field(default=None, max_length=128, description="what it says of its authority")
    seen_by: Literal["gateway", "lane"]
    lane: Id | None = Field(default=None, description="the lane whose till has met it")
    why: str = Field(max_length=200)
