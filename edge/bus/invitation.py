"""The invitation that a technician carries to a till: a code of 20 letters and digits, or the same as a QR code.

    K7QF-2M9D-3XHT-8BWN-5EPC      groups and case are for people: a till takes it with or without
    |16: secret, 80 bits| |2: of the authority|2: typing check|

- Crockford's base 32: no I, L, O or U; who types O or I or L means 0 or 1.
- The first 16 stand for 80 random bits. They alone let a till in.
- The next two are the first 10 bits of the store authority's fingerprint: they choose among gateways that answer mDNS
  and prove nothing (the proof of enrolment does).
- The last two are the first eighteen, read as one number in base 32, modulo 1021. As 1021 is a prime, and the powers
  of 32 up to the seventeenth differ modulo it, each single wrong character and each swap of two of those eighteen is
  noticed; of other typing errors all but 1 in 1021.

Strategy: pure code, standard library only, shared by gateway and till.

Source: D. Crockford, "Base 32" (crockford.com/base32.html), without its own check symbol: that one needs five further
characters, which are hard to type.
"""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_UPPER = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)
_MEANT = str.maketrans({"O": "0", "I": "1", "L": "1", "-": None, " ": None, "\t": None, "\n": None, "\r": None})
LENGTH = 20
_SECRET, _AUTHORITY = 16, 2
_MODULUS = 1021
SCHEME = "tillgate:enrol?"
LONGEST_TEXT = 2_000
"""No invitation is longer, written in whichever form."""


class BadCode(ValueError):
    """The text is no invitation; it says what is wrong with it, for whoever typed it."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a till was given. `code` is the 20 characters; the rest is known only from a QR code (else None, empty).

    `hosts` and `port` are where the gateway's enrolment listener is, `authority` the SHA-256 of the store authority's
    certificate (DER) in lower-case hex.
    """

    code: str = field(repr=False)
    store: str | None = None
    lane: str | None = None
    hosts: tuple[str, ...] = ()
    port: int | None = None
    authority: str | None = None

    def text(self) -> str:
        """As it stands in a QR code."""
        fields: list[tuple[str, str | int | None]] = [("v", 1), ("store", self.store), ("lane", self.lane)]
        fields += [("host", host) for host in self.hosts]
        fields += [("port", self.port), ("ca", self.authority), ("code", self.code)]
        return SCHEME + urlencode([(key, value) for key, value in fields if value is not None])

    def suits(self, fingerprint: str) -> bool:
        """Whether this invitation may be of the authority with this fingerprint (hex)."""
        if self.authority is not None:
            return self.authority == fingerprint
        return self.code[_SECRET : _SECRET + _AUTHORITY] == _bits_of(fingerprint)


def new_code(fingerprint: str) -> str:
    """A fresh code of the store whose authority has this fingerprint (SHA-256, hex)."""
    secret = "".join(secrets.choice(ALPHABET) for _ in range(_SECRET))
    body = secret + _bits_of(fingerprint)
    return body + _check_of(body)


def grouped(code: str) -> str:
    """As people read it: five groups of four."""
    return "-".join(code[start : start + 4] for start in range(0, LENGTH, 4))


def read(text: str) -> Invitation:
    """The invitation of a typed code or of a QR code's text. Raises BadCode."""
    if len(text) > LONGEST_TEXT:
        raise BadCode("this is too long for an invitation")
    if text.strip().lower().startswith(SCHEME):
        return _read_link(text.strip())
    return Invitation(_read_code(text))


def _read_code(text: str) -> str:
    code = text.translate(_UPPER).translate(_MEANT)
    wrong = sorted(set(code) - set(ALPHABET))
    if wrong:
        raise BadCode(f"{', '.join(wrong)} never stands in a code; it has letters and digits, but no U")
    if len(code) != LENGTH:
        raise BadCode(f"a code has {LENGTH} letters and digits, this has {len(code)}")
    body = code[: _SECRET + _AUTHORITY]
    if code[len(body) :] != _check_of(body):
        raise BadCode("there is a typing error in it: compare it with the invitation, group by group")
    return code


def _read_link(text: str) -> Invitation:
    try:
        fields = parse_qs(text[len(SCHEME) :], strict_parsing=True, max_num_fields=20)
    except ValueError:
        raise BadCode("the QR code is not an invitation that can be read") from None
    one = {key: values[0] for key, values in fields.items()}
    if one.get("v") != "1":
        raise BadCode("the QR code is of another version of Tillgate: update this till")
    port = one.get("port", "")
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65_535):
        raise BadCode("the QR code names a port that does not exist")
    authority = one.get("ca")
    if authority is not None and (len(authority) != 64 or set(authority) - set("0123456789abcdef")):
        raise BadCode("the QR code's 'ca' is no fingerprint")
    code = _read_code(one.get("code", ""))
    found = Invitation(
        code, one.get("store"), one.get("lane"), tuple(fields.get("host", ())), int(port) if port else None, authority
    )
    if authority is not None and code[_SECRET : _SECRET + _AUTHORITY] != _bits_of(authority):
        raise BadCode("the QR code contradicts itself: its 'ca' and its 'code' are of two stores")
    return found


def _bits_of(fingerprint: str) -> str:
    """The first 10 bits of a fingerprint as two characters."""
    return _two(int(fingerprint[:3], 16) >> 2)


def _check_of(body: str) -> str:
    number = 0
    for character in body:
        number = number * 32 + ALPHABET.index(character)
    return _two(number % _MODULUS)


def _two(number: int) -> str:
    return ALPHABET[number // 32] + ALPHABET[number % 32]
