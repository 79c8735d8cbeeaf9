"""The store's certificate for HQ's broker: asked for, signed, proved, renewed; a real mosquitto demands it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from cloud_bridge import identity
from cloud_bridge.hq.authority import BadAuthority, StoresAuthority
from cloud_bridge.hq.renewals import Renewals
from cloud_bridge.identity import Identity, folder_of
from edge.access.certificates import BadRequest
from edge.bus import topics
from edge.bus.address import Address, TlsFiles
from edge.bus.client import Client, Message
from edge.bus.messages.facts import FactClass
from edge.bus.messages.renewal import CERTIFICATE_LEVEL, CertificateAnswer, CertificateRequest
from edge.cli import main
from edge.config import StoreConfig
from tests.cloud_bridge.conftest import Configure
from tests.cloud_bridge.rig import Edge, Mosquitto, a_bridge, a_receiver, until


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds and hours takes moments."""
    monkeypatch.setattr(identity, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(identity, "ASK_EVERY_S", 0.3)


class Hq:
    """HQ's authority, and a cloud broker that lets in only what it signed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = StoresAuthority.make(folder / "authority", "Example")
        out = folder / "broker"
        names = ["--name", "localhost", "--name", "127.0.0.1"]
        assert main(["hq", "authority", "broker", str(folder / "authority"), *names, "--out", str(out)]) == 0
        self.port = Mosquitto(folder / "unused").port
        files = f"certfile {out / 'broker.pem'}\nkeyfile {out / 'broker.key'}\n"
        trusted = f"cafile {folder / 'authority' / 'authority.pem'}\ncrlfile {folder / 'authority' / 'revoked.crl'}\n"
        more = f"listener {self.port} 127.0.0.1\n{files}{trusted}require_certificate true\n"
        self.broker = Mosquitto(folder / "cloud", more=f"{more}use_identity_as_username true\n")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Hq]:
        await self.broker.start()
        try:
            yield self
        finally:
            await self.broker.kill()

    def provisioned(self, configure: Configure, days: float = 300) -> StoreConfig:
        """A store with a certificate of ours."""
        out = self.folder / "s1"
        command = ["hq", "authority", "issue", str(self.folder / "authority"), "--store", "s1", "--out", str(out)]
        assert main([*command, f"--days={days}"]) == 0
        lines = f'ca = "{out / "cloud-ca.pem"}"\ncertificate = "{out / "store.pem"}"\nkey = "{out / "store.key"}"\n'
        return configure(self.port, f"[cloud.tls]\n{lines}")

    def make_due(self) -> None:
        """Two thirds of the life of the provisioned certificate are over."""
        file = self.folder / "s1" / "store.pem"
        file.write_text(re.sub("renew at .*", "renew at 2026-01-01T00:00:00Z", file.read_text()))


@pytest.fixture
def hq(tmp_path: Path) -> Hq:
    return Hq(tmp_path / "hq")


def waiting(engine: Engine) -> int:
    with engine.connect() as db:
        return len(db.exec_driver_sql("SELECT 1 FROM certificate_requests WHERE certificate IS NULL").all())


async def test_a_certificate_renews_itself_over_the_link(hq: Hq, hq_file: Engine, configure: Configure) -> None:
    """Asked at two thirds of its life, signed where the key is, proved, in use; the link was never long away."""
    config = hq.provisioned(configure)
    hq.make_due()
    folder = folder_of(config.state_dir)
    async with hq.running(), Edge(config).running() as edge, a_receiver(hq_file, hq.broker.port), a_bridge(config):
        await edge.journal(FactClass.TRANSACTION, 3)
        await until(lambda: edge.confirmed() == 3)
        await until(lambda: waiting(hq_file))
        before = edge.status.certificates.own_until if edge.status else None
        assert await asyncio.to_thread(Renewals(hq_file).answer, hq.authority, 365) == [("s1", "")]
        await until((folder / "own.pem").exists)
        await until(lambda: edge.status and edge.status.certificates.own_until != before)
        await edge.journal(FactClass.TRANSACTION, 2)
        await until(lambda: edge.confirmed() == 5)
        assert edge.status is not None
        assert edge.status.warnings == {}
    assert sorted(file.name for file in folder.iterdir()) == ["own.pem"]
    assert (folder / "own.pem").stat().st_mode & 0o777 == 0o600
    async with hq.running(), Edge(config).running() as edge, a_bridge(config):  # and after a restart
        await until(lambda: edge.status and edge.status.link == "online")
    assert [one["store"] for one in hq.authority.issued] == ["s1", "s1"]


async def test_a_next_certificate_that_the_broker_refuses_is_set_aside(
    hq: Hq, configure: Configure, tmp_path: Path
) -> None:
    """Brought in by hand, of an authority that HQ's broker does not know (yet): the store goes on with what it has."""
    config = hq.provisioned(configure)
    folder = folder_of(config.state_dir)
    stranger = StoresAuthority.make(tmp_path / "stranger", "Example")
    async with hq.running(), Edge(config).running() as edge, a_bridge(config):
        await until(lambda: edge.status and edge.status.link == "online")
        made, renew_at = stranger.issue("s1", identity.make_request(folder, "s1"))
        identity.install(folder, "s1", made, renew=renew_at, after=None)
        await until((folder / "refused.pem").exists)
        await until(lambda: edge.status and "hq_certificate_refused" in edge.status.warnings)
        await until(lambda: edge.status and edge.status.link == "online")
    assert not (folder / "own.pem").exists()


async def test_attack_the_brokers_owner_signs_the_next_certificate_himself(
    hq: Hq, hq_file: Engine, configure: Configure, tmp_path: Path
) -> None:
    """Who owns the cloud broker answers a store's request with a certificate of his own that ends later, to have the
    true broker refuse the store for ever: it is not of the authority that signed the present one, is not taken, and
    HQ's own answer is taken after it.
    """
    config = hq.provisioned(configure)
    hq.make_due()
    folder = folder_of(config.state_dir)
    his = StoresAuthority.make(tmp_path / "his", "Example")
    asked: list[bytes] = []
    owner = Client(Address("127.0.0.1", hq.broker.port), client_id="owner", clean_start=True)

    def note(message: Message) -> None:
        asked.append(message.payload)
        message.ack()

    owner.on_message(topics.up_certificate("s1"), note)
    async with hq.running(), Edge(config).running() as edge, a_bridge(config), owner:
        await until(lambda: asked)
        request = CertificateRequest.model_validate_json(asked[0])
        made, renew_at = his.issue("s1", request.csr, days=5000)
        for chain in ("", his.certificate, hq.authority.certificate, his.certificate + hq.authority.certificate):
            answer = CertificateAnswer(
                key_sha256=identity.key_digest_of(request.csr), certificate=made + chain, renew_at=renew_at
            )
            await owner.publish(topics.down("s1", CERTIFICATE_LEVEL), answer.model_dump_json().encode())
        await until(lambda: edge.status and "the authority that signed" in str(edge.status.warnings))
        assert edge.status is not None
        assert edge.status.link == "online"
        assert sorted(file.name for file in folder.iterdir()) == ["pending.key"]
        async with a_receiver(hq_file, hq.broker.port):
            await edge.journal(FactClass.TRANSACTION, 1)
            await until(lambda: waiting(hq_file))
            assert await asyncio.to_thread(Renewals(hq_file).answer, hq.authority, 365) == [("s1", "")]
            await until((folder / "own.pem").exists)
            await until(lambda: edge.status and not edge.status.warnings and edge.status.link == "online")


@pytest.mark.parametrize("good", ["configured", "former"])
async def test_when_the_one_in_use_is_refused_the_one_before_is_tried(
    good: str, hq: Hq, configure: Configure, tmp_path: Path
) -> None:
    """`own` is of an authority that HQ's broker does not know, and ends latest: the store gets in all the same."""
    config = hq.provisioned(configure, days=300 if good == "configured" else -1)
    folder = folder_of(config.state_dir)
    his = StoresAuthority.make(tmp_path / "his", "Example")
    for authority, name, days in ((his, "own", 5000), (hq.authority, "former", 100 if good == "former" else -1)):
        made, _ = authority.issue("s1", identity.make_request(folder, "s1"), days)
        identity.install(folder, "s1", made, renew=None, after=None)
        (folder / "next.pem").rename(folder / f"{name}.pem")
    async with hq.running(), Edge(config).running() as edge, a_bridge(config):
        await edge.journal(FactClass.TRANSACTION, 2)
        await until(lambda: edge.status and edge.status.link == "online")
        await until(lambda: edge.status and "own.pem, which ends later" in str(edge.status.warnings))


async def test_expired_after_months_without_a_network_it_is_brought_in_by_hand(
    hq: Hq, hq_file: Engine, configure: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The broker refuses the store: it sells on and keeps all, says what to do, and needs no restart afterwards."""
    config = hq.provisioned(configure, days=-1)
    async with hq.running(), Edge(config).running() as edge, a_receiver(hq_file, hq.broker.port), a_bridge(config):
        await edge.journal(FactClass.TRANSACTION, 4)
        await until(lambda: edge.status and edge.status.link == "cloud" and edge.status.warnings)
        assert edge.status is not None
        assert "tillgate cloud certificate request" in edge.status.warnings["hq_certificate"]
        assert "sells on and keeps everything" in edge.status.warnings["hq_certificate"]
        capsys.readouterr()
        assert main(["cloud", "certificate", "request", "--config", str(config.file)]) == 0
        (tmp_path / "s1.csr").write_text(capsys.readouterr().out)
        folder = str(hq.folder / "authority")
        assert main(["hq", "authority", "issue", folder, "--store", "s1", "--csr", str(tmp_path / "s1.csr")]) == 0
        (tmp_path / "s1.pem").write_text(capsys.readouterr().out)
        assert main(["cloud", "certificate", "install", str(tmp_path / "s1.pem"), "--config", str(config.file)]) == 0
        await until(lambda: edge.confirmed() == 4)
        await until(lambda: edge.status and edge.status.link == "online" and not edge.status.warnings)


async def test_attack_a_revoked_store_and_one_with_another_stores_certificate(
    hq: Hq, hq_file: Engine, configure: Configure
) -> None:
    """A gateway was stolen: after `hq authority revoke` the broker lets it in no more, and HQ renews nothing for it."""
    config = hq.provisioned(configure)
    assert main(["hq", "authority", "revoke", str(hq.folder / "authority"), "--store", "s1"]) == 0
    async with hq.running(), Edge(config).running() as edge, a_bridge(config):
        await until(lambda: edge.status and edge.status.link == "cloud")


def an_identity(folder: Path, authority: StoresAuthority, store: str) -> Identity:
    """A store with a certificate of `authority`, without a link."""
    csr = identity.make_request(folder, store)
    (folder / "pending.key").rename(folder / "store.key")
    (folder / "store.pem").write_text(authority.issue(store, csr)[0])
    files = TlsFiles(None, folder / "store.pem", folder / "store.key")
    return Identity(folder, store, files, publish=print, reconnect=print, changed=bool)


def test_attack_a_certificate_asked_for_in_anothers_name(tmp_path: Path) -> None:
    """A store, a revoked store or the broker asks for another store's certificate: only its own key can ask."""
    ours, theirs = StoresAuthority.make(tmp_path / "a", "Example"), StoresAuthority.make(tmp_path / "b", "Example")
    s1 = an_identity(tmp_path / "s1", ours, "s1").request()
    s2 = an_identity(tmp_path / "s2", ours, "s2").request()
    forged = an_identity(tmp_path / "s3", theirs, "s1").request()
    ours.check("s1", s1)
    for request, word in (
        (s2, "with the certificate of s2"),
        (s2.model_copy(update={"certificate": s1.certificate}), "not signed by the key"),
        (s1.model_copy(update={"csr": s2.csr}), "not signed by the key"),
        (forged, "no authority"),
        (s1.model_copy(update={"certificate": "x"}), "its certificate"),
        (s1.model_copy(update={"signature": "%"}), "its certificate"),
    ):
        with pytest.raises(BadRequest, match=word):
            ours.check("s1", request)
    ours.revoke("s1")
    with pytest.raises(BadRequest, match="revoked"):
        ours.check("s1", s1)


def test_only_the_certificate_that_was_asked_for_is_installed(tmp_path: Path) -> None:
    ours = StoresAuthority.make(tmp_path / "a", "Example")
    folder = tmp_path / "s1"
    with pytest.raises(identity.NotUsable, match="no request"):
        identity.install(folder, "s1", ours.certificate, renew=None, after=None)
    csr = identity.make_request(folder, "s1")
    assert identity.key_digest_of(csr) != ""
    other = identity.make_request(tmp_path / "s2", "s1")
    for certificate, word in (
        (ours.issue("s1", other)[0], "another key"),
        (ours.issue("s2", csr)[0], "not for s1"),
        ("nothing", "no certificate"),
    ):
        with pytest.raises(identity.NotUsable, match=word):
            identity.install(folder, "s1", certificate, renew=None, after=None)
    good, _ = ours.issue("s1", csr)
    with pytest.raises(identity.NotUsable, match="not after the one in use"):
        identity.install(folder, "s1", good, renew=None, after=identity.validity(_file(tmp_path, good)).ends)
    identity.install(folder, "s1", good, renew=None, after=None)
    assert (folder / "next.pem").exists()


def _file(folder: Path, text: str) -> Path:
    (folder / "some.pem").write_text(text)
    return folder / "some.pem"


def test_an_authority_is_never_replaced(tmp_path: Path) -> None:
    StoresAuthority.make(tmp_path / "a", "Example")
    with pytest.raises(BadAuthority, match="not replaced"):
        StoresAuthority.make(tmp_path / "a", "Example")
    assert (tmp_path / "a" / "authority.key").stat().st_mode & 0o777 == 0o600
