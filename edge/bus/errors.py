"""What can go wrong on the bus. Few errors, each meaning one thing."""

from __future__ import annotations


class BusError(Exception):
    """The base of everything this package raises for reasons outside the program."""


class Disconnected(BusError):
    """There is no connection. `cause` is one word for programs, `detail` a sentence for people.

    Causes: ``name`` (the host name is unknown), ``unreachable`` (no route), ``refused`` (nothing listens there),
    ``timeout`` (no answer while connecting), ``tls`` (certificate or handshake), ``connack:CODE`` (the broker said no;
    the MQTT reason code), ``silent`` (connected, but nothing comes any more), ``closed`` (the other end closed, or we
    did), ``expired`` (a message waited longer than its expiry). `code` is the broker's reason when it said good-bye.
    """

    def __init__(self, cause: str, detail: str, code: int | None = None) -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause
        self.detail = detail
        self.code = code


class PublishRejected(BusError):
    """The broker answered a publish with a reason code of 0x80 or more (MQTT 5 only); sending it again won't help."""

    def __init__(self, topic: str, reason_code: int, reason: str) -> None:
        super().__init__(f"the broker rejected a message on {topic!r}: {reason} (0x{reason_code:02x})")
        self.topic = topic
        self.reason_code = reason_code
        self.reason = reason


class TooLarge(PublishRejected):
    """The message is above the broker's limit: make it smaller."""

    def __init__(self, topic: str, size_bytes: int, limit_bytes: int | None) -> None:
        limit = "its limit" if limit_bytes is None else f"its limit of {limit_bytes} bytes"
        super().__init__(topic, 0x95, f"{size_bytes} bytes are above {limit}")
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class BusFull(BusError):
    """Too many messages wait for the broker already; nothing was queued."""


class SubscribeRefused(BusError):
    """The broker does not let this client read `topic_filter`: check its user name and the broker's access list."""

    def __init__(self, topic_filter: str, reason_code: int, reason: str) -> None:
        super().__init__(f"the broker refused to subscribe {topic_filter!r}: {reason} (0x{reason_code:02x})")
        self.topic_filter = topic_filter
        self.reason_code = reason_code
        self.reason = reason
