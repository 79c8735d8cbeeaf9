"""Recovery codes: ten on paper, each good once in place of the authenticator app that was lost.

Strategy: 80 random bits each, and only a hash of each is kept. All of a set share a salt, so that trying one costs one
computation, not ten.

Source: NIST SP 800-63B-4, 3.1.2 (look-up secrets: at least 20 bits, hashed with a salt like passwords below 112 bits).
"""

from __future__ import annotations

import hmac
import os
import secrets
from dataclasses import dataclass

from edge.access.passwords import SALT_BYTES, stretched

COUNT = 10
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: nothing in it is mistaken for another."""
_GROUPS, _GROUP = 4, 4
_READ_AS = str.maketrans({"O": "0", "I": "1", "L": "1", "-": None, " ": None})


@dataclass(frozen=True, slots=True)
class RecoveryCodes:
    """What is kept of a set: hashes of the codes that are left, in hexadecimal."""

    salt: str
    hashes: tuple[str, ...]

    def without(self, code: str) -> RecoveryCodes | None:
        """The set after `code` was used; None when it is not one of them. Takes as long as a password."""
        found = stretched(_read(code), bytes.fromhex(self.salt)).hex()
        fitting = [one for one in self.hashes if hmac.compare_digest(one, found)]
        if not fitting:
            return None
        return RecoveryCodes(self.salt, tuple(one for one in self.hashes if one not in fitting))


def new() -> tuple[list[str], RecoveryCodes]:
    """Ten codes to be written down, and what is kept of them. Takes as long as ten passwords."""
    codes = [
        "-".join("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))
        for _ in range(COUNT)
    ]
    salt = os.urandom(SALT_BYTES)
    return codes, RecoveryCodes(salt.hex(), tuple(stretched(_read(code), salt).hex() for code in codes))


def looks_like_one(text: str) -> bool:
    """Whether it can only be meant as a recovery code, not as one of an app."""
    return len(_read(text)) == _GROUPS * _GROUP


def _read(code: str) -> str:
    return code.upper().translate(_READ_AS)
