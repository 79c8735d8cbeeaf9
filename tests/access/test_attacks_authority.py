"""Attacks on the store authority and on what it signs; each against a real mosquitto, with OpenSSL's own checks."""

from __future__ import annotations

import asyncio
import datetime
import random
import secrets
import shutil
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, timedelta
from pathlib import Path

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.access import certificates
from edge.access.authority import Authority, NotProven, Revoked
from edge.access.authority_keys import AuthorityFault
from edge.access.broker_identity import BrokerIdentity, ensure_broker_identity, open_authority, server_name
from edge.bus import topics
from edge.bus.address import TlsFiles
from edge.bus.errors import PublishRejected
from edge.children import broker_settings
from edge.config import StoreConfig
from edge.seal import Keyring, Seal
from tests.access.keys import csr, lane_key, plain, secret_file, verified
from tests.access.store_rig import CONNECT, TlsTill, attempt, entered, free_port, greeted, reaches, tls_store
from tests.edge.bus_rig import Broker
from tests.faults.store_rig import until

STORE = "0042"


@dataclass
class Site:
    """A mosquitto with the store's own files, and its authority."""

    config: StoreConfig
    authority: Authority
    broker: Broker
    folder: Path

    def till(self, lane: str = "3") -> TlsTill:
        key = lane_key()
        issued = self.authority.issue_lane(lane, csr(key))
        return TlsTill(self.config, self.folder, lane, key, issued.pem, self.authority.trusted())

    def tries(self, key: ec.EllipticCurvePrivateKey, chain: str) -> str:
        """What the broker says to this key and chain."""
        name = secrets.token_hex(4)
        own = secret_file(self.folder / f"{name}.pem", plain(key), chain.encode())
        trusted = self.folder / "trusted.pem"
        trusted.write_text(self.authority.trusted())
        return reaches(self.config.bus.port, TlsFiles(trusted, own, own, server_name=server_name(STORE)))


def config_in(folder: Path) -> StoreConfig:
    folder.mkdir(exist_ok=True)
    return StoreConfig.model_validate(
        {
            "file": folder / "store.toml",
            "state_dir": folder,
            "store": {"id": STORE},
            "bus": {"host": "127.0.0.1", "port": free_port()},
            "lanes": [{"id": "3"}, {"id": "4"}],
        }
    )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    config = config_in(tmp_path / "s")
    assert ensure_broker_identity(config).fault is None
    broker = Broker(broker_settings(config)).start()
    try:
        yield Site(config, open_authority(config), broker, tmp_path)
    finally:
        broker.stop()


def signed(
    issuer_pem: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
    lane: str,
    *,
    ca: bool = False,
    use: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    days: int = 90,
) -> str:
    """A certificate as an attacker makes it, with any key at hand."""
    issuer = x509.load_pem_x509_certificate(issuer_pem.encode())
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, STORE), x509.NameAttribute(NameOID.COMMON_NAME, lane)]
    until_ = datetime.datetime.now(UTC) + timedelta(days=days)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(names))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(until_)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def test_attack_with_a_certificate_of_another_store_with_the_same_names(site: Site, tmp_path: Path) -> None:
    """Another store's authority, named as ours, signs a lane 3: the broker knows the key, not the name, and refuses."""
    other = Authority.open(tmp_path / "other", Seal(Keyring.new(), "authority"), STORE)
    key = lane_key()
    foreign = other.issue_lane("3", csr(key)).pem
    assert site.till().reaches() == "let in"
    assert "unknown ca" in site.tries(key, foreign)
    # Also when the authority's very name is copied, under another key.
    ours = site.authority.trusted()
    forged_key = lane_key()
    assert "alert" in site.tries(key, signed(ours, forged_key, key, "3"))


def test_attack_with_a_lanes_certificate_as_a_gateway(site: Site) -> None:
    """A stolen till plays the gateway with its own certificate: it is not one for servers, no till believes it."""
    stolen, victim = site.till("3"), site.till("4")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    files = stolen.files()
    assert files.certificate is not None
    context.load_cert_chain(files.certificate)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def play() -> None:
            accepted, _ = server.accept()
            with accepted:
                try:
                    context.wrap_socket(accepted, server_side=True).close()
                except (ssl.SSLError, OSError):
                    return

        playing = threading.Thread(target=play)
        playing.start()
        asking = victim.files()
        client = asking.context()
        client.check_hostname = False  # it would stop at the name already; the purpose must be enough
        said = attempt(port, client, asking.server_name)
        playing.join()
    assert "unsuitable certificate purpose" in said or "unsupported certificate purpose" in said


