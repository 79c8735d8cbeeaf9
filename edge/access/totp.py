"""One-time codes of an authenticator app: RFC 6238, as all of them speak it (SHA-1, 6 digits, 30 seconds).

Strategy: a code is good once, and none older than the last one used ever is. The gateway's clock may be wrong (a small
board without a battery wakes up in the past), and so may the phone's. Then two codes in a row are asked for, one after
the other from the app: twelve digits name their moment within a month so surely that the clock is not needed, and with
a clock that can be believed within a few minutes.

Sources: RFC 6238 (TOTP), 5.2 (a code is never accepted twice) and 6 (resynchronisation); RFC 4226 (HOTP), 5.3
(truncation), 7.4 (two consecutive values) and R6 (a secret of 160 bits); Key URI Format of Google Authenticator.
"""

from __future__ import annotations

import base64
import hmac
import os
import struct
from urllib.parse import quote, urlencode

STEP_S = 30
DIGITS = 6
SECRET_BYTES = 20
AROUND = 1
"""Steps before and after the present one in which a single code is good: half a minute of difference."""
PAIR_AROUND_TRUSTED = 20
"""The same of two codes in a row while the gateway's clock is disciplined: ten minutes that the phone may be wrong."""
PAIR_AROUND = 30 * 24 * 3600 // STEP_S
"""And while it is not: a month. A guess of twelve digits hits one of these with a chance of one in six million."""


def new_secret() -> bytes:
    """For a new app."""
    return os.urandom(SECRET_BYTES)


def code(secret: bytes, step: int) -> str:
    """The code of one step (seconds since 1970, by 30)."""
    digest = hmac.digest(secret, struct.pack(">Q", step), "sha1")
    place = digest[-1] & 0xF
    (number,) = struct.unpack_from(">I", digest, place)
    return f"{(number & 0x7FFFFFFF) % 10**DIGITS:0{DIGITS}d}"


def accepted(secret: bytes, given: str, now_s: float, last_step: int, *, trusted: bool = True) -> int | None:
    """The step of the code, to be kept as the new `last_step`; None when it is not good, or was used.

    `given` is one code, or two in a row; blanks do not count. `trusted`: whether the clock is disciplined. Two codes
    may take as long as a hundred and seventy thousand steps to find: not for the event loop.
    """
    digits = "".join(given.split())
    if not digits.isascii() or not digits.isdigit():
        return None
    now = int(now_s) // STEP_S
    if len(digits) == DIGITS:
        return _single(secret, digits, now, last_step)
    if len(digits) == 2 * DIGITS:
        return _pair(secret, digits, now, PAIR_AROUND_TRUSTED if trusted else PAIR_AROUND, last_step)
    return None


def _single(secret: bytes, digits: str, now: int, last_step: int) -> int | None:
    found = None
    for step in range(max(0, now - AROUND), now + AROUND + 1):
        if hmac.compare_digest(code(secret, step), digits) and step > last_step:
            found = step
    return found


def _pair(secret: bytes, digits: str, now: int, around: int, last_step: int) -> int | None:
    first, second = digits[:DIGITS], digits[DIGITS:]
    found = None
    before = ""
    for step in range(max(0, last_step + 1, now - around), now + around + 1):
        here = code(secret, step)
        if hmac.compare_digest(before, first) and hmac.compare_digest(here, second):
            found = step
        before = here
    return found


def uri(secret: bytes, store: str, person: str) -> str:
    """What the QR code for the app says."""
    label = quote(f"Tillgate {store}:{person}")
    asked = {"secret": base64.b32encode(secret).decode().rstrip("="), "issuer": f"Tillgate {store}"}
    return f"otpauth://totp/{label}?{urlencode(asked, quote_via=quote)}"
