"""How long certificates are good: said in the store and at HQ, and told apart from a wrong clock."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from cloud_bridge.certificate_days import BROKERS, OWN, CertificateDays
from cloud_bridge.hq.fleet import look
from cloud_bridge.hq.fleet_table import page, table
from edge.bus.messages.links import BridgeStatus
from tests.access.maker import Authority
from tests.cloud_bridge.conftest import Configure
from tests.cloud_bridge.rig import Edge, Mosquitto, a_bridge, a_receiver, until
from tests.edge.hq_rig import Turnable


def told(authority: Authority, days: tuple[float, float], *, synced: bool) -> str:
    """What is said of a certificate that is good between two days from now."""
    files = authority.issue("s1", days=days)
    hands = Turnable()
    hands.wall, hands.synced = datetime.now(UTC), synced
    certificates = CertificateDays(lambda: files.certificate, hands.clock, lambda: None)
    certificates.look()
    return certificates.warnings().get(OWN, "")


def test_from_30_days_on_a_person_is_told(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    assert told(authority, (-1, 40), synced=True) == ""
    assert "29 days from now; it renews itself" in told(authority, (-1, 29.5), synced=True)


def test_an_end_that_has_passed_is_told_apart_from_a_wrong_clock(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    assert "and this clock is synchronised" in told(authority, (-9, -2), synced=True)
    assert "or this box's clock is wrong" in told(authority, (-9, -2), synced=False)
    assert "or this box's clock is wrong" in told(authority, (3, 9), synced=False)


def test_a_clock_a_year_ahead_and_the_brokers_certificate(tmp_path: Path) -> None:
    hands = Turnable()
    certificates = CertificateDays(lambda: None, hands.clock, lambda: None)
    certificates.connected((hands.wall + timedelta(days=90)).timestamp())
    assert (certificates.broker_days, certificates.warnings()) == (90, {})
    hands.synced = False
    hands.pass_s(365 * 86_400)
    assert certificates.broker_days == -275
    assert "or this box's clock is wrong" in certificates.warnings()[BROKERS]


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    certificates = CertificateDays(lambda: tmp_path / "gone.pem", Turnable().clock, lambda: None)
    certificates.look()
    assert "cannot be read" in certificates.warnings()[OWN]


@contextlib.asynccontextmanager
async def mutual(folder: Path, authority: Authority, days: tuple[float, float]) -> AsyncIterator[tuple[Mosquitto, int]]:
    """A cloud broker: certificates are required on the second port that is given, not for HQ on the first."""
    served = authority.issue("cloud", days=days)
    hq = Mosquitto(folder / "unused")
    more = f"listener {hq.port} 127.0.0.1\ncafile {served.ca}\ncertfile {served.certificate}\nkeyfile {served.key}\n"
    broker = Mosquitto(folder / "cloud", more=f"{more}require_certificate true\n")
    await broker.start()
    try:
        yield broker, hq.port
    finally:
        await broker.kill()


async def test_days_are_told_in_the_store_and_at_hq(tmp_path: Path, hq_file: Engine, configure: Configure) -> None:
    """A real broker that demands certificates: the store's ends in 20 days, the broker's in 5."""
    authority = Authority(tmp_path / "ca")
    own = authority.issue("s1", days=(-1, 20.5))
    async with mutual(tmp_path, authority, (-1, 5.5)) as (broker, port):
        lines = f'[cloud.tls]\nca = "{authority.ca}"\ncertificate = "{own.certificate}"\nkey = "{own.key}"\n'
        config = configure(port, lines)
        async with Edge(config).running() as edge, a_receiver(hq_file, broker.port), a_bridge(config):
            await until(lambda: edge.status and edge.status.link == "online" and len(edge.status.warnings) == 2)
            status = edge.status
            assert isinstance(status, BridgeStatus)
            assert "20 days from now" in status.warnings[OWN]
            assert "5 days from now: tell HQ" in status.warnings[BROKERS]
            assert status.certificates.own_until is not None
            assert status.certificates.broker_until is not None
            await until(lambda: [store for store in look(hq_file).stores if store.said and store.said.certificate_days])
    fleet = look(hq_file)
    (store,) = fleet.stores
    assert "its own certificate ends in 20 days" in table(fleet)
    assert "the broker's certificate ends in 5 days" in table(fleet)
    assert "certificates: its own for 20 days, the broker's for 5 days" in page(store)


@pytest.mark.parametrize("what", ["expired", "stranger", "none"])
async def test_a_certificate_that_the_broker_refuses_keeps_everything(
    what: str, tmp_path: Path, configure: Configure
) -> None:
    authority, stranger = Authority(tmp_path / "ca"), Authority(tmp_path / "stranger")
    own = (stranger if what == "stranger" else authority).issue("s1", days=(-9, -2) if what == "expired" else (-1, 60))
    async with mutual(tmp_path, authority, (-1, 90)) as (_, port):
        lines = f'[cloud.tls]\nca = "{authority.ca}"\n'
        if what != "none":
            lines += f'certificate = "{own.certificate}"\nkey = "{own.key}"\n'
        config = configure(port, lines)
        async with Edge(config).running() as edge, a_bridge(config):
            await until(lambda: edge.status and edge.status.link == "cloud")
            assert edge.status is not None
            assert edge.status.link == "cloud"
            assert (OWN in edge.status.warnings) == (what == "expired")
            assert json.loads(edge.status.model_dump_json())["detail"]