def test_attack_with_a_lanes_certificate_as_an_authority(site: Site) -> None:
    """A stolen till signs a certificate for another lane with its own key: it is no authority, the broker refuses."""
    stolen, key = site.till("3"), lane_key()
    forged = signed(stolen.chain, stolen.key, key, "4")
    assert "alert" in site.tries(key, forged + stolen.chain)
    said = verified(site.folder, forged + stolen.chain, trusted=stolen.trusted, purpose="sslclient")
    assert "invalid CA certificate" in said
    with pytest.raises(certificates.BadCertificate):
        site.authority.renew_expired(forged.encode(), csr(lane_key()), message=b"", signature=b"", lanes={"4"})


def test_attack_with_the_brokers_certificate_as_a_lane(site: Site) -> None:
    """Somebody copies the broker's key and comes as a lane with it: its certificate is not one for clients."""
    copied = BrokerIdentity.of(site.config.state_dir).certificate
    trusted = site.folder / "believed.pem"
    trusted.write_text(site.authority.trusted())
    said = reaches(site.config.bus.port, TlsFiles(trusted, copied, copied, server_name=server_name(STORE)))
    assert "unsupported certificate" in said
    text = copied.read_bytes()
    chain = text[text.index(b"-----BEGIN CERTIFICATE") :]
    with pytest.raises(certificates.BadCertificate, match="not a lane's"):
        site.authority.renew_expired(chain, csr(lane_key()), message=b"", signature=b"", lanes={"3"})


def test_attack_with_an_expired_certificate(site: Site) -> None:
    """A till comes with a certificate that has expired: refused; it may renew, with its old key as proof, no more."""
    past = Authority.open(
        site.config.access_dir,
        Seal(Keyring.find(site.config.state_dir), "authority"),
        STORE,
        now=lambda: datetime.datetime.now(UTC) - timedelta(days=400),
    )
    key = lane_key()
    expired = signed_in_the_past(past, key)
    assert "certificate expired" in site.tries(key, expired)


def signed_in_the_past(past: Authority, key: ec.EllipticCurvePrivateKey) -> str:
    """A lane's certificate of 400 days ago: the book of the broker's start would not let a clock go back so far."""
    book = past.book
    assert book is not None
    signer = past._keys.signer(book.current)
    return signer.lane(STORE, "3", key.public_key(), 4711, datetime.datetime.now(UTC) - timedelta(days=310))


def test_attack_with_a_revoked_certificate_and_with_its_resumed_session(site: Site) -> None:
    """A stolen till is revoked: refused from the next connection on, also when it resumes a TLS session from before."""
    stolen, honest = site.till("3"), site.till("4")
    files = stolen.files()
    context = files.context()
    with (
        socket.create_connection(("127.0.0.1", site.config.bus.port), timeout=20) as plain_socket,
        context.wrap_socket(plain_socket, server_hostname=files.server_name) as tls,
    ):
        tls.sendall(CONNECT)
        assert tls.recv(4) == b"\x20\x02\x00\x00"
        session = tls.session
    assert attempt(site.config.bus.port, context, files.server_name, session) == "let in", "it can resume"
    site.authority.revoke_lane("3", "stolen")
    site.broker.signal(signal.SIGHUP)
    deadline = threading.Event()
    for _ in range(200):
        if stolen.reaches() != "let in":
            break
        deadline.wait(0.05)
    assert "certificate revoked" in stolen.reaches()
    assert attempt(site.config.bus.port, context, files.server_name, session) != "let in"
    assert honest.reaches() == "let in"


def test_attack_by_renewing_a_revoked_certificate(site: Site) -> None:
    """A stolen till that was revoked asks for a new certificate with its old key, or a new one: refused, for good."""
    stolen = site.till("3")
    site.authority.revoke_lane("3", "stolen")
    message, signature = proof(stolen.key)
    with pytest.raises(Revoked, match="stolen"):
        site.authority.renew_expired(
            stolen.chain.encode(), csr(lane_key()), message=message, signature=signature, lanes={"3"}
        )
    with pytest.raises(Revoked):
        site.authority.issue_lane("3", csr(stolen.key))
    with pytest.raises(Revoked):
        site.authority.issue_lane("4", csr(stolen.key))


