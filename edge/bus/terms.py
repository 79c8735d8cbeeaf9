"""The terms on which a client and its broker deal with each other."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

UNLIMITED = 0xFFFF


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full jitter: wait between 0 and a ceiling that doubles from `min_s` to `max_s`; so tills do not come in step.

    `gap_s`: two attempts begin at least so far apart, and the jitter comes on top: some brokers count attempts and shut
    out who comes too often.
    """

    min_s: float = 0.2
    max_s: float = 10.0
    gap_s: float = 0.0

    def delay_s(self, attempt: int, since_last_s: float = math.inf) -> float:
        """Seconds to wait before attempt number `attempt` (1 is the first after a loss).

        `since_last_s`: how long ago the last attempt began.
        """
        jitter_s = random.uniform(0, min(self.max_s, self.min_s * 2 ** min(attempt, 32)))
        return max(0.0, self.gap_s - since_last_s) + jitter_s


NEARBY = Backoff(0.05, 1.0)
"""For the broker on this machine: nobody is in the way there, and every lane waits until the last link is back."""


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes when this client goes without a good-bye. `delay_s` needs MQTT 5."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True
    delay_s: int = 0


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What the broker said of itself on connecting; MQTT 3.1.1 brokers say nothing, and the defaults stand."""

    receive_maximum: int = UNLIMITED
    max_packet_bytes: int | None = None
    max_qos: int = 2
    retain_available: bool = True
    shared_subscriptions: bool = True
    keepalive_s: int | None = None


@dataclass(frozen=True, slots=True)
class Counters:
    """What happened since the client was made."""

    connections: int
    dropped_qos0: int
    expired: int
    rejected: int
    unhandled: int
    bugs: int
