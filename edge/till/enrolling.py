"""A till enrols: with the code of an invitation it gets a certificate for a key that it makes itself.

Strategy: the gateway is where the invitation says, where the caller says, or whatever answers mDNS and may be of this
code's authority. Each is asked in turn until one *proves* that it knows the code, too; what the others say counts for
nothing, a refusal neither. Nothing is written before that proof. Nobody can gain anything from a till that asks him:
the code is not in the question, and what stands in it is good only over the TLS certificate that he has shown.

Source: docs/till.md, Enrolling.
"""

from __future__ import annotations

import secrets
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from edge.bus import enrolment
from edge.bus.enrolment import PORT, Enrolled, EnrolRequest, Keys, keys_of, prove, proves
from edge.bus.invitation import Invitation, read
from edge.card_guard import guarded
from edge.till import keypair
from edge.till.https import NotBelieved, Unreachable, asking
from edge.till.identity import Identity

log = guarded(__name__)

WITHIN_S = 10.0
"""For one gateway to answer."""
LOOK_S = (3.0, 6.0, 12.0)
"""For gateways to answer mDNS; again when none of those that did has let us in."""


class NotEnrolled(Exception):
    """No gateway has taken this till in. `code` is a refusal's, ``not_genuine`` (it could not prove that it knows the
    code: somebody stands between), ``unreachable``, or ``other_store``, ``other_lane`` where the till itself says so;
    the text is for whoever stands before the till.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class _Place:
    host: str
    port: int


async def enrol(
    invitation: str,
    folder: Path,
    *,
    store: str | None = None,
    lane: str | None = None,
    host: str | None = None,
    port: int | None = None,
    interfaces: Sequence[str] = (),
) -> Identity:
    """Enrol with a typed code or a QR code's text; the identity is in `folder` when this returns.

    `store` and `lane`: only as these, where the till knows who it is. `host` and `port` of the enrolment listener;
    left out, the QR code's or whoever answers mDNS on `interfaces`. Raises BadCode (a ValueError: nobody was asked),
    NotEnrolled, OSError (the identity cannot be kept).
    """
    given = read(invitation)
    store, lane = _one("store", store, given.store), _one("lane", lane, given.lane)
    keys = keys_of(given.code)
    key = keypair.new_key()
    csr = keypair.request(key, lane or "till")
    worst = NotEnrolled("unreachable", "no gateway of this invitation answers; give its address by hand")
    failed: list[tuple[str, NotEnrolled]] = []
    async for place in _places(given, store, host, port, interfaces):
        try:
            answer = await _ask(place, keys, given, store or "", lane or "", csr)
        except NotEnrolled as error:
            failed.append((place.host, error))
            if worst.code in ("unreachable", *_MILD):
                worst = error
            continue
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        identity = Identity(
            folder, answer.store, answer.lane, answer.server_name, place.host, answer.bus_port, place.port, now,
            answer.not_after,
        )  # fmt: skip
        identity.save(keypair.pem(key), answer.certificate, answer.trusted)
        log.info("enrolled as lane %s of store %s", answer.lane, answer.store)
        _tell(failed)
        return identity
    _tell([one for one in failed if one[1] is not worst])
    raise worst


def _tell(failed: list[tuple[str, NotEnrolled]]) -> None:
    """Who has not let us in, beside what the caller hears."""
    for host, error in failed:
        log.warning("not enrolled at %s: %s", host, error)


_MILD = ("unknown_invitation", "other_store")
"""What another store's gateway says truly; anything else is worth more to a person."""


def _one(what: str, wanted: str | None, invited: str | None) -> str | None:
    if wanted is not None and invited is not None and wanted != invited:
        raise NotEnrolled(f"other_{what}", f"the invitation is for {what} {invited}, this till is of {what} {wanted}")
    return wanted if wanted is not None else invited


async def _places(
    given: Invitation, store: str | None, host: str | None, port: int | None, interfaces: Sequence[str]
) -> AsyncIterator[_Place]:
    """Where to ask, one after the other; mDNS is looked at again when nobody has let us in."""
    hosts = (host,) if host is not None else given.hosts
    if hosts:
        for one in hosts:
            yield _Place(one, port or given.port or PORT)
        return
    from edge.bus.discovery import DiscoveryFailed, browse

    tried: set[_Place] = set()
    for look_s in LOOK_S:
        try:
            found = await browse(None, look_s, interfaces=interfaces)
        except DiscoveryFailed as error:
            raise NotEnrolled("unreachable", f"{error}; or give the gateway's address by hand") from None
        fits = [one for one in found if one.tls and (store is None or one.store == store)]
        fits = [one for one in fits if one.ca is None or given.suits(one.ca)]
        for place in (_Place(address, port or one.enrol or PORT) for one in fits for address in one.addresses):
            if place not in tried:
                tried.add(place)
                yield place


async def _ask(place: _Place, keys: Keys, given: Invitation, store: str, lane: str, csr: str) -> Enrolled:
    """What the gateway at `place` answers, proved. Raises NotEnrolled."""
    draft = EnrolRequest(
        v=1, invitation=keys.invitation, store=store, lane=lane, csr=csr, nonce=secrets.token_hex(32), proof="0" * 64
    )
    try:
        async with asking(place.host, place.port, _unchecked(), server_name=None, within_s=WITHIN_S) as there:
            proof = prove(keys.till, enrolment.till_transcript(draft, there.server))
            request = draft.model_copy(update={"proof": proof})
            told = await there.post(enrolment.ENROL, request.model_dump_json().encode(), place.host)
    except (Unreachable, NotBelieved) as error:
        raise NotEnrolled("unreachable", str(error)) from None
    if told.status != 200:
        code = told.said("code") or "faulted"
        raise NotEnrolled(code, told.refusal() or code)
    try:
        answer = Enrolled.model_validate(told.table)
    except ValidationError:
        raise NotEnrolled("not_genuine", f"{place.host} answers as no gateway does; somebody stands between") from None
    if not proves(answer.proof, keys.gateway, enrolment.gateway_transcript(request, told.server, answer)):
        raise NotEnrolled(
            "not_genuine",
            f"{place.host} cannot prove that it is the gateway of this code: somebody stands between this till and the "
            "gateway. Look for foreign devices on the network, then ask for a new code",
        )
    for what, wanted, is_ in (("store", store, answer.store), ("lane", lane, answer.lane)):
        if wanted and wanted != is_:
            raise NotEnrolled(f"other_{what}", f"the invitation is for {what} {is_}, not {wanted}")
    if not any(given.suits(fingerprint) for fingerprint in keypair.fingerprints(answer.trusted)):
        raise NotEnrolled("not_genuine", "the gateway's authority is not the one that the code names")
    if not keypair.belongs(answer.certificate, csr):
        raise NotEnrolled("not_genuine", "the certificate that came is for another key")
    return answer


def _unchecked() -> ssl.SSLContext:
    """TLS with whoever is there: who it is, the proof says."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
