"""What leaves next: cursors, windows and turns of the uplink. No I/O and no clock.

Strategy: per class three sequences, `confirmed` <= `sent` <= `head`. Sending moves `sent`, HQ's confirmation moves
`confirmed`, and whatever goes wrong (link lost, HQ silent) is one operation: `sent` goes back to `confirmed`. A
critical fact is always the next batch; the other classes take turns by weight (stride scheduling), so a low one is
slow but never starved. Of those only a moment's worth is on the line at a time (`flow`), because a critical one cannot
overtake what has left.

The caller asks `choose`, reads and sends that class, and reports `sent`, `acked`, `confirm` or `rewind`.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cloud_bridge import policy
from cloud_bridge.flow import Flow, Mark
from cloud_bridge.pace import Budget
from cloud_bridge.refusals import Refusals
from edge.bus.messages.facts import FactClass

FLIGHT_OVERHEAD_BYTES = 320
"""Of a PUBLISH besides its payload, at most: topic, header, expiry. It counts where bytes in flight are limited."""


@dataclass(slots=True, eq=False)
class Flight:
    """One batch on its way. `acked` by the broker."""

    fact_class: FactClass
    first: int
    last: int
    head: bytes
    """The hash of `last`."""
    size_bytes: int
    sent_at: float
    mark: Mark | None
    """None for critical ones, which wait for nobody."""
    acked: bool = False
    taken_at: float | None = None
    """When the broker acknowledged this batch, or a later one: its answer to this one is then lost."""


@dataclass(slots=True)
class Track:
    """One class: sequences as above; `prev` is the hash of `sent`, None when the journal must be asked for it."""

    head: int = 0
    sent: int = 0
    confirmed: int = 0
    compared: bool = False
    """Whether HQ was seen, in this life of the bridge, to have this very journal up to where it had it then."""
    prev: bytes | None = None
    waiting_since: float = 0.0
    passed: float = 0.0
    """Stride scheduling: bytes sent divided by weight; the smallest is next."""
    ahead: deque[Flight] = field(default_factory=deque)
    """Sent and not confirmed, in order."""
    quiet_since: float = 0.0
    """When the last confirmation came, or the first unconfirmed batch left."""
    resends: int = 0
    patience_s: float = policy.CONFIRM_WITHIN_S


class Outbox:
    """The state of sending one journal epoch. Times are monotonic seconds."""

    def __init__(
        self,
        *,
        in_flight: int,
        packet_bytes: int,
        in_flight_bytes: int | None = None,
        budget: Budget | None = None,
        confirmed_by_broker: bool = False,
        confirm_within_s: float = policy.CONFIRM_WITHIN_S,
        bulk_in_flight: int = policy.BULK_IN_FLIGHT,
    ) -> None:
        self.tracks: dict[FactClass, Track] = {}
        self.refusals = Refusals()
        self._packet_bytes = self._profile_packet_bytes = packet_bytes
        self.in_flight = self._profile_in_flight = in_flight
        self.in_flight_bytes = in_flight_bytes
        self.heard = confirmed_by_broker
        self.flow = Flow()
        self.budget = budget or Budget()
        self._confirmed_by_broker = confirmed_by_broker
        self._confirm_within_s = confirm_within_s
        self._bulk_in_flight = bulk_in_flight
        self._greeted_until = 0.0
        self._deaf_times = 0
        self._asked_at = -policy.ASK_TO_S
        self._ask_after_s = policy.LATE_S
        self._unacked: set[Flight] = set()
        self._needed_bytes = 0
        self._passed = 0.0
        self.start({})

    def start(self, confirmed: Mapping[FactClass, int]) -> None:
        """Begin an epoch, of which `confirmed` is known to be at HQ."""
        self.tracks = {fact_class: Track() for fact_class in FactClass}
        for fact_class, seq in confirmed.items():
            track = self.tracks[fact_class]
            track.confirmed = track.sent = track.head = seq

    def narrow(self, receive_maximum: int, max_packet_bytes: int | None) -> None:
        """What the broker itself bears may be less than its profile says, never more."""
        self.in_flight = min(self._profile_in_flight, receive_maximum)
        self._packet_bytes = min(self._profile_packet_bytes, max_packet_bytes or self._profile_packet_bytes)

    def narrow_window(self) -> None:
        """The broker says that its window was overrun: believe it, for the life of this process."""
        self._profile_in_flight = max(1, self._profile_in_flight // 2)

    @property
    def packet_bytes(self) -> int:
        """The largest packet that may leave now."""
        return min(self._packet_bytes, self.refusals.packet_bytes or self._packet_bytes)

    # -- what there is -------------------------------------------------------------------------------------------------

    def see_heads(self, heads: Mapping[FactClass, int], now: float) -> bool:
        """The journal reaches so far; returns whether there is more to send than before."""
        grown = False
        for fact_class, head in heads.items():
            track = self.tracks[fact_class]
            if head > track.head:
                if track.head <= track.sent:
                    track.waiting_since = now
                    track.passed = max(track.passed, self._passed)
                track.head = head
                grown = True
        return grown

    def budget_wait_s(self, now: float) -> float:
        """How long metered classes still wait for the line's budget; 0 when they do not, or have nothing to send."""
        waits = any(policy.POLICY[name].metered and track.head > track.sent for name, track in self.tracks.items())
        return self.budget.metered_wait_s(now) if waits else 0.0

    @property
    def budget_bytes_per_s(self) -> float | None:
        """What the line's budget lets metered classes send in the long run; None without one."""
        return self.budget.long_run_bytes_per_s(self.packet_bytes)

    def budget_left_bytes(self, now: float) -> float | None:
        """What metered classes may still send at once; below 0 in debt, None without a budget of bytes."""
        left = self.budget.levels(now).get("bytes")
        return left[0] if left is not None else None

    def sent_besides(self, size_bytes: int, now: float) -> None:
        """Something that is no batch has left on the same line."""
        self.budget.spend(size_bytes, now)

    def backlog(self) -> dict[FactClass, int]:
        """Facts not yet confirmed, per class."""
        return {fact_class: max(0, track.head - track.confirmed) for fact_class, track in self.tracks.items()}

    @property
    def heads(self) -> dict[FactClass, int]:
        """The journal's last sequence per class, of the classes that have any."""
        return {fact_class: track.head for fact_class, track in self.tracks.items() if track.head}

    @property
    def confirmed(self) -> dict[FactClass, int]:
        """The highest confirmed sequence per class, of the classes that have any."""
        return {fact_class: track.confirmed for fact_class, track in self.tracks.items() if track.confirmed}

    # -- what leaves next ----------------------------------------------------------------------------------------------

    def choose(self, now: float, *, packing: bool = False) -> FactClass | float | None:
        """The class to send now; or seconds until there is one; or None while only an event can change the answer.

        `packing`: a bulk batch is on its way here already, and only a critical one may overtake it.
        """
        waiting = [fact_class for fact_class, track in self.tracks.items() if track.head > track.sent]
        if not waiting or self.room <= 0 or not self._window_open(now) or (self._unacked and self.refusals.careful):
            return None
        if not self.heard and now < self._greeted_until:
            return self._greeted_until - now
        if (pause := self.budget.wait_s(now)) > 0:
            return pause
        held_s = self.refusals.wait_s(FactClass.CRITICAL, now)
        may = not held_s and not self._must_wait_for_word(FactClass.CRITICAL)
        if FactClass.CRITICAL in waiting and may and self._may_run_ahead(critical=True):
            return FactClass.CRITICAL
        if packing:
            return None
        bulk_out = sum(1 for flight in self._unacked if flight.fact_class is not FactClass.CRITICAL)
        if bulk_out >= min(self._bulk_in_flight, max(1, self.in_flight - 1)) or not self._may_run_ahead():
            return None
        if not self.flow.open(now):
            return None
        ready: list[FactClass] = []
        pauses: list[float] = [held_s] if held_s and FactClass.CRITICAL in waiting else []
        for fact_class in waiting:
            pause = self._pause_s(fact_class, now)
            if fact_class is FactClass.CRITICAL or self._must_wait_for_word(fact_class):
                continue
            if pause > 0:
                pauses.append(pause)
            else:
                ready.append(fact_class)
        if ready:
            return min(ready, key=lambda fact_class: self.tracks[fact_class].passed)
        return min(pauses) if pauses else None

    def _pause_s(self, fact_class: FactClass, now: float) -> float:
        """How long this class should still wait: for its batch to fill, or for the hour's budget."""
        rule, track = policy.POLICY[fact_class], self.tracks[fact_class]
        pause = self.budget.metered_wait_s(now) if rule.metered else 0.0
        pause = max(pause, self.refusals.wait_s(fact_class, now))
        if track.head - track.sent < policy.MAX_BATCH_FACTS:
            pause = max(pause, track.waiting_since + rule.linger_ms / 1000 - now)
        return pause

    def _must_wait_for_word(self, fact_class: FactClass) -> bool:
        """After a silence of HQ one batch of the class asks for a word; the rest follows when that has come."""
        track = self.tracks[fact_class]
        return bool(track.resends and track.ahead)

    @property
    def room(self) -> int:
        """How many more publishes may be out unacknowledged."""
        return self.in_flight - len(self._unacked)

    def window_left_bytes(self) -> int | None:
        """How large a payload may leave now; None: as large as any. One always may when nothing is out."""
        if self.in_flight_bytes is None or not self._unacked:
            return None
        out_bytes = sum(flight.size_bytes + FLIGHT_OVERHEAD_BYTES for flight in self._unacked)
        return self.in_flight_bytes - out_bytes - FLIGHT_OVERHEAD_BYTES

    def may_leave(self, size_bytes: int, now: float) -> bool:
        """Whether a payload of this size may leave now. Something else may have left since its class was chosen."""
        if self.room <= 0 or (self._unacked and self.refusals.careful) or self.budget.wait_s(now) > 0:
            return False
        return self.fits(size_bytes)

    def fits(self, size_bytes: int) -> bool:
        """Whether a payload of this size may leave now. If not, nothing is chosen until it does."""
        left = self.window_left_bytes()
        self._needed_bytes = 0 if left is None or size_bytes <= left else size_bytes
        return not self._needed_bytes

    def _window_open(self, now: float) -> bool:
        left = self.window_left_bytes()
        return left is None or left >= (self._needed_bytes or min(self.packet_bytes, self.flow.batch_bytes(now)))

    def _may_run_ahead(self, *, critical: bool = False) -> bool:
        """Whether more may be sent than HQ has confirmed. Critical facts have as much room again, of their own."""
        if self._confirmed_by_broker:
            return True
        batches, size = 0, 0
        for track in self.tracks.values():
            batches += len(track.ahead)
            size += sum(flight.size_bytes for flight in track.ahead)
        room = 2 if critical else 1
        if not self.heard:
            return batches < policy.UNHEARD_BATCHES * room
        return batches < policy.AHEAD_BATCHES * room and size < policy.AHEAD_BYTES * room

    # -- what happened -------------------------------------------------------------------------------------------------

    def sent(self, fact_class: FactClass, first: int, last: int, head: bytes, size_bytes: int, now: float) -> Flight:
        """A batch has left. `head` is the hash of `last`."""
        mark = self.flow.sent(size_bytes, now) if fact_class is not FactClass.CRITICAL else None
        flight = Flight(fact_class, first, last, head, size_bytes, now, mark)
        track = self.tracks[fact_class]
        if not track.ahead:
            track.quiet_since = now
        track.sent, track.prev = last, head
        track.ahead.append(flight)
        self._unacked.add(flight)
        rule = policy.POLICY[fact_class]
        self.budget.spend(size_bytes, now, metered=rule.metered)
        weight = rule.weight
        if weight is not None:
            self._passed = track.passed
            track.passed += size_bytes / weight
        return flight

    def acked(self, flight: Flight, now: float) -> bool:
        """The broker has it; returns whether that confirmed something."""
        flight.acked = True
        for earlier in self._unacked:  # itself among them
            if earlier.sent_at <= flight.sent_at and earlier.taken_at is None:
                earlier.taken_at = now
        self._unacked.discard(flight)
        self._deaf_times = 0
        self.refusals.taken(flight)
        if flight.mark:
            self.flow.acked(flight.mark, now)
        if not self._confirmed_by_broker:
            return False
        track = self.tracks[flight.fact_class]
        upto = track.confirmed
        for other in track.ahead:
            if not other.acked:
                break
            upto = other.last
        return self.confirm({flight.fact_class: upto}, now)

    def stays(self, flight: Flight) -> None:
        """It was never put on the line: when it counts as acknowledged, that tells nothing of the line."""
        if flight.mark:
            self.flow.gone(flight.mark)
            flight.mark = None

    def dropped(self, flight: Flight) -> None:
        """The broker will not get it as it is: send again from what is confirmed."""
        self._unacked.discard(flight)
        if flight.mark:
            self.flow.gone(flight.mark)
        if flight in self.tracks[flight.fact_class].ahead:
            self.rewind([flight.fact_class])

    def confirm(self, confirmed: Mapping[FactClass, int], now: float) -> bool:
        """HQ has everything up to these sequences; returns whether that was news.

        Never believed beyond the journal's head: those would be facts of another life, and ours would not be sent.
        """
        progress = False
        for fact_class, told in confirmed.items():
            track = self.tracks[fact_class]
            seq = min(told, track.head)
            if seq <= track.confirmed:
                continue
            progress = True
            track.confirmed = seq
            track.quiet_since, track.resends, track.patience_s = now, 0, self._confirm_within_s
            self._ask_after_s = policy.LATE_S
            while track.ahead and track.ahead[0].last <= seq:
                track.ahead.popleft()
            if track.sent < seq:
                track.sent, track.prev = seq, None
        return progress

    def knows(self, fact_class: FactClass, seq: int, digest: str) -> bool:
        """Whether HQ, which has the hash `digest` at `seq`, can mean nothing but what was sent from here."""
        track = self.tracks[fact_class]
        if not digest:  # the end of a tombstone, or facts that came without hashes
            return seq <= max(track.head, track.confirmed)
        if seq <= track.confirmed:
            return track.compared
        return any(flight.last == seq and flight.head.hex().startswith(digest) for flight in track.ahead)

    def distrust(self, fact_class: FactClass) -> bool:
        """HQ has other facts; returns whether what counted as confirmed does so no more, since it may be of them."""
        track = self.tracks[fact_class]
        if track.compared or not track.confirmed:
            return False
        track.confirmed = track.sent = 0
        track.prev = None
        track.ahead.clear()
        return True

    def connected(self, now: float) -> None:
        """A new connection. HQ, which is asked on it what it has, gets a moment to answer before more is sent."""
        self.heard = self._confirmed_by_broker
        self.flow.connected()
        self._greeted_until = now + policy.GREETING_S
        self._ask_after_s = policy.LATE_S
        for track in self.tracks.values():
            track.quiet_since = now

    def first_word(self) -> None:
        """HQ has spoken for the first time on this connection: what the broker took before that may have met nobody."""
        if not self.heard:
            self.heard = True
            self.rewind()

    def rewind(self, classes: Iterable[FactClass] = FactClass) -> None:
        """Send again from what is confirmed."""
        for fact_class in classes:
            track = self.tracks[fact_class]
            if track.sent != track.confirmed:
                track.sent, track.prev = track.confirmed, None
            track.ahead.clear()

    # -- the broker keeps silent ---------------------------------------------------------------------------------------

    def deaf_in_s(self, now: float) -> float | None:
        """Seconds until the broker should have acknowledged the oldest batch; None while nothing is out.

        A large packet on a thin line takes its time, and a broker that was deaf before gets longer each time.
        """
        if not self._unacked:
            return None
        size_bytes = sum(flight.size_bytes for flight in self._unacked)
        patience_s = (
            policy.ACK_WITHIN_S * float(1 << min(self._deaf_times, 4)) + size_bytes / policy.THINNEST_BYTES_PER_S
        )
        return min(flight.sent_at for flight in self._unacked) + patience_s - now

    def deaf(self) -> None:
        """The broker has not acknowledged in time."""
        self._deaf_times += 1

    # -- HQ does not confirm -------------------------------------------------------------------------------------------

    def ask_in_s(self, now: float) -> float | None:
        """Seconds until HQ should be asked what it has; None while it has all that the broker took."""
        late_at = [at for track in self.tracks.values() if (at := self._late_at(track)) is not None]
        if not late_at or self._confirmed_by_broker:
            return None
        return max(0.0, max(min(late_at), self._asked_at + self._ask_after_s) - now)

    def asked(self, now: float) -> None:
        """HQ was asked. Each time in vain it is left alone for longer."""
        self._asked_at = now
        self._ask_after_s = min(policy.ASK_TO_S, 2 * self._ask_after_s)

    def lost(self, told: Iterable[FactClass], now: float) -> list[FactClass]:
        """Of the classes that HQ has just spoken of (`confirm` first), those in which a batch got lost on the way.

        The broker took it, HQ is alive and has not got it. Each is then to be rewound.
        """
        found = []
        for fact_class in told:
            track = self.tracks[fact_class]
            late_at = self._late_at(track)
            if late_at is not None and now >= late_at:
                found.append(fact_class)
                track.resends += 1
        return found

    @staticmethod
    def _late_at(track: Track) -> float | None:
        """When HQ should have confirmed the class's first batch; None while the broker has not taken it.

        What HQ gets and does not take, again and again, is sent less and less often.
        """
        if not track.ahead or track.ahead[0].taken_at is None:
            return None
        return track.ahead[0].taken_at + min(policy.RESEND_TO_S, policy.LATE_S * float(1 << min(track.resends, 16)))

    def silent(self, now: float) -> list[FactClass]:
        """Classes of which HQ has confirmed nothing for too long; each is then to be rewound."""
        late = []
        for fact_class, track in self.tracks.items():
            if track.ahead and not self._confirmed_by_broker and now - track.quiet_since >= self._patience(track):
                late.append(fact_class)
                track.resends += 1
                longest = min(policy.RESEND_TO_S, self._confirm_within_s * 2**track.resends)
                track.patience_s = self._confirm_within_s + random.uniform(0, longest)
        return late

    def silent_in_s(self, now: float) -> float | None:
        """Seconds until `silent` should be asked again; None while everything is confirmed."""
        waits = [self._patience(t) - (now - t.quiet_since) for t in self.tracks.values() if t.ahead]
        return max(0.0, min(waits)) if waits and not self._confirmed_by_broker else None

    def _patience(self, track: Track) -> float:
        return track.patience_s if track.resends else self._confirm_within_s
