"""An enrolled till on a real bus: it is its lane, keeps its certificate fresh, and no clock stops it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edge.access.enrolment import utc
from edge.access.enrolment_http import Request
from edge.access.enrolment_http import answer as http_answer
from edge.access.enrolment_listener import Listener, Shown
from edge.bus.address import Address
from edge.bus.client import Client, Message
from edge.bus.enrolment import Renewed, RenewRequest
from edge.bus.messages.facts.sales import SaleVoided
from edge.till import keypair, renewing
from edge.till.enrolling import enrol
from edge.till.identity import Identity, NoIdentity
from edge.till.ledger import FactState
from edge.till.till import Till
from tests.access.enrolment_rig import Gateway, bus, gateway
from tests.edge.bus_rig import QUICK, connected, until

LONG_AGO = datetime.now(UTC) - timedelta(days=200)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Client, "default_backoff", QUICK)
    monkeypatch.setattr(renewing, "AGAIN_S", 0.2)


@pytest.fixture
def port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def enrolled(at: Gateway, folder: Path) -> Identity:
    made = await at.enrolment.invite("lane-1")
    return await enrol(made.code, folder, **at.at)


def till_of(identity: Identity, folder: Path) -> Till:
    return Till(identity=identity, ledger_path=folder / "till.db", address=identity.bus())


async def test_an_enrolled_till_is_its_lane_on_the_bus(tmp_path: Path, port: int) -> None:
    async with gateway(tmp_path / "g", bus_port=port) as at:
        identity = await enrolled(at, tmp_path / "t")
        with bus(tmp_path / "g", port) as broker:
            seen: list[str] = []

            def note(message: Message) -> None:
                seen.append(message.topic)
                message.ack()

            watch = Client(broker.own, client_id="w", clean_start=True)
            watch.on_message("tg/#", note)
            async with connected(watch), till_of(identity, tmp_path) as till:
                await until(lambda: till.connected)
                await until(lambda: "tg/v1/lanes/lane-1/presence" in seen)
    assert (till.store, till.lane) == ("S1", "lane-1")


def test_a_till_that_has_enrolled_never_speaks_plainly(tmp_path: Path) -> None:
    identity = Identity(
        tmp_path, "S1", "lane-1", "n", "127.0.0.1", 1, 2, "2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z"
    )
    with pytest.raises(ValueError, match="never speaks plainly"):
        Till(identity=identity, ledger_path=tmp_path / "l.db", address=Address(host="127.0.0.1", port=1883))
    with pytest.raises(ValueError, match="enrolled as lane 'lane-1', not 'lane-2'"):
        Till(identity=identity, lane="lane-2", ledger_path=tmp_path / "l.db")
    with pytest.raises(ValueError, match="give the till its store"):
        Till(ledger_path=tmp_path / "l.db")


async def test_a_till_that_slept_for_months_renews_at_the_listener_by_itself(tmp_path: Path, port: int) -> None:
    async with gateway(tmp_path / "g", signed_at=LONG_AGO) as at:
        identity = await enrolled(at, tmp_path / "t")
    assert datetime.fromisoformat(identity.not_after) < datetime.now(UTC)
    async with gateway(tmp_path / "g", bus_port=port) as at:
        at.authority.issue_server(("tillgate-S1.local", "127.0.0.1"), at.folder / "run" / "broker.pem")
        at_listener = replace(identity, bus_port=port, enrol_port=at.listener.port)
        with bus(tmp_path / "g", port):
            async with till_of(at_listener, tmp_path) as till:
                await until(lambda: till.connected)
        assert [e["lane"] for e in await at.audited("lane.renewed")] == ["lane-1"]
        assert len(at.authority.certificates()) == 2
    fresh = Identity.load(tmp_path / "t")
    assert datetime.fromisoformat(fresh.not_after) > datetime.now(UTC) + timedelta(days=80)
    assert (fresh.folder / "identity.pem").stat().st_mode & 0o777 == 0o600


VOIDED = SaleVoided(business_day_date="2026-05-04", operator_id="op-1", receipt_number="r-1", reason="wrong item")
SPOILT = {
    "no facts": ("identity.json", None),
    "facts cut": ("identity.json", b'{"store": "S1"'),
    "other facts": ("identity.json", b"[]"),
    "no authorities": ("trusted.pem", None),
    "authorities garbled": ("trusted.pem", b"\xff\x00"),
    "no key": ("identity.pem", None),
    "key garbled": ("identity.pem", b"-----BEGIN"),
}


@pytest.mark.parametrize("what", SPOILT)
async def test_a_till_whose_identity_is_spoilt_sells_on(what: str, tmp_path: Path, port: int) -> None:
    """Its ledger says which lane it is; it says what is wrong, and never speaks plainly instead."""
    async with gateway(tmp_path / "g", bus_port=port) as at:
        identity = await enrolled(at, tmp_path / "t")
    async with till_of(identity, tmp_path) as till:
        await till.fact(VOIDED)
    name, content = SPOILT[what]
    (identity.folder / name).unlink()
    if content is not None:
        (identity.folder / name).write_bytes(content)
    with pytest.raises(NoIdentity):
        Till(identity=identity.folder, ledger_path=tmp_path / "another.db")
    async with Till(identity=identity.folder, store="S1", lane="lane-2", ledger_path=tmp_path / "l2.db") as till:
        assert till.certificate_problem
    plain = Address(host="127.0.0.1", port=port)
    with bus(tmp_path / "g", port) as broker:
        async with Till(identity=identity.folder, ledger_path=tmp_path / "till.db", address=plain) as till:
            assert (till.store, till.lane) == ("S1", "lane-1")
            assert "sells on without the gateway" in till.certificate_problem
            pending = await till.fact(VOIDED)
            assert pending.fact.sequence == 2
            assert (await till.ledger.count())[FactState.PENDING] == 2
            assert not till.gateway_online
        assert "lane-1" not in broker.log


async def test_a_revoked_till_is_not_renewed(tmp_path: Path, port: int) -> None:
    async with gateway(tmp_path / "g", bus_port=port) as at:
        identity = await enrolled(at, tmp_path / "t")
        at.authority.revoke_lane("lane-1", "stolen")
        with bus(tmp_path / "g", port) as broker:
            async with till_of(identity, tmp_path) as till:
                await until(lambda: "revoked" in till.certificate_problem)
                assert not till.connected
            assert "lane-1" not in broker.log
        assert {e["outcome"] for e in await at.audited("lane.renewed")} == {"refused"}


async def test_a_wrong_clock_of_the_till_stops_no_sale(
    tmp_path: Path, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """By this till's clock the gateway's certificate ended long ago; its authority, name and signature are right."""
    async with gateway(tmp_path / "g", signed_at=LONG_AGO) as at:
        pass  # makes the server's certificate, which has ended
    async with gateway(tmp_path / "g", bus_port=port) as at:
        identity = await enrolled(at, tmp_path / "t")
        with bus(tmp_path / "g", port):
            async with till_of(identity, tmp_path) as till:
                await until(lambda: till.connected)
    assert any("not valid by this till's clock" in record.getMessage() for record in caplog.records)


async def test_attack_gateway_impersonated_on_the_bus(tmp_path: Path, port: int) -> None:
    """A broker with another authority's certificate takes the gateway's address: not a byte of MQTT reaches it."""
    async with gateway(tmp_path / "g", bus_port=port) as at:
        identity = await enrolled(at, tmp_path / "t")
    async with gateway(tmp_path / "evil", bus_port=port):
        with bus(tmp_path / "evil", port) as evil:
            async with till_of(identity, tmp_path) as till:
                await until(lambda: till.strangers)
                assert not till.connected
            assert "lane-1" not in evil.log


async def test_attack_gateways_stolen_key_brings_an_authority_of_its_own(tmp_path: Path) -> None:
    """With the broker's key, copied from a disk, somebody plays the gateway and renews a till under an authority of
    his own: the till keeps its certificate and believes whom it believed.
    """
    async with gateway(tmp_path / "g") as at:
        identity = await enrolled(at, tmp_path / "t")
    kept = (identity.pem, identity.trusted)
    async with gateway(tmp_path / "evil") as evil:

        async def answer(request: Request, server: str, address: str) -> bytes:
            asked = RenewRequest.model_validate_json(request.body)
            issued = evil.authority.issue_lane("lane-1", asked.csr.encode())
            told = Renewed(
                store="S1", lane="lane-1", certificate=issued.pem, trusted=evil.authority.trusted(),
                not_after=utc(issued.not_after), server_name=identity.server_name, bus_port=1,
            )  # fmt: skip
            return http_answer(told.model_dump_json().encode())

        async def ask(operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
            raise AssertionError("there is no bus")

        listener = Listener("127.0.0.1", 0, Shown(tmp_path / "g" / "run" / "broker.pem"), answer)
        serving = asyncio.create_task(listener.run())
        await listener.listening.wait()
        there = replace(identity, enrol_port=listener.port)
        renewed: list[Identity] = []
        one = renewing.Renewing(there, ask, lambda: "127.0.0.1", renewed.append)
        one.kept_out()
        trying = asyncio.create_task(one.run())
        await until(lambda: one.problem or renewed)
        for task in (trying, serving):
            task.cancel()
        await asyncio.gather(trying, serving, return_exceptions=True)
        assert "not signed by an authority that this till believes" in one.problem
        assert renewed == []
    assert (identity.pem, identity.trusted) == kept


async def test_a_new_authority_is_believed_when_the_old_one_has_signed_it(tmp_path: Path) -> None:
    async with gateway(tmp_path / "g") as at, gateway(tmp_path / "evil") as evil:
        old = at.authority.trusted()
        made = at.authority.rotate()
        assert made.cross is not None
        grown = keypair.extended(old, at.authority.trusted() + made.cross)
        assert set(keypair.fingerprints(grown)) == set(keypair.fingerprints(at.authority.trusted()))
        assert keypair.extended(old, made.certificate) == old, "its own word is not enough"
        assert keypair.extended(old, evil.authority.trusted()) == old
        assert keypair.extended(old, "no certificate") == old
        identity = await enrolled(at, tmp_path / "t")
        lane = keypair.certificate_of(identity.pem)
        assert keypair.extended(grown, lane) == grown, "a lane is no authority"
        assert keypair.issuer_of(identity.pem, grown) == at.authority.fingerprint


def test_a_certificate_with_a_third_of_its_life_left_is_due(tmp_path: Path) -> None:
    def of(issued: str, ends: str) -> Identity:
        return Identity(tmp_path, "S1", "1", "n", "h", 1, 2, issued, ends)

    assert of("2026-01-01T00:00:00Z", "2026-04-01T00:00:00Z").renew_at() == datetime(2026, 3, 2, tzinfo=UTC)
    wrong = of("2031-01-01T00:00:00Z", "2026-04-01T00:00:00Z")
    assert wrong.renew_at() == datetime(2026, 3, 31, tzinfo=UTC), "enrolled with a clock that was wrong: a day before"
    assert of("1970-01-01T00:00:00Z", "2026-04-01T00:00:00Z").renew_at() == datetime(2026, 3, 2, tzinfo=UTC)
