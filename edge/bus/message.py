"""A message that came, and how it is acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge.bus.link import Link
from edge.bus.packets import encode_puback


@dataclass(slots=True, eq=False)
class Message:
    """A message that came. Treat it as frozen. With MQTT 3.1.1 there are no properties: the last four stay empty.

    `retain` is True for a message the broker had kept, False for a fresh one; `expiry_s` is what is left of it.
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool
    _packet_id: int
    _link: Link | None
    response_topic: str | None = None
    correlation: bytes | None = None
    expiry_s: int | None = None
    user_properties: tuple[tuple[str, str], ...] = ()

    @property
    def properties(self) -> dict[str, str]:
        """The MQTT 5 user properties."""
        return dict(self.user_properties)

    def ack(self) -> None:
        """Tell the broker that it need not keep the message.

        Nothing happens at QoS 0, the second time, or when the connection it came on has gone: then it comes again.
        """
        link, self._link = self._link, None
        if link is not None and not link.lost.done():
            link.write(encode_puback(self._packet_id))


Handler = Callable[[Message], None]
"""Takes a message and returns at once; whoever needs longer keeps the message and acknowledges it later."""
