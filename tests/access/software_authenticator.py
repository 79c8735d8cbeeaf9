"""An authenticator and the browser before it, in software: written from Web Authentication Level 2 and RFC 8949 alone.

It makes credentials (6.3.2, 6.5.4 packed as "none"), signs assertions (6.3.3), and lies where a test tells it to.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

UP, UV, AT = 0x01, 0x04, 0x40
"""Flags of authenticator data, 6.1: user present, user verified, attested credential data included."""


def cbor(value: Any) -> bytes:
    """RFC 8949, 3.1, of what a credential needs: integers, byte and text strings, maps."""
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        return _head(3, len(value.encode())) + value.encode()
    assert isinstance(value, dict)
    return _head(5, len(value)) + b"".join(cbor(key) + cbor(item) for key, item in value.items())


def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes([major << 5 | number])
    if number < 256:
        return bytes([major << 5 | 24, number])
    return bytes([major << 5 | 25]) + struct.pack(">H", number)


def text(data: bytes) -> str:
    """base64url without padding, as the page sends binary values."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def binary(data: str) -> bytes:
    return base64.urlsafe_b64decode(data + "=" * (-len(data) % 4))


@dataclass
class Authenticator:
    """One device with one credential. The fields are what a test may make it lie about."""

    origin: str = "https://store.example"
    flags: int = UP | UV
    counter: int = 0
    credential_id: bytes = field(default_factory=lambda: os.urandom(32))
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    user: bytes = b""
    rp_id: str | None = None
    algorithm: int = -7

    def create(self, options: dict[str, Any], **lies: Any) -> dict[str, Any]:
        """``navigator.credentials.create(options).toJSON()``."""
        asked = options["publicKey"]
        self.rp_id = self.rp_id or asked["rp"]["id"]
        self.user = binary(asked["user"]["id"])
        numbers = self.key.public_key().public_numbers()
        cose = {1: 2, 3: self.algorithm, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
        attested = bytes(16) + struct.pack(">H", len(self.credential_id)) + self.credential_id + cbor(cose)
        data = self._data(self.flags | AT) + attested
        client = self._client("webauthn.create", asked["challenge"], lies)
        attestation = cbor({"fmt": "none", "attStmt": {}, "authData": data})
        return self._response({"clientDataJSON": text(client), "attestationObject": text(attestation)})

    def get(self, options: dict[str, Any], **lies: Any) -> dict[str, Any]:
        """``navigator.credentials.get(options).toJSON()``."""
        asked = options["publicKey"]
        self.rp_id = self.rp_id or asked["rpId"]
        self.counter += 1
        data = self._data(self.flags)
        client = self._client("webauthn.get", asked["challenge"], lies)
        signature = self.key.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(SHA256()))
        return self._response(
            {
                "clientDataJSON": text(client),
                "authenticatorData": text(data),
                "signature": text(signature),
                "userHandle": text(self.user),
            }
        )

    def _data(self, flags: int) -> bytes:
        assert self.rp_id is not None
        return hashlib.sha256(self.rp_id.encode()).digest() + struct.pack(">BI", flags, self.counter)

    def _client(self, kind: str, challenge: str, lies: dict[str, Any]) -> bytes:
        said = {"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False, **lies}
        return json.dumps(said).encode()

    def _response(self, response: dict[str, str]) -> dict[str, Any]:
        key = text(self.credential_id)
        return {
            "id": key, "rawId": key, "type": "public-key", "response": response,
            "authenticatorAttachment": "platform", "clientExtensionResults": {},
        }  # fmt: skip
