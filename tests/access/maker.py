"""A certificate authority of the tests' own, written from RFC 5280 and nothing of ours: oracle and attacker's workshop.

It makes what a store's authority must make (a broker's and lanes' certificates, a list of what is revoked) and what it
never would: certificates long expired, without a purpose, for two names, signed by themselves.

Source: RFC 5280, sections 4.1 (fields), 4.2.1.1-3 and 4.2.1.9 (key identifiers, usage, constraints), 4.2.1.6 (names),
4.2.1.12 (purposes), 5.1 (revocation lists).
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.bus.address import TlsFiles
from edge.bus.broker import ServerFiles

Key = ec.EllipticCurvePrivateKey
FOR_CLIENTS = ExtendedKeyUsageOID.CLIENT_AUTH
FOR_SERVERS = ExtendedKeyUsageOID.SERVER_AUTH


class Authority:
    """Signs certificates; all files lie in `folder`. `ca` is its own certificate, `crl` its list of what is revoked."""

    def __init__(self, folder: Path, name: str = "Test store authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.name = name
        self.key = new_key()
        self.ca, self.crl = folder / "ca.pem", folder / "revoked.crl"
        self.serials: dict[Path, int] = {}
        self._revoked: list[int] = []
        self.ca.write_bytes(self._signed(name, self.key.public_key(), ca=True, days=(-1, 2)))
        self.write_crl()

    def issue(
        self,
        name: str,
        *,
        days: tuple[float, float] = (-1, 2),
        local: bool = True,
        file: str | None = None,
        purposes: tuple[x509.ObjectIdentifier, ...] = (FOR_CLIENTS, FOR_SERVERS),
        names: tuple[str, ...] = (),
    ) -> TlsFiles:
        """Key and certificate for the common name `name` (and further `names`), valid between two days from now.

        With `local` it is good for 127.0.0.1 too. `file` is what the two files are called, `name` when None.
        """
        key = new_key()
        certificate = self.folder / f"{file or name}.pem"
        signed = self._signed(name, key.public_key(), days=days, local=local, purposes=purposes, more=names)
        certificate.write_bytes(signed)
        self.serials[certificate] = x509.load_pem_x509_certificate(signed).serial_number
        return TlsFiles(self.ca, certificate, write_key(key, certificate.with_suffix(".key")))

    def serve(self, name: str = "gateway") -> ServerFiles:
        """What the broker's TLS listener needs."""
        files = self.issue(name, purposes=(FOR_SERVERS,))
        assert files.certificate is not None
        assert files.key is not None
        return ServerFiles(files.certificate, files.key, self.ca, self.crl)

    def revoke(self, files: TlsFiles) -> None:
        """Put the certificate on the list."""
        assert files.certificate is not None
        self._revoked.append(self.serials[files.certificate])
        self.write_crl()

    def write_crl(self) -> None:
        """The list of what is revoked, signed, good from yesterday until a year from now."""
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(_named(self.name))
            .last_update(now - datetime.timedelta(days=1))
            .next_update(now + datetime.timedelta(days=365))
            .add_extension(x509.CRLNumber(len(self._revoked) + 1), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        for serial in self._revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            )
        self.crl.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _signed(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        *,
        days: tuple[float, float],
        ca: bool = False,
        local: bool = False,
        purposes: tuple[x509.ObjectIdentifier, ...] = (),
        more: tuple[str, ...] = (),
    ) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_named(name, *more))
            .issuer_name(_named(self.name))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=days[0]))
            .not_valid_after(now + datetime.timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            # From Python 3.13 on, certificates are checked to the letter of RFC 5280.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .add_extension(_usage(ca=ca), critical=True)
        )
        if not ca:
            here = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))] if local else []
            host = [x509.DNSName(name)] if name.replace("-", "").replace(".", "").isalnum() else []
            if host or here:
                builder = builder.add_extension(x509.SubjectAlternativeName([*host, *here]), critical=False)
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def self_signed(folder: Path, name: str) -> TlsFiles:
    """A certificate for `name` that nobody but itself vouches for."""
    alone = Authority(folder, name)
    return TlsFiles(alone.ca, alone.ca, write_key(alone.key, folder / "alone.key"))


def believing(files: TlsFiles, authority: Authority) -> TlsFiles:
    """The same identity, with another authority believed."""
    return replace(files, ca=authority.ca)


def new_key() -> Key:
    """P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def write_key(key: Key, file: Path) -> Path:
    """Write it as PKCS8 without a password."""
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    file.chmod(0o600)
    return file


def _named(*names: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
