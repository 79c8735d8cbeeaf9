"""Limits of real cloud brokers, one row each, and budgets of the line to them.

Strategy: `store.toml` names a row (``profile``) and a line (``link``). A row stays a little below what the vendor
writes, because our count of what is out and the vendor's are never quite the same. What the broker says in its CONNACK
(Receive Maximum, Maximum Packet Size, Server Keep Alive) narrows the row further when connected. ``safe`` stays inside
all of them. Vendors change their limits: verify a row against the vendor's page before relying on it.

    row               source, as read in 2026
    aws-iot-core      AWS General Reference, "AWS IoT Core endpoints and quotas"; AWS IoT Core Developer Guide,
                      "Protocols, port mappings, and authentication" (ALPN)
    azure-event-grid  Microsoft Learn, "Azure Event Grid quotas and limits"; "MQTT features supported by ..."
    emqx              EMQX documentation, "MQTT Configuration"
    hivemq-ce         HiveMQ documentation, "MQTT-specific configuration"
    nats              NATS documentation, "Server configuration" (max_payload) and "MQTT"; tests/clouds
    rabbitmq          RabbitMQ documentation, "MQTT Plugin"; tests/clouds

Source: design page "Journal, bridge, HQ", section "Limits of real cloud brokers", and the pages above.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024

ASIDE_BYTES = 4 * KIB
"""Room in a window of bytes for what is sent beside facts: questions to HQ and the store's status."""


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
    """On average; a fourth of it may leave at once, so that no second sees more than 1.25 times this."""
    bytes_per_s: int | None
    connect_gap_s: float
    """Two attempts to connect begin at least this far apart."""
    retry_from_s: float
    """Before reconnecting, from 0 to twice this is waited; the ceiling doubles up to `retry_to_s` (full jitter)."""
    retry_to_s: float
    keepalive_s: int = 60
    """What CONNECT announces: how long a large packet may be on its way over a thin line before the broker gives up."""
    silent_s: float = 6.0
    """We ping more often than announced. A line that has died silently is noticed within 1.25 times this: at most 8."""
    filters_per_subscribe: int = 8
    subscriptions: int | None = None
    """Of one connection."""
    topic_bytes: int = 256
    topic_slashes: int = 7
    alpn: str = "mqtt"
    """What TLS announces on port 443 (IANA's name for MQTT; a vendor's own where it has one)."""


PROFILES: dict[str, Profile] = {
    row.name: row
    for row in (
        # name, packet, window, window bytes, publishes/s, bytes/s, connect gap, retry from, retry to
        Profile("safe", 56 * KIB, 10, 64_000, 80, 400 * KIB, 11.0, 2.0, 30.0, subscriptions=50),
        # One CONNECT a second per client id. What is above 100 publishes a second is thrown away there.
        Profile(
            "aws-iot-core", 120 * KIB, 80, None, 80, 400 * KIB, 1.5, 11.0, 30.0, subscriptions=50, alpn="x-amzn-mqtt-ca"
        ),
        # 200 CONNECT a second for all stores together; 64 KB may be out whatever a packet may hold.
        Profile("azure-event-grid", 56 * KIB, 100, 64_000, 800, 750 * KIB, 1.5, 5.0, 30.0, subscriptions=50),
        Profile("emqx", 1000 * KIB, 32, None, None, None, 0.0, 1.0, 12.0),
        Profile("hivemq-ce", 1000 * KIB, 10, None, None, None, 0.0, 1.0, 12.0),
        # Neither says anything of its limits in MQTT 3.1.1, and both took packets of many megabytes; a smaller batch is
        # less to send again, and below the max_payload of NATS (1 MB), which 2.9 applies to its other clients only.
        Profile("nats", 512 * KIB, 20, None, None, None, 0.0, 1.0, 12.0),
        Profile("rabbitmq", 512 * KIB, 20, None, None, None, 0.0, 1.0, 12.0),
        # A mosquitto on the next desk, as in `./dev run` and the tests.
        Profile("mosquitto", 256 * KIB, 20, None, None, None, 0.0, 0.2, 2.0, silent_s=4.0),
    )
}


@dataclass(frozen=True, slots=True)
class Line:
    """What the store's line bears. What is per hour holds back every class that `policy` calls metered."""

    name: str
    bytes_per_s: int | None
    bytes_per_hour: int | None
    messages_per_hour: int | None


LINES: dict[str, Line] = {
    row.name: row
    for row in (
        Line("fibre", None, None, None),
        Line("lte", 128 * KIB, 20 * 1024 * KIB, 6_000),
    )
}


def smallest(*limits: int | None) -> int | None:
    """The narrowest of several limits, where None is no limit."""
    given = [limit for limit in limits if limit is not None]
    return min(given) if given else None
