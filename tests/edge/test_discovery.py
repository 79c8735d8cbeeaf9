"""Finding the gateway by mDNS, on loopback, with real multicast."""

from __future__ import annotations

import subprocess
import sys
import uuid

import pytest

from edge.bus.discovery import DiscoveryFailed, Found, advertise, browse

LOOPBACK = ("127.0.0.1",)


async def test_a_till_finds_its_own_store_and_no_other() -> None:
    mine, other = f"s.{uuid.uuid4().hex[:8]}", f"s_{uuid.uuid4().hex[:8]}"
    async with (
        advertise(mine, 18_883, tls=True, host="127.0.0.1", ca="ab:cd"),
        advertise(other, 18_884, tls=False, host="0.0.0.0", interfaces=LOOPBACK),
    ):
        found = await browse(mine, 20.0, interfaces=LOOPBACK)
        assert found == [Found("127.0.0.1", 18_883, mine, True, "ab:cd", ("127.0.0.1",))]
        found = await browse(other, 20.0, interfaces=LOOPBACK)
        assert found == [Found("127.0.0.1", 18_884, other, False, None, ("127.0.0.1",))]
        for wait_s in (1.5, 3.0, 6.0, 20.0):  # nobody says when everybody has answered
            stores = [gateway.store for gateway in await browse(None, wait_s, interfaces=LOOPBACK)]
            if {mine, other} <= set(stores):
                break
        assert stores.index(mine) < stores.index(other)  # the one with TLS comes first
        assert await browse("nobody", 0.2, interfaces=LOOPBACK) == []


async def test_without_a_network_the_failure_has_a_name() -> None:
    with pytest.raises(DiscoveryFailed, match="is a network connected"):
        async with advertise("s1", 1_883, tls=False, interfaces=("203.0.113.7",)):
            pass
    with pytest.raises(DiscoveryFailed, match="is a network connected"):
        await browse("s1", 0.1, interfaces=("203.0.113.7",))


def test_zeroconf_is_loaded_only_by_who_uses_it() -> None:
    program = "import sys, edge.bus.client, edge.bus.broker, edge.bus.discovery; sys.exit('zeroconf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
