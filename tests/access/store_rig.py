"""A whole store that lets tills in by certificate alone, under the shim that turns its clocks, and tills to try it.

The processes are the real ones (`tillgate run`); certificates come from the store's own authority, opened beside edge.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric import ec

from edge.access.authority import Authority, Issued
from edge.access.broker_identity import open_authority, server_name
from edge.bus import topics
from edge.bus.address import Address, TlsFiles
from edge.bus.client import Backoff, Client, Message
from edge.config import StoreConfig
from tests.access.keys import csr, lane_key, plain, secret_file
from tests.faults.shim import Shim
from tests.faults.store_rig import STORE, RunningStore, running_store, until

QUICK = Backoff(0.05, 0.5)


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """So many, no two the same."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


@dataclass
class TlsTill:
    """A lane's till of the barest kind: its key, its certificate, a client on the bus. `heard` is what came to it."""

    config: StoreConfig
    folder: Path
    lane: str
    key: ec.EllipticCurvePrivateKey
    chain: str
    trusted: str
    heard: list[Message] = field(default_factory=list)

    def files(self) -> TlsFiles:
        name = secrets.token_hex(4)
        own = secret_file(self.folder / f"till-{name}.pem", plain(self.key), self.chain.encode())
        ca = self.folder / f"ca-{name}.pem"
        ca.write_text(self.trusted)
        return TlsFiles(ca, own, own, server_name=server_name(self.config.store.id))

    def client(self) -> Client:
        client = Client(
            Address(host="127.0.0.1", port=self.config.bus.port, tls=self.files()),
            client_id=self.lane,
            clean_start=True,
            session_expiry_s=0,
            backoff=QUICK,
        )
        for topic in (topics.lane_replies(self.lane), topics.STORE_ANY):
            client.on_message(topic, self._hear)
        return client

    def _hear(self, message: Message) -> None:
        message.ack()
        self.heard.append(message)

    async def ask(self, client: Client, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """The whole reply to a request."""
        request = {"id": secrets.token_hex(8), "parameters": parameters}
        await client.publish(topics.lane_request(self.lane, operation), orjson.dumps(request))

        def replied() -> dict[str, Any] | None:
            for message in self.heard:
                if message.topic == topics.lane_replies(self.lane):
                    reply: dict[str, Any] = orjson.loads(message.payload)
                    if reply["to"] == request["id"]:
                        return reply
            return None

        found = await until(replied, f"an answer to {operation}")
        assert isinstance(found, dict)
        return found

    def told(self) -> list[dict[str, Any]]:
        """What came on ``store/authority``."""
        return [orjson.loads(one.payload) for one in self.heard if one.topic == topics.store_subject("authority")]

    def reaches(self) -> str:
        """One TLS handshake and MQTT CONNECT, in the barest form: "let in", or what OpenSSL says of the refusal."""
        return reaches(self.config.bus.port, self.files())


def reaches(port: int, files: TlsFiles) -> str:
    """Try the bus as a till with these files; "let in" when mosquitto answers with CONNACK 0.

    With TLS 1.3 a refusal comes when the client believes itself connected, and its reason may be lost with the
    connection: then TLS 1.2, where it comes within the handshake, is asked for it.
    """
    context = files.context()
    said = attempt(port, context, files.server_name)
    if said != "let in" and "alert" not in said and "certificate" not in said:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        said = attempt(port, context, files.server_name)
    return said


def greeted(port: int, files: TlsFiles) -> str:
    """Only the handshake, which disturbs no connection of the same lane: "let in", or why not."""
    context = files.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as plain_socket:
            context.wrap_socket(plain_socket, server_hostname=files.server_name).close()
    except (ssl.SSLError, OSError) as error:
        return str(error)
    return "let in"


def attempt(port: int, context: ssl.SSLContext, name: str | None, session: ssl.SSLSession | None = None) -> str:
    """One handshake and CONNECT."""
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as plain_socket,
            context.wrap_socket(plain_socket, server_hostname=name, session=session) as tls,
        ):
            tls.sendall(CONNECT)
            answer = tls.recv(4)
    except (ssl.SSLError, OSError) as error:
        return str(error)
    return "let in" if answer == b"\x20\x02\x00\x00" else f"answered {answer.hex()}"


CONNECT = bytes((0x10, 13, 0, 4)) + b"MQTT" + bytes((4, 2, 0, 60, 0, 1)) + b"x"
"""MQTT 3.1.1, 3.1: clean session, keep alive 60 s, client id "x" (the broker puts the lane in its place)."""


@dataclass
class TlsStore:
    """The running store and its authority, as another process sees it."""

    running: RunningStore
    authority: Authority
    folder: Path

    def till(self, lane: str) -> TlsTill:
        """A till with a fresh certificate of this lane."""
        key = lane_key()
        issued: Issued = self.authority.issue_lane(lane, csr(key))
        return TlsTill(self.running.config, self.folder, lane, key, issued.pem, self.authority.trusted())

    def warned(self, code: str) -> str:
        """The text of this warning in the newest status, empty when there is none."""
        if not self.running.heard:
            return ""
        return next((one.text for one in self.running.status.warnings if one.code == code), "")


@contextlib.asynccontextmanager
async def tls_store(
    folder: Path,
    *,
    lanes: tuple[str, ...] = ("1", "2", "3"),
    tables: str = "",
    before: Callable[[Shim], None] = lambda _: None,
    env: Mapping[str, str] = {},
) -> AsyncIterator[TlsStore]:
    """A store in `folder` that serves, with a TLS port and no other."""
    file = folder / "store.toml"
    if not file.exists():
        named = "".join(f'[[lanes]]\nid = "{lane}"\n' for lane in lanes)
        bus, enrolment = free_ports(2)
        file.write_text(
            f'state_dir = "state"\n[store]\nid = "{STORE}"\n[bus]\nhost = "127.0.0.1"\nport = {bus}\n'
            f"advertise = false\n[enrolment]\nport = {enrolment}\n{named}{tables}"
        )
    async with running_store(folder, before=before, env=env) as running:
        await running.state("serving")
        authority = await asyncio.to_thread(open_authority, running.config)
        assert authority.fault is None
        yield TlsStore(running, authority, folder)


@contextlib.asynccontextmanager
async def entered(till: TlsTill) -> AsyncIterator[Client]:
    """The till's client, connected."""
    async with till.client() as client:
        async with asyncio.timeout(60):
            await client.wait_connected()
        yield client
