"""Notices from HQ to the people of a store (downlink stream ``notices``), and how tills see them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edge.bus.messages.base import EventId, Message
from edge.bus.messages.signed import UTC_TIME, Numbered

NOTICES_STREAM = "notices"

Level = Literal["info", "important"]


class Notice(Numbered):
    """The signed text of a notice. The same id again replaces it; with an empty `text` it is withdrawn."""

    type: Literal["tillgate.notice.v1"] = "tillgate.notice.v1"
    id: EventId
    text: str = Field(max_length=1000)
    level: Level = "info"
    issued_at: str = Field(pattern=UTC_TIME)
    until: str = Field(pattern=UTC_TIME, description="shown until then, or until it is withdrawn")


class ShownNotice(Message):
    id: EventId
    text: str
    level: Level
    issued_at: str
    until: str


class StoreNotices(Message):
    """Retained on ``store/notices``: everything in force, newest first; empty when there is nothing."""

    notices: tuple[ShownNotice, ...] = Field(strict=False)
