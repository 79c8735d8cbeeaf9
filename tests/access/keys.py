"""A till's keys and requests for tests, and OpenSSL as the second reading of what the authority signs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def lane_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def csr(key: Any, name: str = "whatever") -> bytes:
    """A PKCS #10 request for `key` (PEM)."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def plain(key: Any) -> bytes:
    """`key` in PEM, as a till keeps it."""
    return bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def secret_file(path: Path, *parts: bytes) -> Path:
    """`parts` in a file that only its owner may read."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(b"".join(parts))
    return path


def verified(
    folder: Path, chain: str, *, trusted: Path | str, purpose: str, crl: Path | None = None, at: int | None = None
) -> str:
    """What ``openssl verify -x509_strict`` says of the first certificate of `chain`: "OK", or its complaint."""
    leaf = folder / "leaf.pem"
    leaf.write_text(chain)
    believed = folder / "believed.pem"
    believed.write_text(trusted if isinstance(trusted, str) else trusted.read_text())
    command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", str(believed)]
    command += ["-untrusted", str(leaf)]
    if crl is not None:
        command += ["-crl_check", "-CRLfile", str(crl)]
    if at is not None:
        command += ["-attime", str(at)]
    done = subprocess.run([*command, str(leaf)], capture_output=True, text=True, check=False)
    return "OK" if done.returncode == 0 else done.stderr


def text_of(pem: str) -> str:
    """What ``openssl x509 -text`` reads in the first certificate of `pem`."""
    done = subprocess.run(
        ["openssl", "x509", "-noout", "-text", "-nameopt", "RFC2253"], input=pem, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return done.stdout
