"""Whom a downlink message is for: one store, or every store of a group."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_bridge.hq.downlog import group_scope, store_scope
from edge.bus import topics


@dataclass(frozen=True, slots=True)
class Recipient:
    """Either `store` or `group` is given."""

    store: str | None = None
    group: str | None = None

    @property
    def scope(self) -> str:
        """What its streams are kept under in HQ's log."""
        return store_scope(self.store) if self.store is not None else group_scope(self.group or "")

    @property
    def header(self) -> dict[str, object]:
        """What the frame's header says of it."""
        return {"group": self.group} if self.group is not None else {}

    @property
    def address(self) -> dict[str, str]:
        """What a signed text says of it."""
        return {"store": self.store} if self.store is not None else {"group": self.group or ""}

    def topic(self, stream: str) -> str:
        """Where it hears this stream; ValueError when its name cannot stand in a topic."""
        if self.store is not None:
            return topics.down(self.store, stream)
        return topics.group_down(self.group or "", stream)

    def __str__(self) -> str:
        """For people."""
        return f"store {self.store}" if self.store is not None else f"group {self.group}"
