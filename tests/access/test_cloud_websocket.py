"""MQTT over WebSockets: a real mosquitto (libwebsockets), with TLS and without; and peers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from edge.bus.address import Address, TlsFiles
from edge.bus.client import Client, Disconnected, Message
from edge.bus.messages.facts import FactClass
from tests.access.maker import Authority
from tests.cloud_bridge.conftest import Configure
from tests.cloud_bridge.rig import QUICK, Edge, Mosquitto, a_bridge, a_port, a_receiver, at_hq, in_journal, until
from tests.edge.bus_rig import Proxy


class WebBroker(Mosquitto):
    """A mosquitto that speaks WebSockets on `web_port` and MQTT on `port`."""

    def __init__(self, folder: Path, tls: TlsFiles | None = None) -> None:
        self.web_port = a_port()
        lines = f"listener {self.web_port} 127.0.0.1\nprotocol websockets\n"
        if tls is not None:
            lines += f"certfile {tls.certificate}\nkeyfile {tls.key}\n"
        super().__init__(folder, more=lines)

    async def start(self) -> None:
        await super().start()
        async with asyncio.timeout(30):
            while not await self._listens():
                await asyncio.sleep(0.02)

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.web_port)
        except OSError:
            return False
        writer.close()
        return True


@contextlib.asynccontextmanager
async def running(broker: WebBroker) -> AsyncIterator[WebBroker]:
    await broker.start()
    try:
        yield broker
    finally:
        await broker.kill()


@pytest.fixture(params=["ws", "wss"])
async def web(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[WebBroker, TlsFiles | None]]:
    tls = None
    if request.param == "wss":
        served = Authority(tmp_path).issue("cloud")
        broker, tls = WebBroker(tmp_path / "web", served), TlsFiles(served.ca)
    else:
        broker = WebBroker(tmp_path / "web")
    async with running(broker):
        yield broker, tls


@pytest.mark.parametrize("protocol", [5, 4])
async def test_what_is_sent_comes_whole(web: tuple[WebBroker, TlsFiles | None], protocol: int) -> None:
    """Packets of every length of a frame's header, in order. (mosquitto 2.0 takes some 100 KB a second this way.)"""
    broker, tls = web
    address = Address("127.0.0.1", broker.web_port, tls=tls, websocket="/mqtt")
    got: list[bytes] = []

    def take(message: Message) -> None:
        got.append(message.payload)
        message.ack()

    client = Client(address, client_id="s1", protocol=protocol, clean_start=True, backoff=QUICK)
    client.on_message("t/#", take)
    sent = [os.urandom(size) for size in (1, 125, 126, 10, 65_535, 65_536, 100_000)]
    async with client:
        await client.wait_connected()
        for payload in sent:
            client.publish_soon("t/1", payload)
        await until(lambda: len(got) == len(sent))
    assert got == sent


async def test_a_drain_to_hq_over_websockets_through_cuts(
    web: tuple[WebBroker, TlsFiles | None],
    hq_file: Engine,
    configure: Configure,
) -> None:
    """The bridge in a store, its broker killed in the middle: everything arrives, once and unchanged."""
    broker, tls = web
    more = 'transport = "websocket"\n' + (f'[cloud.tls]\nca = "{tls.ca}"\n' if tls else "")
    config = configure(broker.web_port, more)
    async with Edge(config).running() as edge, a_receiver(hq_file, broker.port), a_bridge(config):
        await edge.journal(FactClass.TELEMETRY, 1_500, noise_bytes=200)
        await until(lambda: edge.confirmed(FactClass.TELEMETRY) > 0)
        await broker.kill()
        await until(lambda: edge.status and edge.status.link == "cloud")
        await edge.journal(FactClass.CRITICAL, 5)
        await broker.start()
        await until(lambda: edge.confirmed(FactClass.TELEMETRY) == 1_500)
        await until(lambda: edge.confirmed(FactClass.CRITICAL) == 5)
        assert at_hq(hq_file) == await in_journal(edge.store)


