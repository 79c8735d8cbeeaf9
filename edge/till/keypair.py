"""A till's key and what is said with it: EC P-256, PKCS#8, PKCS#10, X.509, all in PEM.

Strategy: all that needs `cryptography` here, imported when it is used: a till does that when it enrols or renews.

Source: NIST SP 800-186 (P-256), RFC 5958 (PKCS#8), RFC 2986 (PKCS#10), RFC 5280.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from edge.bus.enrolment import sha256

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


def new_key() -> EllipticCurvePrivateKey:
    """A fresh key."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def pem(key: EllipticCurvePrivateKey) -> bytes:
    """The key as it is kept, a secret."""
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def read_key(pem_: bytes) -> EllipticCurvePrivateKey:
    """The key of an identity's PEM file, in which the certificate follows it. Raises ValueError."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(pem_, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the identity's key is not of the kind that a till makes")
    return key


def certificate_of(pem_: bytes) -> str:
    """The certificate in an identity's PEM file."""
    begin = pem_.index(b"-----BEGIN CERTIFICATE-----")
    return pem_[begin:].decode("ascii")


def request(key: EllipticCurvePrivateKey, name: str) -> str:
    """A certificate request, signed by the key. The authority ignores its `name`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode("ascii")


def sign(key: EllipticCurvePrivateKey, text: bytes) -> str:
    """ECDSA with SHA-256: DER, base64."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return base64.b64encode(key.sign(text, ec.ECDSA(hashes.SHA256()))).decode("ascii")


def belongs(certificate: str, csr: str) -> bool:
    """Whether the certificate is for the key that made the request."""
    from cryptography import x509

    try:
        one, other = x509.load_pem_x509_certificate(certificate.encode()), x509.load_pem_x509_csr(csr.encode())
    except ValueError:
        return False
    return one.public_key() == other.public_key()


def fingerprints(trusted: str) -> list[str]:
    """SHA-256 of each certificate's DER form, hex. [] when they cannot be read."""
    return [sha256(_der(one)) for one in _all(trusted)]


def extended(known: str, offered: str) -> str:
    """`known` authorities and those of `offered` that one of them (or of those just added) has signed.

    An authority that is offered both as such and signed crosswise counts by its key: the self-signed form is kept.
    """
    believed = _all(known)
    waiting = _all(offered)
    added = True
    while added:
        added = False
        for one in waiting:
            if not _may_sign(one) or any(one.public_key() == other.public_key() for other in believed):
                continue
            vouched = [other for other in waiting if other.public_key() == one.public_key()]
            if any(_signed_by(other, authority) for other in vouched for authority in believed):
                believed.append(next((other for other in vouched if _signed_by(other, other)), one))
                added = True
    return known if len(believed) == len(_all(known)) else "".join(_pem(one) for one in believed)


def followed(known: str, offered: str, *, by: str) -> str:
    """The authorities to believe when the gateway now names `offered`: those of them that are `known`, or vouched for
    by one of these; `by` is the chain that came with a certificate, where such a signature stands in an overlap.
    """
    wanted = [one.public_key() for one in _all(offered)]
    return "".join(_pem(one) for one in _all(extended(known, offered + by)) if one.public_key() in wanted)


def issuer_of(pem_: bytes, trusted: str) -> str | None:
    """The fingerprint of the authority that signed an identity's certificate, None when it is none of these."""
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(certificate_of(pem_).encode())
    return next((sha256(_der(one)) for one in _all(trusted) if _signed_by(certificate, one)), None)


def not_after(certificate: str) -> str:
    """A certificate's end, UTC, RFC 3339. Raises ValueError."""
    from cryptography import x509

    ends = x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc
    return ends.isoformat(timespec="seconds").replace("+00:00", "Z")


def _all(trusted: str) -> list[x509.Certificate]:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(trusted.encode())
    except ValueError:
        return []


def _der(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.DER)


def _pem(certificate: x509.Certificate) -> str:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _may_sign(certificate: x509.Certificate) -> bool:
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound):
        return False


def _signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
