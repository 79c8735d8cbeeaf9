"""Ed25519 signatures over texts (RFC 8032; `cryptography`'s implementation): HQ's over what it sends to stores."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable


def signed_by_one_of(keys: Iterable[str], text: str, signature: str) -> bool:
    """Whether one of `keys` (32 bytes each, base64) made `signature` (base64) over the UTF-8 bytes of `text`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    for key in keys:
        try:
            public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key, validate=True))
            public.verify(base64.b64decode(signature, validate=True), text.encode())
        except (InvalidSignature, binascii.Error, ValueError):
            continue
        return True
    return False
