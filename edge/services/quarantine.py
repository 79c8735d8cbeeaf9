"""Where bad input is kept with its reason, so that it blocks nothing and can still be looked at.

Strategy: rows are bounded in number and bytes, oldest first out; what is counted stays counted. Keeping is queued with
the next group commit and never awaited by whoever refused the message. A device that sends nothing but rubbish makes
thousands a second: of each origin the first few of a while are kept and logged, the rest is counted, because neither
the log nor the flash card gains from more of the same. Card numbers are masked on the way in.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.card_numbers import masked, masked_payload

if TYPE_CHECKING:
    from edge.journal.store import Store

log = logging.getLogger(__name__)

WHILE_S = 10.0
KEPT_IN_A_WHILE = 50
LOGGED_IN_A_WHILE = 5
ORIGINS = 1_000
"""More are forgotten when their while is over: a till can make up any number of topics."""


class Quarantine:
    """The one door to the quarantine table of the store. `count` is since this process started."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._recent: dict[str, tuple[float, int]] = {}
        self.count = 0
        self.on_kept: list[Callable[[str, str | None, str, str], None]] = []
        """Called with origin, lane, code and reason of each, kept or only counted."""

    def keep(self, origin: str, lane: str | None, code: str, reason: str, payload: bytes) -> None:
        """Keep `payload` that came from `origin` (a topic or a device id), refused with `code` because of `reason`."""
        self.count += 1
        origin, reason = masked(origin), masked(reason)
        now = time.monotonic()
        if len(self._recent) >= ORIGINS and origin not in self._recent:
            self._recent = {known: recent for known, recent in self._recent.items() if now - recent[0] <= WHILE_S}
        since, number = self._recent.get(origin, (now, 0))
        if now - since > WHILE_S:
            if number > LOGGED_IN_A_WHILE:
                log.warning("refused from %s: %d in %.0f s", origin, number, now - since)
            since, number = now, 0
        number += 1
        self._recent[origin] = (since, number)
        for heard in self.on_kept:
            heard(origin, lane, code, reason)
        if number <= LOGGED_IN_A_WHILE:
            log.warning("refused from %s: %s: %s", origin, code, reason)
        if number <= KEPT_IN_A_WHILE:
            self._store.quarantine(origin=origin, lane=lane, code=code, reason=reason, payload=masked_payload(payload))
