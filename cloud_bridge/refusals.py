"""What the cloud broker does not take, found out so that the rest flows.

Strategy: a broker says no in two ways. A PUBACK with a reason names the publish: its class waits, longer each time,
and the others go on. A broker that closes the connection instead (all that MQTT 3.1.1 allows) names nothing, and would
close it for ever if the same batch went first each time. So every class whose batch was unanswered when the broker
closed gets a strike, and an acknowledgement wipes its strikes; from two strikes on batches go one at a time, so that
only the guilty class keeps striking. Then a single fact is tried: if that is taken, the packet was too large, and the
limit is halved; if not, the class waits.

Nothing here is remembered beyond the life of the process. No I/O and no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from edge.bus.messages.facts import FactClass

PACKET_TOO_LARGE = 0x95
"""MQTT 5, table 2-6."""

CAREFUL_STRIKES, PROBE_STRIKES, HOLD_STRIKES = 2, 3, 4
HOLD_FROM_S = 5.0
HOLD_TO_S = 60.0
CRITICAL_HOLD_S = 5.0
"""A class that is refused waits so long; a critical one never longer than this."""

SMALLEST_BYTES = 4096
"""No broker is taken to have a smaller limit than this: what is smaller was refused for another reason."""


class Sent(Protocol):
    """A batch, as far as it matters here."""

    fact_class: FactClass
    first: int
    last: int
    size_bytes: int


@dataclass(slots=True)
class _Standing:
    """One class's. `times`: refusals in a row by PUBACK."""

    strikes: int = 0
    times: int = 0
    held_until: float = 0.0
    why: str = ""
    killer_bytes: int = 0


class Refusals:
    """Of one broker. Times are monotonic seconds."""

    def __init__(self) -> None:
        self.packet_bytes: int | None = None
        """What was learnt of the largest packet; None: nothing."""
        self._standing = {fact_class: _Standing() for fact_class in FactClass}

    # -- what the sender asks ------------------------------------------------------------------------------------------

    def wait_s(self, fact_class: FactClass, now: float) -> float:
        """How long this class still waits because it was refused."""
        return max(0.0, self._standing[fact_class].held_until - now)

    @property
    def careful(self) -> bool:
        """Whether only one batch may be out at a time."""
        return any(one.strikes >= CAREFUL_STRIKES for one in self._standing.values())

    def one_fact(self, fact_class: FactClass) -> bool:
        """Whether the next batch of this class should hold a single fact."""
        return self._standing[fact_class].strikes >= PROBE_STRIKES

    @property
    def words(self) -> str:
        """What a person should know; empty when everything is taken."""
        said = [
            f"the cloud broker {one.why} {fact_class.value} facts; they are kept and tried again"
            for fact_class, one in self._standing.items()
            if one.why
        ]
        if self.packet_bytes is not None:
            said.append(
                f"the cloud broker takes no packets above {self.packet_bytes} bytes; is the profile the right one?"
            )
        return "; ".join(said)

    # -- what happened -------------------------------------------------------------------------------------------------

    def taken(self, flight: Sent) -> None:
        """The broker has acknowledged this batch."""
        one = self._standing[flight.fact_class]
        if one.strikes == PROBE_STRIKES and one.killer_bytes > 2 * flight.size_bytes:
            self._learn(one.killer_bytes // 2)
        self._standing[flight.fact_class] = _Standing()

    def refused(self, fact_class: FactClass, reason: str, now: float) -> None:
        """The broker has said no to a batch of this class."""
        one = self._standing[fact_class]
        if one.held_until > now:
            return  # of the same volley
        one.times += 1
        one.why = f"refuses ({reason}; check its access list)"
        self._hold(fact_class, one.times, now)

    def too_large(self, size_bytes: int) -> None:
        """The broker has said that a packet of so many bytes is too large."""
        self._learn(size_bytes * 3 // 4)

    def closed(self, unanswered: Sequence[Sent], code: int | None, now: float) -> None:
        """The broker has closed the connection, with `code` if it gave one, and never answered these batches."""
        if not unanswered:
            return
        if code == PACKET_TOO_LARGE:
            self.too_large(max(flight.size_bytes for flight in unanswered))
            return
        for flight in {flight.fact_class: flight for flight in unanswered}.values():
            one = self._standing[flight.fact_class]
            one.strikes += 1
            if self.packet_bytes is not None and flight.size_bytes > max(self.packet_bytes // 2, SMALLEST_BYTES):
                self._learn(flight.size_bytes // 2)  # it was the size before, so it is again
                one.strikes = 0
            elif one.strikes < HOLD_STRIKES:
                one.killer_bytes = flight.size_bytes
            elif flight.first == flight.last and one.strikes == HOLD_STRIKES and flight.size_bytes > SMALLEST_BYTES:
                self._learn(flight.size_bytes * 3 // 4)  # then it is left out, and what stands for it is small
            else:
                one.why = "closes the connection on"
                self._hold(flight.fact_class, one.strikes - HOLD_STRIKES + 1, now)

    def _learn(self, packet_bytes: int) -> None:
        self.packet_bytes = max(SMALLEST_BYTES, min(packet_bytes, self.packet_bytes or packet_bytes))

    def _hold(self, fact_class: FactClass, times: int, now: float) -> None:
        longest = CRITICAL_HOLD_S if fact_class is FactClass.CRITICAL else HOLD_TO_S
        self._standing[fact_class].held_until = now + min(longest, HOLD_FROM_S * 2 ** min(times - 1, 10))
