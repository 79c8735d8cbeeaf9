"""The receivers' own key: made offline under HQ's main key, and used for every confirmation and offer.

Source: RFC 8032 (Ed25519). What is signed: `edge.bus.messages.spoken`.
"""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ValidationError

from cloud_bridge.hq import keys
from edge.bus.envelope import canonical
from edge.bus.messages.facts import first_error
from edge.bus.messages.signed import Signed
from edge.bus.messages.spoken import ConfirmKeys, Said, Spoken

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

STATEMENT_DAYS = 400
"""A year, and a month to remember it: renewing needs a person with the main key."""


def state(main: Ed25519PrivateKey, public_keys: tuple[str, ...], days: int = STATEMENT_DAYS) -> Signed:
    """The statement that `public_keys` speak for the receivers from now on, and no others."""
    end = datetime.now(UTC) + timedelta(days=days)
    not_after = end.isoformat(timespec="seconds").replace("+00:00", "Z")
    said = ConfirmKeys(keys=public_keys, serial=time.time_ns() // 1_000_000, not_after=not_after)
    return _signed(main, said)


class Voice:
    """Signs what a receiver says."""

    def __init__(self, key: Ed25519PrivateKey, statement: Signed) -> None:
        said = ConfirmKeys.model_validate_json(statement.text)
        if keys.public(key) not in said.keys:
            raise keys.BadKey("the statement does not name this confirm key: they belong together")
        self._key = key
        self._statement = statement
        self._serial = said.serial
        self.not_after = said.not_after

    @classmethod
    def load(cls, file: Path) -> Voice:
        """From the key's file and ``FILE.statement`` beside it; BadKey when they cannot be used."""
        beside = statement_file(file)
        try:
            statement = Signed.model_validate_json(beside.read_bytes())
            return cls(keys.load(file), statement)
        except OSError as error:
            raise keys.BadKey(f"{beside}: {error.strerror}; `tillgate hq confirm-key` makes both") from None
        except ValidationError as error:
            raise keys.BadKey(f"{beside} is no statement: {first_error(error)}") from None

    def say(self, store: str, about: Literal["confirmed", "offer"], what: BaseModel, *, introduce: bool) -> bytes:
        """`what` as it goes onto the wire; with `introduce` the statement goes along."""
        says = what.model_dump(mode="json", exclude_defaults=True)
        text = Said(store=store, about=about, at_ms=time.time_ns() // 1_000_000, says=says)
        signed = _signed(self._key, text)
        statement = self._statement if introduce else None
        spoken = Spoken(text=signed.text, signature=signed.signature, serial=self._serial, statement=statement)
        return spoken.model_dump_json(exclude_none=True).encode()


def statement_file(key_file: Path) -> Path:
    """Where the statement lies: beside the key."""
    return key_file.with_name(key_file.name + ".statement")


def _signed(key: Ed25519PrivateKey, message: BaseModel) -> Signed:
    text = canonical(message.model_dump(mode="json")).decode()
    return Signed(text=text, signature=base64.b64encode(key.sign(text.encode())).decode())
