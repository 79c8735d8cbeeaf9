"""Fixtures of the tests of edge: brokers."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.edge.bus_rig import Broker, settings_in


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for a whole module: tills in by naming their lane. Tests keep apart by lanes and client ids."""
    one = Broker(settings_in(tmp_path_factory.mktemp("broker"), _port()))
    try:
        yield one.start()
    finally:
        one.stop()


@pytest.fixture
def own_broker(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Broker]:
    """A broker for one test, which may kill it."""
    one = Broker(settings_in(tmp_path / "broker", free_port()))
    try:
        yield one.start()
    finally:
        one.stop()
