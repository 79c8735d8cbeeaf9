"""MQTT over WebSockets: the byte stream of a connection inside binary frames. Bytes in, bytes out; no I/O, no clock.

Strategy: the frames are wsproto's affair; here stands what MQTT demands of them. Packets and frames are not aligned:
what comes inside frames is one stream. Imported only where a WebSocket is used.

Source: OASIS MQTT Version 5.0, section 6 (binary frames only, subprotocol ``mqtt``); RFC 6455 (opening handshake: 4.1,
masking by the client: 5.3, close and ping: 5.5).
"""

from __future__ import annotations

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from edge.bus.errors import Disconnected
from edge.bus.packets import Malformed

SUBPROTOCOL = "mqtt"

HINTS = {
    400: "is [cloud] path right, and does this port speak MQTT over WebSockets?",
    401: "it wants to know who we are: is this store's certificate or password known there?",
    403: "it does not let this store in: is this store's certificate or password known there?",
    404: "is [cloud] path right?",
    407: "a proxy stands in between and wants a password; a way past it is needed",
}
"""HTTP status (RFC 9110, section 15) -> what a person can do about it."""


class WebSocket:
    """The client's end of one WebSocket to `host` (with its port, as in the Host header) at `path`."""

    def __init__(self, host: str, path: str) -> None:
        self._connection = WSConnection(ConnectionType.CLIENT)
        self._request = Request(host=host, target=path, subprotocols=[SUBPROTOCOL])
        self.open = False
        """Whether the other end has agreed to speak MQTT inside a WebSocket."""

    def hello(self) -> bytes:
        """What is sent first."""
        return self._connection.send(self._request)

    def pack(self, data: bytes) -> bytes:
        """`data` as it goes onto the wire; nothing once either end has begun to close."""
        try:
            return self._connection.send(BytesMessage(data))
        except LocalProtocolError:
            return b""

    def goodbye(self) -> bytes:
        """What is sent last (RFC 6455, 5.5.1: 1000 is a normal end)."""
        try:
            return self._connection.send(CloseConnection(code=1000))
        except LocalProtocolError:
            return b""

    def unpack(self, data: bytes) -> tuple[bytes, bytes]:
        """(MQTT's bytes in `data`, what is to be sent back).

        Raises `Disconnected` when the other end does not want, or closes; `Malformed` when it breaks the rules.
        """
        inside, back = [], []
        try:
            self._connection.receive_data(data)
            for event in self._connection.events():
                if isinstance(event, BytesMessage):
                    inside.append(bytes(event.data))
                elif isinstance(event, Ping):
                    back.append(self._connection.send(event.response()))
                else:
                    self._hear(event)
        except (RemoteProtocolError, UnicodeDecodeError) as error:  # the latter: headers that are no ASCII
            raise Malformed(f"no WebSocket: {error}") from error
        return b"".join(inside), b"".join(back)

    def _hear(self, event: Event) -> None:
        if isinstance(event, AcceptConnection):
            if event.subprotocol != SUBPROTOCOL:
                raise Disconnected("closed", "the WebSocket's other end does not speak MQTT; is [cloud] path right?")
            self.open = True
        elif isinstance(event, RejectConnection):
            hint = HINTS.get(event.status_code, "is it a broker that speaks MQTT over WebSockets?")
            raise Disconnected("closed", f"the WebSocket was refused with HTTP status {event.status_code}: {hint}")
        elif isinstance(event, CloseConnection) and self._connection.state is ConnectionState.OPEN:
            raise Malformed(f"no WebSocket: {event.reason}")  # nobody closed: this is how wsproto tells of bad frames
        elif isinstance(event, CloseConnection):
            why = f" ({event.reason})" if event.reason else ""
            raise Disconnected("closed", f"the other end closed the WebSocket with code {event.code}{why}")
        elif not isinstance(event, Pong | RejectData):
            raise Malformed("a WebSocket frame that is not binary came")  # MQTT-6.0.0-1