async def test_a_half_open_websocket_is_noticed(tmp_path: Path) -> None:
    async with running(WebBroker(tmp_path / "web")) as broker, Proxy(Address("127.0.0.1", broker.web_port)) as proxy:
        address = Address("127.0.0.1", proxy.port, websocket="/mqtt")
        lost: list[Disconnected] = []
        client = Client(address, client_id="s1", keepalive_s=0.5, clean_start=True, backoff=QUICK)
        client.on_disconnect.append(lost.append)
        async with client:
            await client.wait_connected()
            proxy.deaf = True
            await until(lambda: lost)
            assert lost[0].cause == "silent"
            proxy.deaf = False
            await until(lambda: client.connected)


@contextlib.asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[Address]:
    """A server that reads one request and says `answers`, `{accept}` filled in as RFC 6455, 4.2.2 wants it."""
    import base64
    import hashlib

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await reader.readuntil(b"\r\n\r\n")
            lines = dict(line.split(": ", 1) for line in request.decode().split("\r\n")[1:-2])
            key = {name.lower(): value for name, value in lines.items()}["sec-websocket-key"]
            digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode(), usedforsecurity=False)
            accept = base64.b64encode(digest.digest())
            for answer in answers:
                writer.write(answer.replace(b"{accept}", accept))
            await writer.drain()
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1], websocket="/mqtt")


UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
AGREED = UPGRADE + b"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"


@pytest.mark.parametrize(
    ("answers", "word"),
    [
        ((b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",), "[cloud] path right"),
        ((b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",), "does not let this store in"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",), "HTTP status 200"),
        ((b"SSH-2.0-OpenSSH_9.2\r\n\r\n",), "no WebSocket"),
        ((UPGRADE + b"Sec-WebSocket-Accept: AAAA\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",), "no WebSocket"),
        ((UPGRADE + b"Sec-WebSocket-Accept: {accept}\r\n\r\n",), "does not speak MQTT"),
        ((UPGRADE + b"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\n",), "no WebSocket"),
        ((AGREED, b"\x81\x02hi"), "not binary"),  # MQTT-6.0.0-1: binary frames only
        ((AGREED, b"\x82\x82abcdhi"), "no WebSocket"),  # RFC 6455, 5.1: a server must not mask
        ((AGREED, b"\x88\x05\x03\xe9bye"), "closed the WebSocket with code 1001 (bye)"),
        (
            (AGREED, b"\x82\x7f\x00\x00\x00\x00\x40\x00\x00\x00\x30\xff\xff\xff\x7f"),
            "were agreed",
        ),  # a packet too large
        ((b"HTTP/1.1 101 X\r\nA: " + b"a" * 200_000,), "no WebSocket"),
    ],
)
async def test_a_peer_that_does_not_speak_it_is_let_go_and_named(answers: tuple[bytes, ...], word: str) -> None:
    async with answering(*answers) as address:
        lost: list[Disconnected] = []
        client = Client(address, client_id="s1", clean_start=True, backoff=QUICK)
        client.on_disconnect.append(lost.append)
        async with client:
            await until(lambda: lost)
    assert lost[0].cause == "closed"
    assert word in lost[0].detail


async def test_a_ping_of_the_other_end_is_answered() -> None:
    """RFC 6455, 5.5.2 and 5.5.3: the pong carries what the ping did, masked."""
    seen = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        import base64
        import hashlib

        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(
            line.split(": ")[1] for line in request.split("\r\n") if line.lower().startswith("sec-websocket-key")
        )
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode(), usedforsecurity=False)
        writer.write(AGREED.replace(b"{accept}", base64.b64encode(digest.digest())) + b"\x89\x04beat")
        while not seen.done():
            head = await reader.readexactly(2)
            mask, body = await reader.readexactly(4), await reader.readexactly(head[1] & 0x7F)
            if head[0] == 0x8A:
                seen.set_result(bytes(byte ^ mask[index % 4] for index, byte in enumerate(body)))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1], websocket="/mqtt")
        async with Client(address, client_id="s1", clean_start=True, backoff=QUICK), asyncio.timeout(30):
            assert await seen == b"beat"
