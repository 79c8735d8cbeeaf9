"""A gateway's enrolment end as edge has it: a real store, authority, seal, TLS listener; and ways to stand between."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from edge.access.audit import Audit
from edge.access.authority import Authority
from edge.access.broker_identity import BrokerIdentity, server_name
from edge.access.enrolment import Enrolment
from edge.access.enrolment_listener import Limits, Listener, Shown
from edge.access.invitations import INVITATIONS_SCHEMA, Invitations
from edge.bus.broker import BrokerSettings, ServerFiles, TlsListener
from edge.journal.clock import Clock
from edge.journal.store import Store
from edge.seal import Keyring, Seal
from edge.services.facts import Reporter
from edge.services.warnings import Warnings
from edge.till import keypair
from edge.till.https import Answer, asking
from tests.access.recorded import recorded
from tests.edge.bus_rig import Broker

LANES = ("lane-1", "lane-3")
BUS_PORT = 18_883
WITHIN_S = 30.0
ROOMY = Limits(
    opened=(1_000.0, 10_000),
    opened_by_address=(1_000.0, 10_000),
    asked=(1_000.0, 10_000),
    connections=64,
    connections_of_address=64,
)
"""A test asks more often than any till."""


@dataclass
class Gateway:
    """One store's enrolment end. `clock` can be turned; `wall` is what the authority takes for now."""

    folder: Path
    store_id: str
    store: Store
    clock: Turnable
    authority: Authority
    enrolment: Enrolment
    listener: Listener
    warnings: Warnings
    audit: Audit

    @property
    def at(self) -> dict[str, Any]:
        """Where it is, as `enrol` takes it."""
        return {"host": "127.0.0.1", "port": self.listener.port}

    async def audited(self, action: str) -> list[dict[str, Any]]:
        """The audit's entries of an action, oldest first."""
        return [entry for entry in await recorded(self.store) if entry["action"] == action]

    async def ask(self, path: str, body: bytes, *, port: int | None = None) -> Answer:
        """Post `body` as anybody can."""
        async with asking(
            "127.0.0.1", port or self.listener.port, anybody(), server_name=None, within_s=WITHIN_S
        ) as there:
            return await there.post(path, body, "gateway")


class Turnable:
    """Hands of a clock that a test turns: `wall` by itself, or both by `pass_s`."""

    def __init__(self) -> None:
        self.wall = datetime.now(UTC)
        self.mono_ms = 1_000_000

    def clock(self, boot: str = "boot-1") -> Clock:
        return Clock(
            wall_ms=lambda: int(self.wall.timestamp() * 1000), mono_ms=lambda: self.mono_ms, synced=lambda: True,
            boot=boot, marker=Path("/nowhere"),
        )  # fmt: skip

    def pass_s(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.mono_ms += int(seconds * 1000)


@contextlib.asynccontextmanager
async def gateway(
    folder: Path,
    *,
    store_id: str = "S1",
    limits: Limits = ROOMY,
    boot: str = "boot-1",
    turnable: Turnable | None = None,
    bus_port: int = BUS_PORT,
    signed_at: datetime | None = None,
) -> AsyncIterator[Gateway]:
    """Open it in `folder`; what is there goes on, as after a restart of edge. `signed_at` is the authority's date."""
    folder.mkdir(parents=True, exist_ok=True)
    hands = turnable or Turnable()
    clock, keyring = hands.clock(boot), Keyring.find(folder)
    store = await Store.open(
        folder / "store.db", store_id, clock=clock, schemas=[("invitations-1", INVITATIONS_SCHEMA)], reserve_bytes=0
    )
    authority = Authority.open(
        folder / "access", Seal(keyring, "authority"), store_id, now=lambda: signed_at or datetime.now(UTC)
    )
    server = folder / "run" / "broker.pem"
    server.parent.mkdir(exist_ok=True)
    if not server.exists():
        authority.issue_server((server_name(store_id), "127.0.0.1", "localhost"), server)
    audit, warnings = Audit(Reporter(store, store_id)), Warnings()
    invitations = Invitations(store, clock, Seal(keyring, "enrolment"))
    enrolment = Enrolment(store_id, LANES, invitations, authority, audit, warnings, bus_port=bus_port)
    listener = Listener("127.0.0.1", 0, Shown(server), enrolment.answer, limits)
    serving = asyncio.create_task(listener.run())
    await listener.listening.wait()
    try:
        yield Gateway(folder, store_id, store, hands, authority, enrolment, listener, warnings, audit)
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        audit.tell()
        await store.close()


@contextlib.contextmanager
def bus(folder: Path, port: int) -> Iterator[Broker]:
    """mosquitto for the tills of the store in `folder`, with the files of its authority."""
    files = BrokerIdentity.of(folder)
    listener = TlsListener(
        ServerFiles(files.certificate, files.key, files.trusted, files.revoked), "127.0.0.1", port
    )  # fmt: skip
    broker = Broker(BrokerSettings(folder / "run", folder / "run" / "b.sock", tls=listener)).start()
    try:
        yield broker
    finally:
        broker.stop()


def anybody() -> ssl.SSLContext:
    """TLS that believes everybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def own_server(folder: Path, names: tuple[str, ...] = ("127.0.0.1", "localhost")) -> Path:
    """Key and certificate of a server whose authority nobody knows, as an attacker makes them (PEM)."""
    authority = Authority.open(folder / "evil", Seal(Keyring.new(), "authority"), "evil")
    file = folder / "evil.pem"
    authority.issue_server(names, file)
    return file


class Between:
    """A relay between till and gateway. With `server` it ends TLS with that certificate and reads along; `change` is
    given what the till said, `change_back` what the gateway said. Without, it passes bytes on as they are.
    """

    def __init__(
        self,
        port: int,
        *,
        server: Path | None = None,
        change: Callable[[bytes], bytes] = bytes,
        change_back: Callable[[bytes], bytes] = bytes,
    ) -> None:
        self._to = port
        self._server_file = server
        self._change = change
        self._change_back = change_back
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.heard = b""
        self.said = b""

    async def __aenter__(self) -> Between:
        context = None
        if self._server_file is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._server_file)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        context = anybody() if self._server_file is not None else None
        there = await asyncio.open_connection("127.0.0.1", self._to, ssl=context)
        for source, sink, forth in ((reader, there[1], True), (there[0], writer, False)):
            task = asyncio.create_task(self._copy(source, sink, forth))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, forth: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                if forth:
                    self.heard += data
                    data = self._change(data)
                else:
                    self.said += data
                    data = self._change_back(data)
                sink.write(data)
        sink.close()


def a_request(lane: str = "till") -> tuple[Any, str]:
    """A key and its certificate request."""
    key = keypair.new_key()
    return key, keypair.request(key, lane)