def proof(key: ec.EllipticCurvePrivateKey, message: bytes = b"this exchange and no other") -> tuple[bytes, bytes]:
    return message, key.sign(message, ec.ECDSA(hashes.SHA256()))


def test_attack_by_replaying_a_renewal(site: Site) -> None:
    """Who recorded a renewal sends it again: he gets the same certificate once more, without the key it is for."""
    till, fresh = site.till("3"), csr(lane_key())
    message, signature = proof(till.key)
    ask = {"message": message, "signature": signature, "lanes": {"3"}}
    first = site.authority.renew_expired(till.chain.encode(), fresh, **ask)
    given = len(site.authority.certificates())
    assert site.authority.renew_expired(till.chain.encode(), fresh, **ask) == first
    assert len(site.authority.certificates()) == given
    # The proof of one exchange is none of another.
    with pytest.raises(NotProven):
        site.authority.renew_expired(till.chain.encode(), fresh, **(ask | {"message": b"another exchange"}))


def test_attack_by_renewing_for_another_lane(site: Site) -> None:
    """A till knows another lane's certificate, which is no secret, and asks to renew it: it lacks that lane's key."""
    attacker, victim = site.till("3"), site.till("4")
    message, signature = proof(attacker.key)
    with pytest.raises(NotProven):
        site.authority.renew_expired(
            victim.chain.encode(), csr(lane_key()), message=message, signature=signature, lanes={"3", "4"}
        )
    # A lane that this store has no more is nobody.
    message, signature = proof(victim.key)
    with pytest.raises(certificates.BadCertificate, match="no lane '4'"):
        site.authority.renew_expired(
            victim.chain.encode(), csr(lane_key()), message=message, signature=signature, lanes={"3"}
        )


def test_attack_with_a_copied_disk_without_the_stores_key(site: Site, tmp_path: Path) -> None:
    """Somebody copies the state folder, while the store's key is elsewhere (a TPM or a credential has it): the copy
    signs nothing; but it holds the broker's own key, which proves the gateway to tills until that certificate ends.
    """
    till = site.till("3")
    copy = tmp_path / "copy"
    shutil.copytree(site.config.state_dir, copy, ignore=lambda *_: ["seal.key", "b.sock", "broker.sock"])
    secrets_in_plain = [file for file in copy.rglob("*") if file.is_file() and b"PRIVATE KEY" in file.read_bytes()]
    assert secrets_in_plain == [copy / "run" / "broker.pem"]
    thief = Authority.open(copy / "access", Seal(Keyring.new(), "authority"), STORE)
    assert thief.fault is not None
    with pytest.raises(AuthorityFault, match="cannot be opened"):
        thief.issue_lane("3", csr(lane_key()))
    with pytest.raises(AuthorityFault):
        thief.revoke_lane("3", "mischief")
    with pytest.raises(AuthorityFault):
        thief.rotate()
    assert till.reaches() == "let in"


