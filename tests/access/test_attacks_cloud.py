"""The way to HQ is others': brokers that are not HQ's, and what they make up, hold back, keep and send again.

Confirmations and offers: test_attacks_confirming.py. Configuration and HQ's keys: test_attacks_configuration.py.
Certificates of other stores: test_cloud_renewal.py. Pins and old TLS: test_cloud_tls.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.bus.address import TlsFiles
from edge.bus.messages.facts import FactClass
from edge.journal.clock import Clock
from edge.journal.store import Store
from edge.services.commands import COMMANDS_SCHEMA
from edge.services.price_staging import PRICES_SCHEMA
from tests.access.maker import Authority
from tests.cloud_bridge.conftest import Configure
from tests.cloud_bridge.rig import Edge, Mosquitto, a_bridge, until
from tests.edge.hq_rig import EPOCH, Turnable
from tests.edge.test_commands import FINISHED, Gateway
from tests.edge.test_prices import ITEMS, Store1

# -- whoever answers at the broker's address -------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def broker_with(folder: Path, served: TlsFiles) -> AsyncIterator[int]:
    """A mosquitto that shows this certificate and lets everybody in."""
    broker = Mosquitto(folder / "evil", more=f"certfile {served.certificate}\nkeyfile {served.key}\n")
    await broker.start()
    try:
        yield broker.port
    finally:
        await broker.kill()


@pytest.mark.parametrize(
    ("what", "word"),
    [
        ("another authority's", "[cloud.tls] ca is not the authority"),
        ("another name", "is for another name"),
        ("expired", "has expired, or this box's clock is wrong"),
    ],
)
async def test_attack_a_broker_with_a_certificate_that_is_not_hqs(
    what: str, word: str, tmp_path: Path, configure: Configure
) -> None:
    """Whoever owns the line or its DNS answers as HQ's broker, with a certificate of another authority, of the right
    one for another name, or one long expired: no fact leaves, and the status says which it was.
    """
    authority, stranger = Authority(tmp_path / "ca"), Authority(tmp_path / "stranger")
    signs = stranger if what == "another authority's" else authority
    served = signs.issue("cloud", days=(-9, -2) if what == "expired" else (-1, 9), local=what != "another name")
    async with broker_with(tmp_path, served) as port:
        config = configure(port, f'[cloud.tls]\nca = "{authority.ca}"\n')
        async with Edge(config).running() as edge, a_bridge(config):
            await edge.journal(FactClass.CRITICAL, 1)
            await until(lambda: edge.status and edge.status.link == "cloud")
            assert edge.status is not None
            assert word in edge.status.detail
            assert edge.confirmed(FactClass.CRITICAL) == 0


async def test_attack_downgrade_to_plain(tmp_path: Path, configure: Configure) -> None:
    """Somebody answers without TLS where TLS is configured: not a byte of MQTT, no name and no password is said."""
    heard = bytearray()

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(b"\x20\x03\x00\x00\x00")  # a CONNACK that nobody asked for
            while data := await reader.read(4096):
                heard.extend(data)
        writer.close()

    (tmp_path / "password").write_text("very secret")
    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        lines = f'username = "s1"\npassword_file = "{tmp_path / "password"}"\n'
        config = configure(port, f'{lines}[cloud.tls]\nca = "{Authority(tmp_path / "ca").ca}"\n')
        async with Edge(config).running() as edge, a_bridge(config):
            await until(lambda: edge.status and edge.status.link == "cloud")
            assert edge.status is not None
            assert "no TLS is spoken on this port" in edge.status.detail
        assert heard.startswith(b"\x16\x03")  # a TLS handshake record (RFC 8446, 5.1)
        assert b"MQTT" not in heard
        assert b"very secret" not in heard


async def test_attack_oversized_downlink(configure: Configure) -> None:
    """The broker begins a packet of 256 MB although less was agreed: the connection ends at its header, nothing is
    gathered in memory, and the bridge connects again.
    """
    attempts = 0

    async def greedy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        with contextlib.suppress(ConnectionError):
            await reader.read(4096)
            writer.write(b"\x20\x03\x00\x00\x00")  # CONNACK (MQTT 5, 3.2)
            await reader.read(4096)
            writer.write(b"\x32\xff\xff\xff\x7f" + b"\0" * 65_536)  # PUBLISH of 268,435,455 bytes
            while await reader.read(4096):
                pass
        writer.close()

    async with await asyncio.start_server(greedy, "127.0.0.1", 0) as server:
        config = configure(server.sockets[0].getsockname()[1])
        async with Edge(config).running() as edge, a_bridge(config):
            await until(lambda: any("were agreed" in one.detail for one in edge.statuses))
            await until(lambda: attempts > 2)


# -- what it makes up, and keeps -------------------------------------------------------------------------------------


@pytest.fixture
async def prices(tmp_path: Path) -> AsyncIterator[Store1]:
    schemas = [("prices-1", PRICES_SCHEMA)]
    store = await Store.open(tmp_path / "store.db", "S1", clock=Clock(), reserve_bytes=0, schemas=schemas)
    one = Store1(store)
    running = asyncio.create_task(one.prices.run())
    yield one
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await store.close()


def cheap() -> list[dict[str, Any]]:
    return [{**item, "price_minor": 1} for item in ITEMS]


MAY, JUNE = {"published_at": "2026-05-04T05:00:00Z"}, {"published_at": "2026-06-04T05:00:00Z"}


async def test_attack_forged_price_version(prices: Store1) -> None:
    """The broker makes a price version of its own, or puts other chunks under a true manifest: the prices stay."""
    assert all(await prices.version("may", "2020-01-01T00:00:00", ITEMS, MAY))
    await until(lambda: prices.prices.active == "may")
    true, prices.key = prices.key, Ed25519PrivateKey.generate()
    assert not any(await prices.version("forged", "2020-01-01T00:00:00", cheap(), JUNE))
    prices.key = true
    manifest, *true_chunks = prices.messages("june", "2020-01-01T00:00:00", ITEMS, JUNE)
    forged_manifest, *forged_chunks = prices.messages("june", "2020-01-01T00:00:00", cheap(), JUNE)
    assert await manifest
    assert not await forged_chunks[0]
    assert [fact["code"] for fact in await prices.facts("tillgate.price.refused.v1")][-1] == "bad_chunk"
    forged_chunks[1].close()
    for one in (forged_manifest, *true_chunks):
        one.close()
    assert prices.prices.active == "may"


async def test_attack_an_older_price_version_sent_again(prices: Store1) -> None:
    """The broker keeps last month's true prices and sends them again, as new messages: what is newer stays in force."""
    for version, published in (("may", MAY), ("june", JUNE)):
        assert all(await prices.version(version, "2020-01-01T00:00:00", ITEMS, published))
        await until(lambda version=version: prices.prices.active == version)
    await prices.version("may", "2020-01-01T00:00:00", ITEMS, MAY)
    assert all(await prices.version("april", "2020-01-01T00:00:00", cheap(), {"published_at": "2026-04-04T05:00:00Z"}))
    assert all(await prices.version("july", "2020-01-01T00:00:00", ITEMS, {"published_at": "2026-07-04T05:00:00Z"}))
    await until(lambda: prices.prices.active == "july")
    activated = [fact["version"] for fact in await prices.facts("tillgate.price.activated.v1")]
    assert activated == ["may", "june", "july"]


