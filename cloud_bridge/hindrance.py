"""What keeps facts from getting through although there is a connection, in words for a person.

Strategy: `stuck` is for the link's own word: nothing gets anywhere, so the connection is none, whatever it says.
`words` is for its detail: some class or other does not get through, or only slowly. Both go as soon as something gets
to where it is to be kept. What a broker refuses is found out in `refusals`; here it is told what happened.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable

from cloud_bridge import policy
from cloud_bridge.outbox import Flight, Outbox
from edge.bus.client import BusError, Disconnected, PublishRejected, TooLarge
from edge.bus.messages.facts import FactClass

log = logging.getLogger(__name__)

OVERRUN_FROM_S = 5.0
OVERRUN_TO_S = 120.0
"""How long everything pauses after the broker said that it was too much; longer each time."""

TOO_MANY, TOO_FAST, QUOTA_EXCEEDED = 0x93, 0x96, 0x97
"""Reason codes of DISCONNECT (MQTT 5, table 3-13): above the Receive Maximum, too many messages a second, a quota."""


class Hindrance:
    """Of one uplink. Times are monotonic seconds."""

    def __init__(self, outbox: Outbox) -> None:
        self.stuck = ""
        """Why nothing gets through although the connection stands; empty while something does."""
        self.hold_until = 0.0
        """Nothing at all should be sent before."""
        self._outbox = outbox
        self._silence = self._overrun = ""
        self._overruns = 0
        self._moved_at = -math.inf
        self._strange: set[FactClass] = set()
        self._unanswered: list[Flight] = []

    @property
    def words(self) -> str:
        """What a person should know although the link is up; empty when nothing."""
        said = (self._strangers or self._silence, self._overrun, self._outbox.refusals.words)
        return "; ".join(words for words in said if words)

    @property
    def _strangers(self) -> str:
        if not self._strange:
            return ""
        names = ", ".join(name for name in FactClass if name in self._strange)
        return (
            f"HQ has other facts than this journal under the same numbers ({names}): this is an older copy of it, or"
            " another gateway runs on a copy. What HQ lacks is kept here and does not get there: call HQ, and see"
            " docs/link.md, An older copy"
        )

    def strange(self, fact_class: FactClass, seq: int) -> bool:
        """HQ has, up to `seq`, other facts than ours; returns whether that is news."""
        if fact_class in self._strange:
            return False
        self._strange.add(fact_class)
        log.error("HQ has %s up to %d of this epoch, and not from this journal: %s", fact_class, seq, self._strangers)
        return True

    def forget_strangers(self) -> None:
        """Another epoch has begun, which HQ has from nobody else."""
        self._strange.clear()

    def moved(self, now: float) -> bool:
        """Something got to where it is to be kept; returns whether there was a hindrance."""
        before = self.stuck or self._silence or self._overrun
        self._moved_at = now
        self.stuck = self._silence = self._overrun = ""
        return bool(before)

    def silent(self, late: Iterable[FactClass], now: float) -> None:
        """HQ has confirmed nothing of these classes for too long."""
        names = ", ".join(late)
        self._silence = f"HQ does not confirm {names}: is its receiver running? Facts are kept and sent again"
        if now - self._moved_at >= policy.CONFIRM_WITHIN_S:
            self.stuck = f"connected, but {self._silence}"

    def deaf(self) -> None:
        """The broker has acknowledged nothing for too long."""
        self.stuck = "connected, but the cloud broker acknowledges nothing that it is sent"
        log.error("%s; trying on another connection", self.stuck)

    def failed(self, flight: Flight, error: BusError, now: float) -> None:
        """The broker has not taken this batch."""
        refusals = self._outbox.refusals
        if isinstance(error, Disconnected):
            self._unanswered.append(flight)
        elif isinstance(error, TooLarge):
            if flight.size_bytes <= self._outbox.packet_bytes:
                refusals.too_large(flight.size_bytes)
        elif isinstance(error, PublishRejected):
            refusals.refused(flight.fact_class, f"{error.reason}, 0x{error.reason_code:02x}", now)

    def lost(self, reason: Disconnected, now: float) -> None:
        """The connection has gone; what the broker had not taken of it has `failed` before."""
        unanswered, self._unanswered = self._unanswered, []
        if reason.cause != "closed":
            return  # it was not the broker's doing
        if reason.code == TOO_MANY:
            self._outbox.narrow_window()
        elif reason.code in (TOO_FAST, QUOTA_EXCEEDED):
            self.hold_until = now + min(OVERRUN_TO_S, OVERRUN_FROM_S * 2 ** min(self._overruns, 10))
            self._overruns += 1
            self._overrun = f"the cloud broker said it was too much ({reason.detail}); is the profile the right one?"
        else:
            self._outbox.refusals.closed(unanswered, reason.code, now)
