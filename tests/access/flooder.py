"""A till run wild, in a process of its own: python -m tests.access.flooder PORT LANE CERTIFICATE KEY.

It publishes facts of its lane as fast as the broker takes them, and comes again when it is cut, until it is ended.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import threading
from pathlib import Path

from edge.bus.address import TlsFiles
from tests.access.attacker import CONNECT, PUBLISH, anything_goes, packet, text


def pour(connection: ssl.SSLSocket, lane: str) -> None:
    """Connect and publish until the other end has had enough of it. Raises OSError then."""
    connection.sendall(packet(CONNECT, 0, text("MQTT") + bytes([5, 2, 0, 60, 0]) + text(lane)))
    connection.recv(100)
    threading.Thread(target=swallow, args=(connection,), daemon=True).start()
    topic = text(f"tg/v1/lanes/{lane}/facts")
    burst = b"".join(packet(PUBLISH, 2, topic + number.to_bytes(2) + b"\0{}") for number in range(1, 201))
    while True:
        connection.sendall(burst)


def swallow(connection: ssl.SSLSocket) -> None:
    """Read what comes, so that nothing but the sending is held up."""
    with contextlib.suppress(OSError):
        while connection.recv(65_536):
            pass


def main(port: str, lane: str, certificate: str, key: str) -> None:
    """Flood until ended."""
    context = anything_goes(TlsFiles(None, Path(certificate), Path(key)))
    while True:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", int(port))) as plain,
            context.wrap_socket(plain) as connection,
        ):
            pour(connection, lane)


if __name__ == "__main__":
    main(*sys.argv[1:])