@pytest.mark.parametrize("address", [{"store": "S2"}, {"store": None, "group": "south"}])
async def test_attack_prices_of_another_store_or_group(address: dict[str, Any], prices: Store1) -> None:
    """The broker hands a store the true prices of another store, or of a group that it is not in: refused."""
    assert not any(await prices.version("theirs", "2020-01-01T00:00:00", ITEMS, {**JUNE, **address}))
    assert prices.prices.active is None


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    hands = Turnable()
    store = await Store.open(tmp_path / "store.db", "S1", clock=hands.clock, schemas=[("commands-1", COMMANDS_SCHEMA)])
    yield Gateway(store, hands)
    await store.close()


async def test_attack_replayed_command(gateway: Gateway) -> None:
    """The broker sends a true command again, as it was, under another number, and after a restart: it ran once."""
    pen = gateway.pen
    command = gateway.command("device.test", {"device": "scanner-1"})
    body = pen.signed(json.dumps({"epoch": EPOCH, "seq": 1, "store": "S1", **command}))
    async with gateway.alive():
        assert (await pen.hand_over("commands", body, seq=1))["ok"]
        await gateway.finished(1)
        assert (await pen.hand_over("commands", body, seq=1))["ok"]  # known: nothing is done
        assert not (await pen.hand_over("commands", body, seq=2))["ok"]  # was signed as another message
    async with gateway.alive():
        await pen.hand_over("commands", body, seq=1)
    gateway.hands.pass_s(2 * 3600)
    async with gateway.alive():
        await gateway.store.write([("DELETE FROM commands", ())])  # forgotten after ten thousand others: expired then
        assert not (await pen.hand_over("commands", body, seq=1))["ok"]
    assert gateway.done == [("device.test", command["id"])]


@pytest.mark.parametrize("address", [{"store": "S2"}, {"group": "south"}])
async def test_attack_a_command_for_another_store(address: dict[str, str], gateway: Gateway) -> None:
    """The broker hands a store what HQ commanded another store, or a group that it is not in: refused and on record."""
    command = gateway.command("device.test", {"device": "scanner-1"})
    body = gateway.pen.signed(json.dumps({"epoch": EPOCH, "seq": 1, **address, **command}))
    async with gateway.alive():
        assert not (await gateway.pen.hand_over("commands", body, seq=1))["ok"]
    (answer,) = await gateway.pen.facts(FINISHED)
    assert answer["problem"]["code"] == "not_yours"
    assert gateway.done == []
