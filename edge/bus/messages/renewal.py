"""How a store gets its next certificate for HQ's broker: a request on ``up/certificate``, the answer on
``down/certificate``. The store keeps its key; what it has now vouches for what it asks for.
"""

from __future__ import annotations

from pydantic import Field

from edge.bus.messages.base import Message
from edge.bus.messages.signed import UTC_TIME

CERTIFICATE_LEVEL = "certificate"
"""The last level of both topics; no stream has this name."""

PROOF = b"tillgate certificate request v1\n"
"""Stands before the request in what the present key signs, so that the signature proves nothing else."""


class CertificateRequest(Message):
    """`signature`: ECDSA with SHA-256 over `PROOF` and `csr` by the key of `certificate`, DER in base64."""

    certificate: str = Field(min_length=1, max_length=8192, description="the present one, PEM")
    csr: str = Field(min_length=1, max_length=4096, description="PKCS #10, PEM, EC P-256")
    signature: str = Field(min_length=1, max_length=200)


class CertificateAnswer(Message):
    """The next certificate, for the key with this digest (SHA-256 of its SubjectPublicKeyInfo)."""

    key_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    certificate: str = Field(min_length=1, max_length=16384, description="PEM, and after it its authority's")
    renew_at: str = Field(pattern=UTC_TIME)
