"""A few seconds of what strangers and a hostile till can send to a running store (`./dev fuzz --live N`: longer)."""

from __future__ import annotations

from pathlib import Path

from tests.access.store_rig import tls_store
from tests.fuzz.live import live


async def test_attack_rubbish_at_every_port(tmp_path: Path) -> None:
    """Strangers send rubbish, spoilt TLS and spoilt HTTP to every port, and a till spoilt MQTT to the bus: edge and
    broker stay the processes that they are and do not grow, and another till is served all the while.
    """
    async with tls_store(tmp_path) as store:
        done = await live(store, 3.0, 20_260_512)
    assert done.findings == []
    assert done.served >= 3
    assert len(done.inputs) == 7, done.inputs
