"""What the status says of each way a link can fail, with the real bridge: the cause, and what a person can do."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest
from sqlalchemy import Engine

from demo.wan import Wan
from edge.bus.client import Address, Client, TlsFiles
from edge.bus.messages.facts import FactClass
from edge.config import StoreConfig
from tests.access.maker import Authority
from tests.cloud_bridge import stand_in_packets as mqtt
from tests.cloud_bridge.conftest import Configure
from tests.cloud_bridge.rig import QUICK, STORE, Edge, Mosquitto, a_bridge, a_port, a_receiver, at_hq, in_journal, until
from tests.cloud_bridge.stand_in import StandIn

PROTOCOLS = pytest.mark.parametrize("protocol", ["5", "3.1.1"])


async def said(config: StoreConfig) -> tuple[str, str]:
    """Link and detail, once the bridge has a verdict."""
    async with Edge(config).running() as edge, a_bridge(config):
        await until(lambda: edge.status and edge.status.link != "unknown")
        assert edge.status is not None
        return edge.status.link, edge.status.detail


async def test_a_name_that_nobody_knows(configure: Configure) -> None:
    config = configure(1883)
    assert config.cloud is not None
    lost = config.model_copy(update={"cloud": config.cloud.model_copy(update={"host": "no-such-broker.invalid"})})
    link, detail = await said(lost)
    assert link in ("wan", "lan")  # lan where this machine has no route out at all
    assert "name is not known" in detail


async def test_nobody_listens(configure: Configure) -> None:
    link, detail = await said(configure(a_port()))
    assert link == "cloud"
    assert "nothing listens there" in detail


def served(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert files.certificate is not None
    context.load_cert_chain(files.certificate, files.key)
    return context


@pytest.mark.parametrize(
    ("what", "word"),
    [
        ("expired", "has expired, or this box's clock is wrong"),
        ("of tomorrow", "this box's clock is behind"),
        ("stranger", "[cloud.tls] ca is not the authority"),
        ("another name", "for another name than [cloud] host"),
        ("no tls", "is TLS spoken on this port?"),
    ],
)
async def test_a_certificate_that_does_not_fit(what: str, word: str, configure: Configure, tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path / "stranger")
    signs = stranger if what == "stranger" else authority
    days = {"expired": (-9, -2), "of tomorrow": (1, 3)}.get(what, (-1, 2))
    tls = served(signs.issue("cloud", days=days, local=what != "another name"))
    async with StandIn().running(None if what == "no tls" else tls) as broker:
        link, detail = await said(configure(broker.port, f'[cloud.tls]\nca = "{authority.ca}"\n'))
    assert link == "cloud"
    assert word in detail


async def test_tls_that_fits_is_a_link(hq_file: Engine, configure: Configure, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with StandIn().running(served(authority.issue("cloud"))) as broker:
        config = configure(broker.port, f'[cloud.tls]\nca = "{authority.ca}"\n')
        async with Edge(config).running() as edge, a_bridge(config):
            await until(lambda: edge.status and edge.status.link == "online")


@PROTOCOLS
async def test_a_line_that_dies_in_mid_write_with_full_buffers(
    protocol: str, hq_file: Engine, cloud: Mosquitto, configure: Configure
) -> None:
    """One direction is dead, nothing is closed, and more is written than all buffers hold."""
    async with Wan(cloud.port) as wan:
        more = f'protocol = "{protocol}"\nwire = "single"\nconfirm = "broker"\n'
        config = configure(wan.port, more)
        async with Edge(config).running() as edge, a_bridge(config):
            await until(lambda: edge.status and edge.status.link == "online")
            await wan.cut()
            await edge.journal(FactClass.TRANSACTION, 60, noise_bytes=60_000)
            await until(lambda: edge.status and edge.status.link == "wan")
            await wan.restore()
            await until(lambda: edge.confirmed() == 60)
            assert edge.status is not None
            assert edge.status.link == "online"


@PROTOCOLS
async def test_a_line_that_is_cut_in_the_middle_of_a_drain(
    protocol: str, hq_file: Engine, cloud: Mosquitto, configure: Configure
) -> None:
    async with Wan(cloud.port) as wan:
        config = configure(wan.port, f'protocol = "{protocol}"\n')
        async with Edge(config).running() as edge, a_receiver(hq_file, cloud.port), a_bridge(config):
            await edge.journal(FactClass.TELEMETRY, 2_000, noise_bytes=200)
            await until(lambda: edge.confirmed(FactClass.TELEMETRY) > 0)
            for _ in range(3):
                wan.reset()
                await until(lambda: edge.status and edge.status.link == "online")
            await until(lambda: edge.confirmed(FactClass.TELEMETRY) == 2_000)
            assert at_hq(hq_file) == await in_journal(edge.store)


class Thin:
    """A broker behind a line so thin that a large packet takes longer than a keep-alive; it reads so much a step."""

    def __init__(self, *, dies: bool) -> None:
        self._dies = dies
        self.read_bytes = 0

    async def serve(self, server: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        line, _ = await loop.sock_accept(server)
        with line:
            await loop.sock_recv(line, 4_096)
            await loop.sock_sendall(line, mqtt.connack(5, False, 0, {}))
            while True:
                self.read_bytes += len(await loop.sock_recv(line, 4_096))
                if self.read_bytes > 298_000:
                    if self._dies:
                        await asyncio.Event().wait()
                    await loop.sock_sendall(line, mqtt.acknowledge(mqtt.PUBACK, 5, 1))
                    await asyncio.Event().wait()
                await asyncio.sleep(0.04)


@pytest.mark.parametrize("dies", [False, True], ids=["moving", "dead"])
async def test_a_thin_line_that_moves_is_not_dead(dies: bool) -> None:
    """300 KB at some 100 KB a second with a keep-alive of one second: the PING behind them is answered much later."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)
        line = Thin(dies=dies)
        task = asyncio.create_task(line.serve(server), name="thin line")
        port = server.getsockname()[1]
        client = Client(
            Address(host="127.0.0.1", port=port), client_id=STORE, keepalive_s=1.0, backoff=QUICK, clean_start=True
        )
        losses: list[str] = []
        client.on_disconnect.append(lambda reason: losses.append(reason.cause))
        taken: list[object] = []
        async with client:
            await client.wait_connected()
            client.publish_soon("t", b"x" * (600_000 if dies else 299_000), on_done=taken.append, resend=False)
            await until(lambda: taken)
        task.cancel()
    if dies:
        assert losses[0] == "silent"
    else:
        assert taken == [None]
        assert losses == []
