"""What every kind of test shares: fixtures that need no part of Tillgate, and who runs which test."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling


class OneByOne(LoadScopeScheduling):
    """Every test goes to whichever worker is free, except that all tests with one cloud broker stay on one worker.

    A cluster takes half a minute to start. (`--dist loadgroup` would be the way, but it needs node ids that can be
    changed, and pytest 9 has no such thing.)
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, name = nodeid.partition("::")
        broker = name.partition("[")[2].rstrip("]").partition("-")[0]
        return f"{file.rpartition('/')[0]} {broker}" if file.startswith("tests/clouds/") and broker else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneByOne:
    """Asked once, when tests run on several workers."""
    return OneByOne(config, log)


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
