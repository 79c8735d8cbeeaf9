"""Others on the network who answer for this store: with real multicast on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.access.broker_identity import BrokerIdentity, server_name
from edge.access.strangers import WARNING, Strangers
from edge.bus.client import Client
from edge.bus.discovery import Found, advertise
from edge.bus.messages.requests import StrangerReport
from edge.services.facts import Reporter
from edge.services.requests import Asked
from edge.till.enrolling import enrol
from edge.till.till import Till
from tests.access.enrolment_rig import Gateway, bus, gateway, own_server
from tests.access.recorded import recorded
from tests.edge.bus_rig import QUICK, until

LOOPBACK = ("127.0.0.1",)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def tls_server(file: Path, host: str = "127.0.0.1") -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server with that certificate; what came over it, decrypted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                heard.append(data)
        writer.close()

    server = await asyncio.start_server(serve, host, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], heard
    finally:
        server.close()


def watching(at: Gateway, port: int) -> Strangers:
    return Strangers(
        own=lambda: ["127.0.0.1"],
        port=port,
        authorities=lambda: frozenset({at.authority.fingerprint}),
        trusted=BrokerIdentity.of(at.folder).trusted,
        server_name=server_name(at.store_id),
        report=Reporter(at.store, at.store_id),
        audit=at.audit,
        warnings=at.warnings,
    )


@contextlib.asynccontextmanager
async def judging(strangers: Strangers) -> AsyncIterator[None]:
    task = asyncio.create_task(strangers.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def facts(at: Gateway) -> list[dict[str, object]]:
    return await recorded(at.store, "tillgate.discovery.stranger_seen.v1")


async def test_attack_rogue_mdns_is_noticed_by_the_gateway(tmp_path: Path) -> None:
    """Somebody answers mDNS for this store with an authority of his own: people are told, and it is on record."""
    store, port = f"s{uuid.uuid4().hex[:8]}", free_port()
    async with gateway(tmp_path / "g", store_id=store) as at, tls_server(own_server(tmp_path)) as (evil_port, _):
        strangers = watching(at, port)
        ca = at.authority.fingerprint
        async with (
            judging(strangers),
            advertise(store, port, tls=True, host="127.0.0.1", ca=ca, interfaces=LOOPBACK, on_answer=strangers.heard),
            advertise(store, evil_port, tls=True, host="127.0.0.1", ca="00" * 32, interfaces=LOOPBACK),
        ):
            await until(at.warnings.shown)
            (warning,) = at.warnings.shown()
            assert warning.code == WARNING
            assert f"port {evil_port}" in warning.text
            (found,) = await facts(at)
            assert (found["port"], found["ca"], found["seen_by"]) == (evil_port, "00" * 32, "gateway")
            assert [entry["subject"] for entry in await at.audited("stranger.seen")] == [f"127.0.0.1, port {evil_port}"]


@pytest.mark.parametrize("case", ["ourselves", "our other interface", "our own past", "our former name, silent"])
async def test_what_is_ours_raises_no_alarm(tmp_path: Path, case: str) -> None:
    async with gateway(tmp_path / "g") as at, tls_server(at.folder / "run" / "broker.pem", "127.0.0.2") as (port, _):
        ca, silent = at.authority.fingerprint, free_port()
        found = {
            "ourselves": Found("127.0.0.1", 8883, "S1", True, ca, ("127.0.0.1",)),
            "our other interface": Found("127.0.0.2", port, "S1", True, ca, ("127.0.0.2",)),
            "our own past": Found("127.0.0.2", silent, "S1", True, ca, ("127.0.0.2",)),
            "our former name, silent": Found("127.0.0.1", silent, "S1", True, ca, ("127.0.0.1",)),
        }[case]
        strangers = watching(at, 8883)
        await strangers.judge(found)
        assert at.warnings.shown() == ()
        assert await facts(at) == []


@pytest.mark.parametrize(
    ("tls", "ca", "says"),
    [
        (True, None, "another authority"),
        (True, "00" * 32, "another authority"),
        (False, None, "without TLS"),
    ],
)
async def test_our_own_address_under_other_terms_is_a_strangers_answer(
    tmp_path: Path, tls: bool, ca: str | None, says: str
) -> None:
    async with gateway(tmp_path / "g") as at:
        strangers = watching(at, 8883)
        await strangers.judge(Found("127.0.0.1", 8883, "S1", tls, ca, ("127.0.0.1",)))
        (warning,) = at.warnings.shown()
        assert says in warning.text


async def test_a_flood_of_strangers_is_bounded_on_record(tmp_path: Path) -> None:
    async with gateway(tmp_path / "g") as at:
        strangers = watching(at, 8883)
        for number in range(200):
            strangers.heard(Found("127.0.0.1", 1 + number, "S1", False, None, ("127.0.0.1",)))
            strangers.heard(Found("127.0.0.1", 1, "S1", False, None, ("127.0.0.1",)))
        async with judging(strangers):
            await until(strangers._answers.empty)
        for number in range(200):
            await strangers.judge(Found("127.0.0.1", 1_000 + number, "S1", False, None, ("127.0.0.1",)))
        assert len(await facts(at)) == 20


async def test_attack_rogue_mdns_gains_nothing_from_a_till(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rogue answers mDNS beside the gateway: the till shakes hands, believes nothing, sells on, and reports him."""
    monkeypatch.setattr(Client, "default_backoff", QUICK)
    store, port = f"s{uuid.uuid4().hex[:8]}", free_port()
    async with gateway(tmp_path / "g", store_id=store, bus_port=port) as at:
        made = await at.enrolment.invite("lane-1")
        identity = await enrol(made.code, tmp_path / "t", **at.at)
        ca = at.authority.fingerprint
        async with tls_server(own_server(tmp_path)) as (evil_port, heard):
            with bus(at.folder, port):
                async with advertise(
                    store, evil_port, tls=True, host="127.0.0.1", ca=ca, interfaces=LOOPBACK
                ):  # he claims our authority, too
                    till = Till(identity=identity, ledger_path=tmp_path / "till.db", interfaces=LOOPBACK)
                    async with till:
                        await until(lambda: till.strangers)
                        assert not till.connected, "nobody else answers yet"
                        async with advertise(store, port, tls=True, host="127.0.0.1", ca=ca, interfaces=LOOPBACK):
                            await until(lambda: till.connected)
                        (stranger,) = till.strangers
                        assert (stranger.port, stranger.ca) == (evil_port, ca)
            assert heard == [], "not a byte was said to him"
        # ... and once it is connected, the gateway hears of him:
        strangers = watching(at, port)
        report = StrangerReport(host=stranger.host, port=stranger.port, ca=stranger.ca, why=stranger.why)
        await strangers.operations()["stranger.report"](Asked("lane-1", "r1", 0.0), report)
        (found,) = await facts(at)
        assert (found["seen_by"], found["lane"], found["port"]) == ("lane", "lane-1", evil_port)


