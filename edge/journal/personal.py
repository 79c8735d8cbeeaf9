"""The sealed form of a fact's personal parts: what the journal, the bridge and HQ have instead of a member's number.

    "data": {"receipt_number": "000123", "member": {"siv": "<base64>", "tgsealed": "mCy2Hq0vXzA1b9-K"}}

Strategy: every person has a key of their own, 32 random bytes. A part is the JSON of its value under AES-SIV with that
key; the fact's type, its id and the part's name are authenticated with it, so that no part can stand in another place.
AES-SIV because it is deterministic: the same fact sent twice has the same bytes, and is recognised as the same.
``tgsealed`` is the person's pseudonym, a digest of the key: it says which key is wanted, tells nothing of the person,
and whoever brings a key cannot bring a wrong one. With the key the person is erased; the bytes, their hash and the
chain over them stay what they were.

A part that belongs to somebody who is erased is ``{"tgsealed": null}``: there was a person, and we do not know who.

Source: RFC 5297 (AES-SIV; AEAD_AES_SIV_CMAC_256, with a vector of associated data); RFC 4648, section 5 (base64url).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

KEY_BYTES = 32
PSEUDONYM_CHARACTERS = 16
"""96 bits: that two of a thousand million people have the same has a chance of one in a hundred thousand million."""

PSEUDONYM = re.compile(r"[A-Za-z0-9_-]{16}")
_IN_BODY = re.compile(rb'"tgsealed":"([A-Za-z0-9_-]{16})"')
NOBODY: Mapping[str, None] = {"tgsealed": None}
"""Stands for a part of somebody who is erased."""


class Unopenable(ValueError):
    """A part is not what this key sealed in this place: it was changed, or moved."""


def new_key() -> bytes:
    """A key for one more person."""
    return secrets.token_bytes(KEY_BYTES)


def pseudonym_of(key: bytes) -> str:
    """What stands for the person with this key: 16 characters of base64url."""
    digest = hashlib.sha256(b"tillgate person\0" + key).digest()
    return base64.urlsafe_b64encode(digest[: PSEUDONYM_CHARACTERS * 3 // 4]).decode()


def sealed_data(
    key: bytes | None, type_: str, id_: str, data: Mapping[str, Any], impersonal: Iterable[str]
) -> dict[str, Any]:
    """`data` of the fact `id_` with everything but the `impersonal` parts sealed; `key` None: the person is erased."""
    keep = frozenset(impersonal)
    if key is None:
        return {name: value if name in keep else NOBODY for name, value in data.items()}
    siv, pseudonym = _cipher(key), pseudonym_of(key)
    sealed = dict(data)
    for name in data.keys() - keep:
        box = siv.encrypt(orjson.dumps(data[name], option=orjson.OPT_SORT_KEYS), _place(type_, id_, name))
        sealed[name] = {"siv": base64.b64encode(box).decode(), "tgsealed": pseudonym}
    return sealed


def opened(event: Mapping[str, Any], key_of: Callable[[str], bytes | None]) -> dict[str, Any]:
    """The fact as it was sent, as far as its keys are there (`key_of` a pseudonym); other parts stay sealed.

    Unopenable when a key is there and does not fit: the part was changed, or is another fact's.
    """
    data = event.get("data")
    if not isinstance(data, dict):
        return dict(event)
    plain = dict(data)
    for name, part in data.items():
        pseudonym = part.get("tgsealed") if isinstance(part, dict) else None
        key = key_of(pseudonym) if isinstance(pseudonym, str) else None
        if key is not None:
            plain[name] = _opened(key, event, name, part)
    return {**event, "data": plain}


def opened_as_far_as_possible(event: Mapping[str, Any], key_of: Callable[[str], bytes | None]) -> dict[str, Any]:
    """As `opened`; a fact that was tampered with stays as it is, with the reason as ``unopened``."""
    try:
        return opened(event, key_of)
    except Unopenable as error:
        return {**event, "unopened": str(error)}


def _opened(key: bytes, event: Mapping[str, Any], name: str, part: Mapping[str, Any]) -> Any:
    from cryptography.exceptions import InvalidTag

    try:
        box = base64.b64decode(part["siv"], validate=True)
        return orjson.loads(_cipher(key).decrypt(box, _place(str(event["type"]), str(event["id"]), name)))
    except (KeyError, TypeError, ValueError, InvalidTag) as error:
        raise Unopenable(f"{name} of fact {event.get('id')} cannot be opened: it was changed, or moved") from error


def pseudonyms_in(body: bytes) -> list[str]:
    """The people a recorded body speaks of, each once, in order; quick enough for every body of a drain."""
    return list(dict.fromkeys(found.decode() for found in _IN_BODY.findall(body)))


def without_person(event: Mapping[str, Any]) -> dict[str, Any]:
    """The fact as it would have been recorded after its person was erased."""
    data = event.get("data")
    if not isinstance(data, dict):
        return dict(event)
    blank = {
        name: NOBODY if isinstance(part, dict) and part.keys() == {"siv", "tgsealed"} else part
        for name, part in data.items()
    }
    return {**event, "data": blank}


def key_as_text(key: bytes) -> str:
    """A key as it travels: base64url without padding."""
    return base64.urlsafe_b64encode(key).decode().rstrip("=")


def key_from_text(text: object) -> bytes | None:
    """The key; None when this is none."""
    if not isinstance(text, str) or len(text) != -(-KEY_BYTES * 4 // 3):
        return None
    try:
        return base64.b64decode(text + "=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None


def _place(type_: str, id_: str, name: str) -> list[bytes]:
    return [type_.encode(), id_.encode(), name.encode()]


def _cipher(key: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    return AESSIV(key)
