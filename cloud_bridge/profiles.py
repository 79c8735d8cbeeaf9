"""Limits of real cloud brokers, one row each, and budgets of the line to them.

Strategy: `store.toml` names a row (``profile``) and a line (``link``). What the broker says in its CONNACK (Receive
Maximum, Maximum Packet Size) narrows the row further when connected. Vendors change their limits: verify a row against
the vendor's page before relying on it. ``safe`` stays inside all of them.

Source: design page "Journal, bridge, HQ", section "Limits of real cloud brokers".
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024


@dataclass(frozen=True, slots=True)
class Profile:
    """What one kind of cloud broker bears. None: no limit that is known."""

    name: str
    packet_bytes: int
    """The whole PUBLISH packet, topic and properties included."""
    in_flight: int
    """Publishes sent and not yet acknowledged."""
    in_flight_bytes: int | None
    publishes_per_s: int | None
    bytes_per_s: int | None
    connect_gap_s: float
    """At least this long between two attempts to connect."""
    retry_from_s: float
    """The first wait before reconnecting; it doubles up to `retry_to_s`. Each is drawn from 0 to it (full jitter)."""
    retry_to_s: float
    keepalive_s: int
    """What CONNECT announces. A line that has died silently is noticed within 1.25 times this, so at most 8."""
    filters_per_subscribe: int = 8


PROFILES: dict[str, Profile] = {
    row.name: row
    for row in (
        # name, packet, window, window bytes, publishes/s, bytes/s, connect gap, retry from, retry to, keep-alive
        Profile("safe", 64 * KIB, 10, 64 * KIB, 80, 400 * KIB, 0.0, 0.5, 12.0, 6),
        # One connect a second per client id; a keep-alive below 30 s counts as 30 s there, our pings go on.
        Profile("aws-iot-core", 128 * KIB, 100, None, 80, 400 * KIB, 1.5, 11.0, 30.0, 8),
        Profile("azure-event-grid", 512 * KIB, 100, 64 * KIB, 800, 800 * KIB, 1.0, 1.0, 20.0, 6),
        Profile("emqx", 1024 * KIB, 32, None, None, None, 0.0, 0.5, 12.0, 6),
        Profile("hivemq-ce", 1024 * KIB, 10, None, None, None, 0.0, 0.5, 12.0, 6),
        # A mosquitto on the next desk, as in `./dev run` and the tests.
        Profile("mosquitto", 256 * KIB, 20, None, None, None, 0.0, 0.2, 2.0, 4),
    )
}


@dataclass(frozen=True, slots=True)
class Line:
    """What the store's line bears. `bytes_per_hour` holds back only the classes that `policy` calls metered."""

    name: str
    bytes_per_s: int | None
    bytes_per_hour: int | None


LINES: dict[str, Line] = {
    row.name: row
    for row in (
        Line("fibre", None, None),
        Line("lte", 128 * KIB, 20 * 1024 * KIB),
    )
}


def smallest(*limits: int | None) -> int | None:
    """The narrowest of several limits, where None is no limit."""
    given = [limit for limit in limits if limit is not None]
    return min(given) if given else None
