"""Fixtures of the tests against real cloud brokers: each is started once, and whole again before every test."""

from __future__ import annotations

import itertools
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud_bridge.profiles import KIB, PROFILES
from edge.config import StoreConfig
from tests.cloud_bridge.conftest import configure, hq, hq_file, hq_url, postgres
from tests.clouds import brokers
from tests.clouds.brokers import Cloud

__all__ = ["configure", "hq", "hq_file", "hq_url", "postgres"]

HOST = "mqtt.hq.example"
"""A name with the address of every node, as the DNS of a chain has it."""

Link = Callable[..., StoreConfig]


BROKERS = {
    "mosquitto": brokers.mosquitto,
    "nats": brokers.nats,
    "nats_cluster": brokers.nats_cluster,
    "rabbitmq": brokers.rabbitmq,
}


@pytest.fixture(scope="session", params=[pytest.param(name, marks=pytest.mark.timeout(400)) for name in BROKERS])
def a_cloud(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    """One of the brokers, running."""
    folder = Path(tempfile.mkdtemp(prefix="tillgate-cloud-"))
    made = BROKERS[request.param](folder)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cloud(a_cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """The broker with all its nodes up, behind `HOST`: each look-up begins with another node, as the DNS does it."""
    a_cloud.start()
    turns = itertools.count()
    resolve = socket.getaddrinfo

    def look_up(host: Any, port: Any, *more: Any, **options: Any) -> Any:
        if host != HOST:
            return resolve(host, port, *more, **options)
        turn = next(turns) % len(a_cloud.nodes)
        nodes = [*a_cloud.nodes[turn:], *a_cloud.nodes[:turn]]
        return [found for node in nodes for found in resolve(node.host, port, *more, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return a_cloud


@pytest.fixture
def link(cloud: Cloud, configure: Callable[..., StoreConfig], monkeypatch: pytest.MonkeyPatch) -> Link:
    """A function (extra lines for [cloud], profile, host) -> the configuration of a store that is linked to it."""

    def make(more: str = "", *, profile: str = cloud.profile, host: str = HOST) -> StoreConfig:
        # Many batches for a few facts, and no long wait for a broker that a test has killed.
        quick = replace(PROFILES[cloud.profile], packet_bytes=32 * KIB, retry_from_s=0.2, retry_to_s=2.0, silent_s=4.0)
        monkeypatch.setitem(PROFILES, cloud.profile, quick)
        return configure(cloud.port, f'profile = "{profile}"\nprotocol = "{cloud.protocol}"\n{more}', host)

    return make
