"""What each kind of cloud broker bears, as its vendor writes it, and a meter that notes every limit that was broken.

The rows are the vendors' own numbers, not the product's profiles, which stay below them. A test that must not wait
scales a row: `replace(AWS_IOT_CORE, publishes_per_s=20)` beside a profile scaled alike.

Sources, as read in 2026:
- AWS General Reference, "AWS IoT Core endpoints and quotas", message broker and protocol limits: one CONNECT a second
  per client id; 100 unacknowledged QoS 1 publishes each way; 100 publishes a second per connection each way, what is
  above is discarded; 512 KiB a second per connection; payload 128 KB; 8 filters per SUBSCRIBE; 50 subscriptions per
  connection; topic 256 bytes, 7 slashes; client id 128 bytes; keep-alive 30 to 1,200 s; session expiry 1 h.
- Microsoft Learn, "Azure Event Grid quotas and limits" and "MQTT features supported by the Azure Event Grid MQTT
  broker": message 512 KB; per session 1,000 publishes and 1 MB a second, 1,000 messages and 64 KB in flight; topic
  256 bytes, 8 segments; QoS 1; keep-alive at most 1,160 s; a queue of 100 messages or 1 MB, then the session ends;
  retained messages of at most 64 KB; a PUBACK with an error from a client ends the connection.
- EMQX, "MQTT Configuration": packets of 1 MB, 128 topic levels, 65,535 bytes of client id, receive maximum 32, queue
  of 1,000, session expiry 2 h.
- HiveMQ CE, configuration of MQTT: packets of 268,435,460 bytes, receive maximum 10, queue of 1,000 (what is new is
  discarded), keep-alive at most 65,535 s.
"""

from __future__ import annotations

from dataclasses import dataclass, field

KB = 1000
KIB = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """One broker's. None: no limit."""

    packet_bytes: int | None = None
    maximum_qos: int = 2
    receive_maximum: int | None = None
    """Unacknowledged publishes, client to broker."""
    in_flight_bytes: int | None = None
    publishes_per_s: int | None = None
    """Each way, per connection."""
    discards_above_rate: bool = False
    """What is above the rate is dropped and not acknowledged, and the connection stays."""
    bytes_per_s: int | None = None
    connect_gap_s: float = 0.0
    """At least this between two CONNECT of one client id."""
    topic_bytes: int = 65_535
    topic_slashes: int | None = None
    filters_per_subscribe: int | None = None
    subscriptions: int | None = None
    client_id_bytes: int = 65_535
    keep_alive_s: tuple[int, int] = (0, 65_535)
    """What is below counts as the first; what is above is not allowed."""
    retained: bool = True
    retained_bytes: int | None = None
    shared: bool = True
    session_s: int = 0xFFFFFFFF
    """A client's session is kept no longer."""
    queued: int | None = None
    queued_bytes: int | None = None
    overflow_ends_session: bool = False
    """Else what is new is dropped."""


AWS_IOT_CORE = Limits(
    packet_bytes=128 * KB + 512,  # 128 KB of payload
    maximum_qos=1,
    receive_maximum=100,
    publishes_per_s=100,
    discards_above_rate=True,
    bytes_per_s=512 * KIB,
    connect_gap_s=1.0,
    topic_bytes=256,
    topic_slashes=7,
    filters_per_subscribe=8,
    subscriptions=50,
    client_id_bytes=128,
    keep_alive_s=(30, 1_200),
    session_s=3_600,
)
AZURE_EVENT_GRID = Limits(
    packet_bytes=512 * KB,
    maximum_qos=1,
    receive_maximum=1_000,
    in_flight_bytes=64 * KB,
    publishes_per_s=1_000,
    bytes_per_s=1_000 * KB,
    topic_bytes=256,
    topic_slashes=7,
    filters_per_subscribe=10,
    subscriptions=50,
    client_id_bytes=128,
    keep_alive_s=(0, 1_160),
    retained_bytes=64 * KB,
    session_s=8 * 3_600,
    queued=100,
    queued_bytes=1_000 * KB,
    overflow_ends_session=True,
)
EMQX = Limits(packet_bytes=1024 * KIB, receive_maximum=32, topic_slashes=127, session_s=7_200, queued=1_000)
HIVEMQ_CE = Limits(packet_bytes=268_435_460, receive_maximum=10, queued=1_000)


@dataclass(frozen=True, slots=True)
class Broken:
    """A limit that a client has broken: `limit` is the name of the column."""

    client_id: str
    limit: str
    detail: str


class Rate:
    """So much a second, one second's worth at once: how services meter."""

    def __init__(self, per_s: float) -> None:
        self._per_s = self._level = per_s
        self._at = 0.0

    def spend(self, amount: float, now: float) -> bool:
        """Whether `amount` was still within the rate."""
        self._level = min(self._per_s, self._level + (now - self._at) * self._per_s)
        self._at = now
        self._level -= amount
        if self._level < 0:
            self._level = 0.0
            return False
        return True


@dataclass(slots=True)
class Meter:
    """One connection's."""

    limits: Limits
    rates: dict[str, Rate] = field(default_factory=dict)

    def within(self, kind: str, per_s: float | None, amount: float, now: float) -> bool:
        if per_s is None:
            return True
        if kind not in self.rates:
            self.rates[kind] = Rate(per_s)
        return self.rates[kind].spend(amount, now)