async def test_attack_rogue_mdns_that_offers_a_till_no_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rogue answers mDNS with a broker that speaks no TLS: an enrolled till opens no connection and reports him."""
    monkeypatch.setattr(Client, "default_backoff", QUICK)
    store, port = f"s{uuid.uuid4().hex[:8]}", free_port()
    async with gateway(tmp_path / "g", store_id=store, bus_port=port) as at:
        identity = await enrol((await at.enrolment.invite("lane-1")).code, tmp_path / "t", **at.at)
        ca = at.authority.fingerprint
        came: list[object] = []
        rogue = await asyncio.start_server(lambda reader, writer: came.append(writer), "127.0.0.1", 0)
        evil_port = rogue.sockets[0].getsockname()[1]
        with bus(at.folder, port):
            async with (
                rogue,
                advertise(store, evil_port, tls=False, host="127.0.0.1", ca=ca, interfaces=LOOPBACK),
                Till(identity=identity, ledger_path=tmp_path / "till.db", interfaces=LOOPBACK) as till,
            ):
                await until(lambda: till.strangers)
                async with advertise(store, port, tls=True, host="127.0.0.1", ca=ca, interfaces=LOOPBACK):
                    await until(lambda: till.connected)
                (stranger,) = till.strangers
                assert (stranger.port, stranger.why) == (evil_port, "speaks no TLS")
        assert came == []


async def test_attack_rogue_mdns_at_enrolment(tmp_path: Path) -> None:
    """A rogue answers mDNS with this store's name and authority when a till enrols: asked, not believed, passed by."""
    store = f"s{uuid.uuid4().hex[:8]}"
    async with gateway(tmp_path / "g", store_id=store) as at, gateway(tmp_path / "evil", store_id=store) as evil:
        made = await at.enrolment.invite("lane-1")
        ca = at.authority.fingerprint
        async with (
            advertise(store, 1, tls=True, host="127.0.0.1", ca=ca, interfaces=LOOPBACK, enrol=evil.listener.port),
            advertise(store, 2, tls=True, host="127.0.0.1", ca=ca, interfaces=LOOPBACK, enrol=at.listener.port),
        ):
            identity = await enrol(made.code, tmp_path / "till", interfaces=LOOPBACK)
        assert (identity.lane, identity.enrol_port) == ("lane-1", at.listener.port)
        assert evil.authority.certificates() == ()
