"""HQ's signing key: one Ed25519 key in a PEM file that only its owner can read."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class BadKey(ValueError):
    """The key file cannot be used or made; the text says why."""


def make(file: Path) -> str:
    """Make a key in `file` (mode 0600, never overwritten); returns the public key in base64 for ``price_key``."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise BadKey(f"{file} is there already: a key in use must not be lost; choose another name") from None
    except OSError as error:
        raise BadKey(f"{file} cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as out:
        out.write(text)
    return public(key)


def load(file: Path) -> Ed25519PrivateKey:
    """The key in `file`; BadKey when there is none."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        key = serialization.load_pem_private_key(file.read_bytes(), None)
    except OSError as error:
        raise BadKey(f"{file} cannot be read ({error.strerror}); `tillgate hq keygen {file}` makes one") from None
    except (ValueError, TypeError) as error:
        raise BadKey(f"{file} is no key without passphrase: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadKey(f"{file} holds another kind of key; `tillgate hq keygen` makes an Ed25519 key")
    return key


def public(key: Ed25519PrivateKey) -> str:
    """The public half, as it stands in ``store.toml``: 32 bytes in base64."""
    from cryptography.hazmat.primitives import serialization

    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return base64.b64encode(raw).decode()
