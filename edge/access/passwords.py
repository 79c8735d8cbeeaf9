"""Passwords and PINs: hashed with Argon2id, checked off the event loop one at a time, refused when they are guessable.

Strategy: a hash carries its own parameters (PHC string), so they can be raised later: what was hashed with others is
hashed anew when its owner logs in. A password is asked for its length and against a list of what everybody tries
first, never for kinds of characters. An unknown person costs the same work as a known one.

Sources: RFC 9106 (Argon2); OWASP Password Storage Cheat Sheet (Argon2id, m = 19 MiB, t = 2, p = 1: the least of its
choices in memory, about 0.2 s on a Raspberry Pi 4); PHC string format; NIST SP 800-63B-4, 3.1.1.2 (length, blocklist,
no composition, Unicode NFKC).
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

MEMORY_KIB, PASSES, LANES = 19 * 1024, 2, 1
SALT_BYTES, HASH_BYTES = 16, 32
LONGEST = 128
"""Characters: what is longer is refused before anything is computed."""
WAITING = 8
"""So many checks may wait their turn; each needs 19 MiB and a tenth of a second of a small board."""

_T = TypeVar("_T")


class TooBusy(Exception):
    """More checks are waiting than are taken on."""


def hashed(password: str) -> str:
    """The PHC string of a fresh hash. Takes a while: see `Hasher`."""
    return _argon2id(os.urandom(SALT_BYTES)).derive_phc_encoded(_bytes(password))


def fits(password: str, phc: str | None) -> bool:
    """Whether it is the password of that hash; with None the same work, and False."""
    from cryptography.exceptions import InvalidKey
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    try:
        Argon2id.verify_phc_encoded(_bytes(password), phc or _nobodys())
    except InvalidKey:
        return False
    return phc is not None


def outdated(phc: str) -> bool:
    """Whether it was hashed with other parameters than those of today."""
    return not phc.startswith(_prefix())


def stretched(code: str, salt: bytes) -> bytes:
    """32 bytes of a recovery code, which has a salt in common with the others of its set."""
    return _argon2id(salt).derive(_bytes(code))


def _argon2id(salt: bytes) -> Argon2id:
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    return Argon2id(salt=salt, length=HASH_BYTES, iterations=PASSES, lanes=LANES, memory_cost=MEMORY_KIB)


def _bytes(password: str) -> bytes:
    return unicodedata.normalize("NFKC", password).encode()


def _prefix() -> str:
    return f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}$"


def _nobodys() -> str:
    """A hash that no password has."""
    parts = (os.urandom(SALT_BYTES), os.urandom(HASH_BYTES))
    return _prefix() + "$".join(base64.b64encode(part).decode().rstrip("=") for part in parts)


class Hasher:
    """Runs what takes long on a thread of its own, one at a time, so that scans and sales go on beside it."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._waiting = 0

    async def run(self, work: Callable[[], _T]) -> _T:
        """Raises TooBusy when too many are waiting."""
        if self._waiting >= WAITING:
            raise TooBusy
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="passwords")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)


def complaint(password: str, least: int, names: tuple[str, ...] = ()) -> str | None:
    """What is wrong with it as a new password of at least `least` characters; None when it will do.

    `names` are what an attacker knows besides: the person's id and name, the store's.
    """
    plain = unicodedata.normalize("NFKC", password)
    if len(plain) < least:
        return f"it needs at least {least} characters; a few words in a row are easy to remember"
    if len(plain) > LONGEST:
        return f"at most {LONGEST} characters"
    low = plain.casefold()
    core = low.strip("0123456789!?.,-_*# ")
    if low in _TRIED_FIRST or core in _TRIED_FIRST or _is_pattern(low) or (core and _is_pattern(core)):
        return "it is one of those that everybody tries first"
    if any(len(name) >= 3 and name.casefold() in low and len(low) - len(name) < 6 for name in names):
        return "it is little more than a name that everybody here knows"
    return None


def _is_pattern(text: str) -> bool:
    """One character, or a short piece, again and again; a run up or down; a row of the keyboard."""
    for length in range(1, min(4, len(text) // 2) + 1):
        if (text[:length] * len(text))[: len(text)] == text:
            return True
    steps = {ord(after) - ord(before) for before, after in itertools.pairwise(text)}
    return steps in ({1}, {-1}) or any(text in row or text in row[::-1] for row in _ROWS if len(text) >= 4)


_ROWS = (
    "1234567890",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "azertyuiopqsdfghjklmwxcvbn",
    "147258369",
)

_TRIED = """
password passwort passw0rd p@ssword p@ssw0rd motdepasse contrasena contraseña wachtwoord senha parola salasana
admin administrator root user guest gast test tester testtest demo default changeme change-me letmein welcome
willkommen bienvenue hello hallo secret geheim iloveyou ichliebedich sunshine princess dragon monkey football
fussball baseball superman batman master shadow michael jordan michelle jennifer charlie daniel thomas hunter2
trustno1 starwars whatever freedom qazwsx qwerty qwertz azerty asdfgh yxcvbn zxcvbn 1q2w3e 1q2w3e4r 1q2w3e4r5t
1qaz2wsx zaq12wsx q1w2e3r4 abc123 abcd1234 a1b2c3 a1b2c3d4 aa123456 pass1234 test1234 admin123
till kasse caisse caja cassa checkout cashier kassierer kassiererin supervisor technician techniker owner chef
store shop laden filiale magasin tienda tillgate gateway register drawer schublade money geld bargeld
0000 1111 1212 1004 2000 1313 4321 6969 8520 2580 0852 5683 1998 2020 2021 2022 2023 2024 2025 2026
112233 121212 123123 123321 131313 159357 147258 147852 159753 192837 223344 232323 252525 258456 789456 654321
666666 696969 741852 852456 963852 987654 101010 110110 111222 112211 123654 124578 142536 010203 020304 102030
246810 135790 314159 271828 100000 200000 500000 999999 000001 12341234 11223344 12344321 13579 24680
correcthorsebatterystaple correct horse battery staple
"""
_TRIED_FIRST = frozenset(_TRIED.split())
