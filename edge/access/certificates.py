"""X.509 as the store authority makes it: what stands in each certificate, and what is checked of a request.

Strategy: functions without state and without files, over `cryptography`. It takes 20 ms and some megabytes to import,
so this module is imported inside the functions that need it.

What stands in them, and why:

- EC P-256 with SHA-256 throughout: every TLS library has it, and a Pi signs in under a millisecond.
- notBefore is 1970-01-01: a box without a battery clock starts in the past, and that must lock nobody out.
- An authority has no end: one that was made by a clock that is wrong must not be over when the clock is right. It
  ends by being replaced. It may sign certificates and lists of revoked ones and nothing else; its name holds a part of
  its key's hash, so that two authorities of a store, or of two stores with one name, are never taken for each other.
- The broker's certificate is for servers only, a lane's for clients only; neither may sign anything.
- A list of revoked certificates is never outdated (nextUpdate is 9999-12-31) and its thisUpdate counts, one second for
  each list: OpenSSL refuses every certificate under an outdated list, and of several lists it believes the one with the
  latest thisUpdate, so neither may depend on a clock. It lies beside its only reader, who is told of each change.

Sources: RFC 5280 (4.1.2.5: 99991231235959Z; 4.2.1: extensions; 5.1: CRLs), RFC 5758 (ecdsa-with-SHA256).
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BEGINNING = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
NEVER = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)

MAX_CSR_BYTES = 4_096
"""A P-256 request is about 500 bytes; what is much longer holds something else."""


class BadRequest(Exception):
    """A certificate request that cannot be served; the text says what would be right."""


class BadCertificate(Exception):
    """A certificate that is not what it claims to be; the text says in what."""


@dataclass(frozen=True, slots=True)
class Made:
    """A new authority: `certificate` and `key` in PEM (PKCS #8, plain), SHA-256 of its DER in lower hex."""

    certificate: str
    key: bytes = field(repr=False)
    fingerprint: str


def make_authority(store: str) -> Made:
    """A new self-signed authority of this store."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    name = _authority_name(store, public)
    certificate = _authority(name, name, public, public, path_length=1).sign(key, hashes.SHA256())
    return Made(_pem(certificate), _plain(key), fingerprint(certificate))


def cross_sign(new: str, by: str, by_key: bytes) -> str:
    """The authority `new` once more, signed by the authority `by`: who believes only the old one believes the new."""
    certificate, signer = _read(new), _read(by)
    public = _p256(certificate.public_key())
    builder = _authority(certificate.subject, signer.subject, public, _p256(signer.public_key()), path_length=0)
    return _pem(builder.sign(_load_key(by_key), hashes.SHA256()))


def csr_key(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    """The public key of a certificate request; its subject and extensions are nobody's business. Raises BadRequest."""
    if len(csr_pem) > MAX_CSR_BYTES:
        raise BadRequest(f"longer than {MAX_CSR_BYTES} bytes; send a PKCS #10 request in PEM and nothing else")
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        key = request.public_key()
        signed = request.is_signature_valid
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise BadRequest(f"not a PKCS #10 request in PEM: {str(error)[:200]}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadRequest("its key is not an EC key on the curve P-256 (prime256v1, secp256r1)")
    if not signed:
        raise BadRequest("it is not signed by its own key")
    return key


def key_digest(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of the key's SubjectPublicKeyInfo, lower hex."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize().hex()


@dataclass(frozen=True, slots=True)
class Signer:
    """An authority with its key (PEM, plain), ready to sign."""

    certificate: str
    key: bytes = field(repr=False)

    def lane(
        self, store: str, lane: str, key: ec.EllipticCurvePublicKey, serial: int, not_after: datetime.datetime
    ) -> str:
        """A lane's certificate: CN is the lane, O the store; for TLS clients only."""
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, store),
                x509.NameAttribute(NameOID.COMMON_NAME, lane),
            ]
        )
        names = [x509.UniformResourceIdentifier(f"tillgate:{store}:{lane}")]
        return self._leaf(name, key, serial, not_after, ExtendedKeyUsageOID.CLIENT_AUTH, names)

    def server(
        self,
        store: str,
        names: Iterable[str],
        key: ec.EllipticCurvePublicKey,
        serial: int,
        not_after: datetime.datetime,
        common_name: str = "Tillgate gateway",
    ) -> str:
        """A server's certificate, good for these host names and addresses; for TLS servers only."""
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, store),
                x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            ]
        )
        return self._leaf(subject, key, serial, not_after, ExtendedKeyUsageOID.SERVER_AUTH, map(_general_name, names))

    def revoked(self, serials: Iterable[int], number: int) -> str:
        """List number `number` of revoked certificates (PEM)."""
        issuer = _read(self.certificate)
        at = BEGINNING + datetime.timedelta(seconds=number)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.subject)
            .last_update(at)
            .next_update(NEVER)
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(_authority_key_id(_p256(issuer.public_key())), critical=False)
        )
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(BEGINNING).build()
            builder = builder.add_revoked_certificate(entry)
        listed = builder.sign(_load_key(self.key), hashes.SHA256())
        return listed.public_bytes(serialization.Encoding.PEM).decode()

    def _leaf(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePublicKey,
        serial: int,
        not_after: datetime.datetime,
        use: x509.ObjectIdentifier,
        names: Iterable[x509.GeneralName],
    ) -> str:
        issuer = _read(self.certificate)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer.subject)
            .public_key(key)
            .serial_number(serial)
            .not_valid_before(BEGINNING)
            .not_valid_after(not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(_authority_key_id(_p256(issuer.public_key())), critical=False)
        )
        return _pem(builder.sign(_load_key(self.key), hashes.SHA256()))


