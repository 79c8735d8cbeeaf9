"""Where bad input is kept with its reason, so that it blocks nothing and can still be looked at.

Strategy: rows are bounded in number and bytes, oldest first out; what is counted stays counted. Keeping is queued with
the next group commit and never awaited by whoever refused the message.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.journal.store import Store

log = logging.getLogger(__name__)


class Quarantine:
    """The one door to the quarantine table of the store. `count` is since this process started."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.count = 0

    def keep(self, origin: str, lane: str | None, code: str, reason: str, payload: bytes) -> None:
        """Keep `payload` that came from `origin` (a topic or a device id), refused with `code` because of `reason`."""
        self.count += 1
        log.warning("refused from %s: %s: %s", origin, code, reason)
        self._store.quarantine(origin=origin, lane=lane, code=code, reason=reason, payload=payload)
