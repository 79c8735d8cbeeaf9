"""Passkeys: logging in at a page with a key that the browser's device keeps and unlocks for its owner.

Strategy: `fido2` reads what the browser sends and checks type, origin, challenge, party, presence, verification and
signature; here is what it leaves to whoever uses it. A challenge is made here, good once and for five minutes, for the
one purpose (and at registration the one person) it was made for. A key that shows a counter it has shown before was
copied and is refused. Which keys a person has is never said to somebody who has not logged in: the device finds them.

The user's verification (PIN, finger) is required: a passkey is both factors. Attestation is not asked for: who made a
person's phone does not matter here.

Sources: Web Authentication Level 2 (W3C Recommendation), 7.1 (registration), 7.2 (assertion), 6.1.1 (counters).
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from edge.access.audit import Audit
from edge.access.places import lane_of
from edge.access.proving import REFUSED
from edge.access.register import Kept, Passkey, Register
from edge.access.roles import Person
from edge.bus.messages.facts import AuditAction
from edge.bus.messages.replies import Code, ProblemError

if TYPE_CHECKING:
    from fido2.server import Fido2Server

CHALLENGE_S = 300.0
CHALLENGES = 100
"""That wait to be answered; the oldest goes."""
PER_PERSON = 10
ALGORITHMS = (-7, -8, -257)
"""ES256, EdDSA, RS256 (COSE): what authenticators have."""
RESPONSE_BYTES = 16 * 1024
"""No browser sends as much."""

_MISREAD = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, RecursionError, struct.error,
)  # fmt: skip
"""What reading a response that is none ends in."""


class Passkeys:
    """Registers and checks passkeys of the page at `origin` (``https://store.example``), whose name is `rp_id`.

    `turn` is held while what is kept of a person changes.
    """

    def __init__(
        self, register: Register, turn: asyncio.Lock, audit: Audit, now_s: Callable[[], float], rp_id: str, origin: str
    ) -> None:
        self._register = register
        self._turn = turn
        self._audit = audit
        self._now_s = now_s
        self._rp_id = rp_id
        self._origin = origin
        self._made: dict[str, tuple[str | None, dict[str, Any], float]] = {}

    def _server(self) -> Fido2Server:
        from fido2.server import Fido2Server
        from fido2.webauthn import PublicKeyCredentialRpEntity

        party = PublicKeyCredentialRpEntity(id=self._rp_id, name="Tillgate")
        server = Fido2Server(party, verify_origin=lambda origin: origin == self._origin)
        server.allowed_algorithms = [one for one in server.allowed_algorithms if one.alg in ALGORITHMS]
        return server

    def _remember(self, person: str | None, state: dict[str, Any]) -> None:
        now_s = self._now_s()
        self._made = {key: made for key, made in self._made.items() if made[2] > now_s}
        while len(self._made) >= CHALLENGES:
            del self._made[next(iter(self._made))]
        self._made[state["challenge"]] = (person, state, now_s + CHALLENGE_S)

    def _take(self, challenge: bytes, person: str | None) -> dict[str, Any]:
        from fido2.utils import websafe_encode

        owner, state, until_s = self._made.pop(websafe_encode(challenge), (None, {}, 0.0))
        if until_s <= self._now_s() or owner != person:
            raise ValueError("this challenge is not one of ours, too old, or was answered")
        return state

    # -- registering -------------------------------------------------------------------------------------------------

    def offer(self, id_: str) -> dict[str, Any]:
        """What the page gives ``navigator.credentials.create``, binary values in base64url."""
        from fido2.utils import websafe_decode
        from fido2.webauthn import (
            PublicKeyCredentialDescriptor,
            PublicKeyCredentialType,
            PublicKeyCredentialUserEntity,
            ResidentKeyRequirement,
            UserVerificationRequirement,
        )

        kept = self._register.there(id_)
        known = [
            PublicKeyCredentialDescriptor(type=PublicKeyCredentialType.PUBLIC_KEY, id=websafe_decode(one.id))
            for one in kept.passkeys
        ]
        options, state = self._server().register_begin(
            PublicKeyCredentialUserEntity(id=id_.encode(), name=id_, display_name=kept.name),
            known,
            resident_key_requirement=ResidentKeyRequirement.REQUIRED,
            user_verification=UserVerificationRequirement.REQUIRED,
        )
        self._remember(id_, state)
        return _plain(options)

    async def take(self, by: str, id_: str, response: Mapping[str, Any], label: str = "") -> None:
        """Keep the passkey that the browser made. ProblemError: `bad_message` when it proves nothing, `conflict`."""
        from fido2.utils import websafe_encode
        from fido2.webauthn import RegistrationResponse

        async with self._turn:
            kept = self._register.there(id_)
            try:
                _bounded(response)
                said = RegistrationResponse.from_dict(response)
                state = self._take(said.response.client_data.challenge, id_)
                made = self._server().register_complete(state, response)
                credential = made.credential_data
                if credential is None or credential.public_key.get(3) not in ALGORITHMS:
                    raise ValueError("no key of a kind that was asked for")
                if credential.credential_id != said.raw_id:
                    raise ValueError("two different ids")
            except _MISREAD as error:
                raise ProblemError(Code.BAD_MESSAGE, f"this is no new passkey of this page: {error}") from None
            key = websafe_encode(credential.credential_id)
            if any(one.id == key for other in self._register.all().values() for one in other.passkeys):
                raise ProblemError(Code.CONFLICT, "this passkey is known already")
            if len(kept.passkeys) >= PER_PERSON:
                raise ProblemError(Code.CONFLICT, f"{id_} has {PER_PERSON} passkeys: remove one first")
            new = Passkey(id=key, public_key=websafe_encode(bytes(credential)), counter=made.counter, label=label[:60])
            changed = kept.model_copy(update={"passkeys": (*kept.passkeys, new)})
            await self._register.change(AuditAction.PERSON_CHANGED, by, id_, changed, f"passkey {label[:60]}".strip())

    async def remove(self, by: str, id_: str, key: str) -> None:
        """Believe a passkey no more. ProblemError `not_found`."""
        async with self._turn:
            kept = self._register.there(id_)
            left = tuple(one for one in kept.passkeys if one.id != key)
            if len(left) == len(kept.passkeys):
                raise ProblemError(Code.NOT_FOUND, f"{id_} has no such passkey")
            changed = kept.model_copy(update={"passkeys": left})
            await self._register.change(AuditAction.PERSON_CHANGED, by, id_, changed, "passkey removed")

    # -- proving -----------------------------------------------------------------------------------------------------

    def ask(self) -> dict[str, Any]:
        """What the page gives ``navigator.credentials.get``: the same for everybody."""
        from fido2.webauthn import UserVerificationRequirement

        options, state = self._server().authenticate_begin(user_verification=UserVerificationRequirement.REQUIRED)
        self._remember(None, state)
        return _plain(options)

    async def prove(self, response: Mapping[str, Any], place: str) -> Person:
        """Who it is. ProblemError `log_in_refused`, whatever was wrong."""
        from fido2.webauthn import AttestedCredentialData, AuthenticationResponse

        async with self._turn:
            id_: str | None = None
            try:
                _bounded(response)
                said = AuthenticationResponse.from_dict(response)
                state = self._take(said.response.client_data.challenge, None)
                id_, kept, passkey = self._owner(said.raw_id)
                if said.response.user_handle not in (None, id_.encode()):
                    raise ValueError("the device says that it is another person's")
                known = AttestedCredentialData(_binary(passkey.public_key))
                self._server().authenticate_complete(state, [known], response)
                counter = said.response.authenticator_data.counter
                if (counter or passkey.counter) and counter <= passkey.counter:
                    raise ValueError("its counter has been seen: it was copied")
                if not kept.active:
                    raise ValueError("may not log in")
            except _MISREAD as error:
                self._audit.record(
                    AuditAction.PERSON_LOGGED_IN, "refused", person=id_, lane=lane_of(place), detail=f"passkey: {error}"
                )
                raise ProblemError(Code.LOG_IN_REFUSED, REFUSED) from None
            if counter != passkey.counter:
                new = passkey.model_copy(update={"counter": counter})
                self._register.change_soon(id_, passkeys=tuple(new if one is passkey else one for one in kept.passkeys))
            return Person(id_, kept.name, kept.role)

    def _owner(self, credential_id: bytes) -> tuple[str, Kept, Passkey]:
        from fido2.utils import websafe_encode

        key = websafe_encode(credential_id)
        for id_, kept in self._register.all().items():
            for passkey in kept.passkeys:
                if passkey.id == key:
                    return id_, kept, passkey
        raise ValueError("nobody here has this passkey")


def _bounded(response: Mapping[str, Any]) -> None:
    if len(json.dumps(response)) > RESPONSE_BYTES:
        raise ValueError("too large")


def _plain(options: Any) -> dict[str, Any]:
    """The options as JSON has them."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(options), default=dict))
    return plain


def _binary(text: str) -> bytes:
    from fido2.utils import websafe_decode

    return websafe_decode(text)