@dataclass(frozen=True, slots=True)
class LaneCertificate:
    """What a lane's certificate says, once its issuer's signature has been checked."""

    store: str
    lane: str
    serial: int
    not_after: datetime.datetime
    public_key: ec.EllipticCurvePublicKey
    authority: str
    """The fingerprint of the authority that signed it."""


def lane_certificate(pem: bytes, trusted: str) -> LaneCertificate:
    """A lane's certificate that one of these authorities has signed, whenever it ended. Raises BadCertificate.

    Of a chain only the first certificate is looked at. Whether it was revoked is not known here.
    """
    if len(pem) > 4 * MAX_CSR_BYTES:
        raise BadCertificate("longer than any chain of this store")
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise BadCertificate(f"not a certificate in PEM: {str(error)[:200]}") from None
    # Nothing else of it is read before it is known who has signed it.
    for authority in x509.load_pem_x509_certificates(trusted.encode()):
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            continue
        break
    else:
        raise BadCertificate("no authority that this store believes has signed it")
    try:
        use = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        limits = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        (store,) = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        (lane,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except (ValueError, x509.ExtensionNotFound):
        raise BadCertificate("it is not a lane's certificate") from None
    if limits.ca or list(use) != [ExtendedKeyUsageOID.CLIENT_AUTH]:
        raise BadCertificate("it is not a lane's certificate")
    return LaneCertificate(
        str(store.value),
        str(lane.value),
        certificate.serial_number,
        certificate.not_valid_after_utc,
        _p256(certificate.public_key()),
        fingerprint(authority),
    )


def is_signed(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    """Whether `signature` (DER, ECDSA with SHA-256) of `message` is by this key."""
    try:
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def not_after(pem: str) -> datetime.datetime:
    """When the first certificate of `pem` ends."""
    return _read(pem).not_valid_after_utc


def new_key() -> tuple[ec.EllipticCurvePublicKey, str]:
    """A fresh P-256 key: its public half, and all of it in PEM (PKCS #8, plain)."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.public_key(), _plain(key).decode()


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the DER, lower hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def _authority(
    name: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    *,
    path_length: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(BEGINNING)
        .not_valid_after(NEVER)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(_authority_key_id(issuer_key), critical=False)
    )


def _authority_name(store: str, key: ec.EllipticCurvePublicKey) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, store),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Tillgate store authority {key_digest(key)[:16]}"),
        ]
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _authority_key_id(key: ec.EllipticCurvePublicKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


def _p256(key: object) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadCertificate("its key is not an EC key on the curve P-256")
    return key


def _read(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadCertificate("the authority's key is not an EC key")
    return key


def _plain(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
