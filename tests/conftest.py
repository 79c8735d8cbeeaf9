"""Fixtures that every kind of test shares: only what needs no part of Tillgate."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A function that returns a TCP port of 127.0.0.1 on which nothing listens at the moment.

    Each call within one test returns another port. Between the call and the use another process may
    take it: a server that cannot bind should be started again on the next one.
    """
    given: set[int] = set()

    def pick() -> int:
        while True:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
            if port not in given:
                given.add(port)
                return port

    return pick
