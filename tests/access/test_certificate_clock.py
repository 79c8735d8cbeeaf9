"""Clocks that are wrong, and months without anybody: local selling goes on, the fault is plain, certificates heal."""

from __future__ import annotations

import asyncio
import base64
import datetime
import os
import signal
from datetime import UTC, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge.access.authority import Authority
from edge.access.broker_identity import BrokerIdentity, open_authority
from edge.commands.desk import Refused, ask
from edge.config import StoreConfig
from edge.seal import Keyring, Seal
from tests.access.keys import csr, lane_key, secret_file, verified
from tests.access.store_rig import TlsTill, entered, tls_store
from tests.faults.store_rig import STORE, running_store, until

DAY_S = 86_400.0
YEAR_S = 365.25 * DAY_S


def authority_at(config: StoreConfig, off_s: float) -> Authority:
    """The store's authority by the gateway's clock, which is off by so much."""
    seal = Seal(Keyring.find(config.state_dir), "authority")
    now = lambda: datetime.datetime.now(UTC) + timedelta(seconds=off_s)  # noqa: E731
    return Authority.open(config.access_dir, seal, STORE, now=now)


def renewed(till: TlsTill, authority: Authority) -> None:
    """Renew an expired certificate as the enrolment listener does: by proof of the old key."""
    key, message = lane_key(), b"what both ends know of this exchange"
    signature = till.key.sign(message, ec.ECDSA(hashes.SHA256()))
    issued = authority.renew_expired(
        till.chain.encode(), csr(key), message=message, signature=signature, lanes={till.lane}
    )
    till.key, till.chain = key, issued.pem


def broker_ends(config: StoreConfig) -> datetime.datetime:
    text = BrokerIdentity.of(config.state_dir).certificate.read_bytes()
    return x509.load_pem_x509_certificate(text[text.index(b"-----BEGIN CERTIFICATE") :]).not_valid_after_utc


async def test_the_clock_a_year_ahead_stops_no_till_that_is_there_and_heals_the_others(tmp_path: Path) -> None:
    async with tls_store(tmp_path) as store:
        running, config = store.running, store.running.config
        there, comes = store.till("1"), store.till("2")
        before = broker_ends(config)
        async with entered(there) as client:
            assert comes.reaches() == "let in"
            pids = running.pid("broker"), running.pid("edge")
            running.shim.jump(YEAR_S)

            # A till that is there goes on; the broker's own certificate is made afresh while it does.
            assert (await there.ask(client, "help", {}))["ok"]
            await until(lambda: broker_ends(config) > before + timedelta(days=300), "a fresh certificate of the broker")
            assert (await there.ask(client, "help", {}))["ok"]

            # What is wrong is plain: which lanes, which date the gateway believes, what to do.
            await until(lambda: store.warned("lanes.certificates.expired"), "a warning")
            text = store.warned("lanes.certificates.expired")
            wrong = datetime.datetime.now(UTC) + timedelta(seconds=YEAR_S)
            assert "lanes 1, 2" in text
            assert f"{wrong:%Y-%m-%d}" in text
            assert "set the date" in text

            # A till that comes now is refused, and lets itself in by renewing with its old key.
            assert "expired" in comes.reaches()
            await asyncio.to_thread(renewed, comes, authority_at(config, YEAR_S))
            assert comes.reaches() == "let in"
            await until(lambda: "lane 1 " in store.warned("lanes.certificates.expired"), "lane 2 is well again")

            # The clock is set right: nobody is locked out by what the wrong one signed.
            running.shim.jump(0)
            running.shim.synced(True)
            await until(lambda: broker_ends(config) < before + timedelta(days=300), "a certificate by the right clock")
            await until(lambda: not store.warned("lanes.certificates.expired"), "no warning")
            assert comes.reaches() == "let in"
            assert there.reaches() == "let in"
        assert (running.pid("broker"), running.pid("edge")) == pids, "nothing was started again"


async def test_the_clock_ten_years_back_locks_nobody_out(tmp_path: Path) -> None:
    async with tls_store(tmp_path) as store:
        running = store.running
        there, comes = store.till("1"), store.till("2")
        async with entered(there) as client:
            running.shim.jump(-10 * YEAR_S)
            assert (await there.ask(client, "help", {}))["ok"]
            assert comes.reaches() == "let in"
            reply = await there.ask(client, "certificate.renew", {"csr": csr(lane_key()).decode()})
            said = verified(tmp_path, reply["result"]["certificate"], trusted=there.trusted, purpose="sslclient")
            assert said == "OK", "by a right clock too"
        # Everything is started again in the past.
        broker = running.pid("broker")
        os.kill(broker, signal.SIGKILL)
        await until(lambda: running.pid("broker") not in (0, broker), "another broker")
        await until(lambda: comes.reaches() == "let in", "let in again")
        assert not store.warned("lanes.certificates.expired")
        assert not store.warned("broker.certificate")
        # Who is revoked in the past is out, and stays out when the clock is right.
        await asyncio.to_thread(authority_at(running.config, -10 * YEAR_S).revoke_lane, "2", "stolen")
        await until(lambda: comes.reaches() != "let in", "revoked")
        running.shim.jump(0)
        await asyncio.to_thread(store.authority.revoke_lane, "3", "another list")
        assert "revoked" in comes.reaches()
        assert there.reaches() == "let in"