def other_requests() -> dict[str, bytes]:
    """Certificate requests that must not be served."""
    good = csr(lane_key())
    flipped = bytearray(x509.load_pem_x509_csr(good).public_bytes(serialization.Encoding.DER))
    flipped[-5] ^= 1
    return {
        "P-384": csr(ec.generate_private_key(ec.SECP384R1())),
        "secp256k1": csr(ec.generate_private_key(ec.SECP256K1())),
        "RSA": csr(rsa.generate_private_key(65537, 2048)),
        "bad signature": _pem_request(bytes(flipped)),
        "a certificate": signed(*_self_made()).encode(),
        "nothing": b"x",
        "cut off": good[: len(good) // 2],
        "twice as long": b"A" * 5_000 + good,
    }


def _pem_request(der: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(der).replace("CERTIFICATE", "CERTIFICATE REQUEST").encode()


def _self_made() -> tuple[str, ec.EllipticCurvePrivateKey, ec.EllipticCurvePrivateKey, str]:
    made = certificates.make_authority(STORE)
    key = serialization.load_pem_private_key(made.key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return made.certificate, key, lane_key(), "3"


@pytest.mark.parametrize("kind", other_requests())
def test_attack_with_a_request_that_is_none(site: Site, kind: str) -> None:
    """A request by another kind of key, not signed by its own key, or no request at all: refused, nothing is signed."""
    before = site.authority.certificates()
    with pytest.raises(certificates.BadRequest):
        site.authority.issue_lane("3", other_requests()[kind])
    assert site.authority.certificates() == before


def mangled(data: bytes, chance: random.Random) -> bytes:
    """`data` with a few bytes changed, added, taken away or copied from elsewhere in it."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        place, other = chance.randrange(len(out)), chance.randrange(len(out))
        match chance.randrange(4):
            case 0:
                out[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
            case 1:
                out[place:place] = chance.randbytes(chance.randrange(1, 8))
            case 2 if len(out) > 64:
                del out[place : place + chance.randrange(1, 8)]
            case _:
                out[place:place] = out[other : other + chance.randrange(1, 64)]
    return bytes(out)


def test_attack_with_anything_at_all_as_a_request_or_a_certificate(tmp_path: Path) -> None:
    """Mangled requests and certificates, as any stranger may send: answered as bad, or what they were before."""
    authority = Authority.open(tmp_path / "access", Seal(Keyring.new(), "authority"), STORE)
    key, chance = lane_key(), random.Random(2026)
    request = csr(key)
    chain = authority.issue_lane("3", request).pem.encode()
    trusted = authority.trusted()
    forms = (
        (x509.load_pem_x509_csr(request).public_bytes(serialization.Encoding.DER), _pem_request, certificates.csr_key),
        (
            x509.load_pem_x509_certificate(chain).public_bytes(serialization.Encoding.DER),
            lambda der: ssl.DER_cert_to_PEM_cert(der).encode(),
            lambda pem: certificates.lane_certificate(pem, trusted).public_key,
        ),
        (request, bytes, certificates.csr_key),
        (chain, bytes, lambda pem: certificates.lane_certificate(pem, trusted).public_key),
    )
    refused = 0
    for number in range(4_000):
        plain_form, written, read = forms[number % len(forms)]
        try:
            found = read(written(mangled(plain_form, chance)))
        except (certificates.BadRequest, certificates.BadCertificate):
            refused += 1
        else:
            assert certificates.key_digest(found) == certificates.key_digest(key.public_key())
    assert refused > 3_000


async def test_attack_on_the_bus_with_requests_for_others(tmp_path: Path) -> None:
    """A lane asks for another lane's name, on another lane's topic, and with another lane's key: it stays itself."""
    async with tls_store(tmp_path) as store:
        attacker, victim = store.till("1"), store.till("2")
        async with entered(attacker) as client:
            # another name in the request: ignored
            reply = await attacker.ask(client, "certificate.renew", {"csr": csr(lane_key(), "2").decode()})
            chain = x509.load_pem_x509_certificate(reply["result"]["certificate"].encode())
            assert chain.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "1"
            # another lane's topic: the broker lets nothing through, so nothing is issued
            given = len(store.authority.certificates())
            request = {"id": "forged", "parameters": {"csr": csr(lane_key()).decode()}}
            with pytest.raises(PublishRejected):
                await client.publish(topics.lane_request("2", "certificate.renew"), orjson.dumps(request))
            assert (await attacker.ask(client, "help", {}))["ok"], "what was sent before has been dealt with"
            await asyncio.to_thread(store.authority.refresh)
            entries = store.authority.certificates()
            assert [entry.lane for entry in entries].count("2") == 1
            assert len(entries) == given + 1, "the attacker's own, from above"
            # the victim's key: whoever has it is the victim, and still gets no second name
            refused = await attacker.ask(client, "certificate.renew", {"csr": csr(victim.key).decode()})
            assert refused["problem"]["code"] == "bad_message"
            assert "another lane's" in refused["problem"]["detail"]
            for bad in other_requests().values():
                reply = await attacker.ask(client, "certificate.renew", {"csr": bad.decode()})
                assert reply["problem"]["code"] == "bad_message", reply


async def test_attack_goes_on_with_a_connection_that_was_there_before_it_was_revoked(tmp_path: Path) -> None:
    """A stolen till is connected while it is revoked: its connection is ended, it does not come back, and nobody else
    is touched.
    """
    async with tls_store(tmp_path) as store:
        stolen, honest = store.till("1"), store.till("2")
        async with entered(honest) as other, entered(stolen) as client:
            assert (await stolen.ask(client, "help", {}))["ok"]
            ended = asyncio.Event()
            client.on_disconnect.append(lambda _: ended.set())
            await asyncio.to_thread(store.authority.revoke_lane, "1", "stolen")
            await until(lambda: "revoked" in greeted(store.running.config.bus.port, stolen.files()), "shut out")
            async with asyncio.timeout(60):
                await ended.wait()
            await until(lambda: not client.connected, "it stays out")
            assert (await honest.ask(other, "help", {}))["ok"]