async def test_a_gateway_without_a_clock_is_made_in_the_past_and_found_in_the_present(tmp_path: Path) -> None:
    """No battery, no network: the first boot believes it is 2016. Its authority must not be over in 2026."""
    ten_s = -10 * YEAR_S
    async with tls_store(tmp_path, before=lambda shim: shim.jump(ten_s)) as store:
        config = store.running.config
        past = authority_at(config, ten_s)
        key = lane_key()
        till = TlsTill(config, tmp_path, "1", key, past.issue_lane("1", csr(key)).pem, past.trusted())
        assert "certificate has expired" in till.reaches(), "the till's clock is right, the gateway's is not"
        store.running.shim.jump(0)
        store.running.shim.synced(True)
        await until(lambda: "alert certificate expired" in till.reaches(), "the broker is believed, the till is not")
        await asyncio.to_thread(renewed, till, authority_at(config, 0))
        assert till.reaches() == "let in"


async def test_after_months_without_network_and_power_everything_comes_up_by_itself(tmp_path: Path) -> None:
    async with tls_store(tmp_path) as store:
        tills = [store.till(lane) for lane in ("1", "2")]
        fingerprint = store.authority.fingerprint
    away_s = 200 * DAY_S
    async with tls_store(tmp_path, before=lambda shim: shim.jump(away_s)) as store:
        assert store.authority.fingerprint == fingerprint
        for till in tills:
            assert "expired" in till.reaches()
            await asyncio.to_thread(renewed, till, authority_at(store.running.config, away_s))
            async with entered(till) as client:
                assert (await till.ask(client, "help", {}))["ok"]
        await until(lambda: not store.warned("lanes.certificates.expired"), "all is well")


async def test_an_outdated_list_of_revoked_certificates_would_lock_everybody_out_so_ours_is_never_outdated(
    tmp_path: Path,
) -> None:
    async with tls_store(tmp_path) as store:
        config, till = store.running.config, store.till("1")
        crl = config.access_dir / "revoked.crl"
        ours = crl.read_text()
        assert till.reaches() == "let in"
        # The same list with an end, as other authorities make it: what mosquitto does when nobody renews it.
        book = store.authority.book
        assert book is not None
        seal = Seal(Keyring.find(config.state_dir), "authority")
        key = serialization.load_pem_private_key(
            seal.open(base64.b64decode(book.current.key), f"authority|{book.current.fingerprint}".encode()), None
        )
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        issuer = x509.load_pem_x509_certificate(book.current.certificate.encode())
        outdated = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.subject)
            .last_update(datetime.datetime(2020, 1, 1, tzinfo=UTC))
            .next_update(datetime.datetime(2020, 2, 1, tzinfo=UTC))
            .sign(key, hashes.SHA256())
        )
        secret_file(crl, outdated.public_bytes(serialization.Encoding.PEM))
        os.kill(store.running.pid("broker"), signal.SIGHUP)
        await until(lambda: "certificate expired" in till.reaches(), "nobody gets in under an outdated list")
        # Ours has no end: a thousand years ahead is as good as today.
        secret_file(crl, ours.encode())
        os.kill(store.running.pid("broker"), signal.SIGHUP)
        await until(lambda: till.reaches() == "let in", "let in under ours")
        for years in (-50, 1, 10):
            at = int((datetime.datetime.now(UTC) + timedelta(days=365 * years)).timestamp())
            said = verified(tmp_path, till.chain, trusted=till.trusted, purpose="sslclient", crl=crl, at=at)
            assert "CRL" not in said, said


@pytest.mark.parametrize("what", ["key", "book"])
async def test_an_authority_that_is_lost_stops_nothing_and_says_what_to_do(tmp_path: Path, what: str) -> None:
    async with tls_store(tmp_path) as store:
        till, config = store.till("1"), store.running.config
    if what == "key":
        (config.state_dir / "seal.key").unlink()
    else:
        for name in ("authority.json", "authority.copy.json"):
            (config.access_dir / name).write_text("{broken")
    async with running_store(tmp_path) as running:
        await running.state("serving")
        async with entered(till) as client:
            assert (await till.ask(client, "help", {}))["ok"], "who has a certificate goes on"
            reply = await till.ask(client, "certificate.renew", {"csr": csr(lane_key()).decode()})
            assert not reply["ok"]
            warned = lambda: {one.code: one.text for one in running.status.warnings}.get("authority", "")  # noqa: E731
            text = await until(warned, "a warning")
            assert "tillgate access authority rotate --anew" in text
            with pytest.raises(Refused, match="tillgate access"):
                await ask(config, "authority.rotate", {}, 20)
            made = (await ask(config, "authority.rotate", {"anew": True}, 20))["fingerprint"]
            await until(lambda: not warned(), "all is well")
            await until(lambda: till.told()[-1]["fingerprint"] == made, "the new authority is told")
        key = lane_key()
        authority = await asyncio.to_thread(open_authority, config)
        assert authority.fingerprint == made
        anew = TlsTill(config, tmp_path, "1", key, authority.issue_lane("1", csr(key)).pem, authority.trusted())
        await until(lambda: anew.reaches() == "let in", "enrolled anew")
        assert till.reaches() != "let in"
