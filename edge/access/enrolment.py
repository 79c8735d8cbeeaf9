"""Who is let in: invitations answered, expired certificates renewed, everything else refused with its reason.

Strategy: `answer` takes one request of the listener and returns the whole HTTP answer. A certificate is issued, the
invitation used up and both written into the audit in one transaction, before the answer leaves. A second question with
a used invitation is refused, unless it is the very same one: then the answer had been lost, and it is given again (it
is of use only to who has the key).

What is refused is written into the audit (bounded there) and, when it looks like an attack, told to people as a
warning: a proof that does not hold for a name that is right (whoever sends that has seen a till's question), or codes
being guessed. What strangers send is never logged as it came.

Source: docs/till.md, Enrolling.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import secrets
import time
from collections import deque
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from edge.access.authority import Issued, NotProven, Revoked
from edge.access.authority_keys import AuthorityFault
from edge.access.broker_identity import server_name
from edge.access.enrolment_http import TITLES, No, Request, answer
from edge.access.invitations import MAX_FAILURES, Invitations, Invited, Kept
from edge.access.renewal_pace import RenewalPace
from edge.bus import enrolment
from edge.bus.enrolment import AuthorityShown, Enrolled, EnrolRequest, Refusal, Renewed, RenewRequest, prove, proves
from edge.bus.messages.facts import AuditAction, first_error
from edge.card_guard import guarded
from edge.journal.store import NotStored, StorageFull
from edge.seal import Unsealable

if TYPE_CHECKING:
    from edge.access.audit import Audit
    from edge.access.authority import Authority
    from edge.services.warnings import Warnings

log = guarded(__name__)

GUESSES = 10
GUESSES_WITHIN_S = 60.0
"""So many unknown codes in so long are somebody guessing: people mistype, and their typing errors never come here."""
RENEWALS = 24
"""A lane is given so many certificates a day here: more than on the bus, for a till whose answers are lost on the way
has no other door; and not any number, for each is kept for good.
"""
WARN_FOR_S = 24 * 3600
WARNING = "enrolment_attacked"

Model = TypeVar("Model", bound=BaseModel)


class Enrolment:
    """Serves the enrolment listener. `bus_port` is where tills go with what they get."""

    def __init__(
        self,
        store_id: str,
        lanes: Collection[str],
        invitations: Invitations,
        authority: Authority,
        audit: Audit,
        warnings: Warnings,
        *,
        bus_port: int,
    ) -> None:
        self._store_id = store_id
        self._lanes = frozenset(lanes)
        self._invitations = invitations
        self._authority = authority
        self._audit = audit
        self._warnings = warnings
        self._bus_port = bus_port
        self._turn = asyncio.Lock()
        self._waiting: set[asyncio.Event] = set()
        self._guesses: deque[float] = deque(maxlen=GUESSES)
        self._calm: asyncio.TimerHandle | None = None
        self._pace = RenewalPace(RENEWALS)
        self.on_enrolled: list[Callable[[str], None]] = []
        """Called with the lane after a till has enrolled or renewed here."""

    # -- the technician ------------------------------------------------------------------------------------------------

    async def invite(self, lane: str, *, person: str | None = None) -> Invited:
        """A new invitation for `lane`; its former ones are over. Raises NotStored, AuthorityFault."""
        async with self._turn:
            made = await self._invitations.invite(lane, self._authority.advertised)
        self._look_again()
        await self._audit.record(AuditAction.LANE_INVITED, lane=lane, person=person)
        return made

    async def withdraw(self, lane: str, *, person: str | None = None) -> None:
        """End what is open for a lane."""
        async with self._turn:
            await self._invitations.withdraw(lane)
        self._look_again()
        await self._audit.record(AuditAction.LANE_INVITATION_WITHDRAWN, lane=lane, person=person)

    async def outcome(self, name: str, until_s: float) -> Kept | None:
        """The invitation as soon as it is over, or as it is at `until_s` of the loop's clock; None: withdrawn."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            while True:
                event.clear()
                kept = await self._invitations.find(name)
                left_s = until_s - asyncio.get_running_loop().time()
                if kept is None or kept.over is not None or left_s <= 0:
                    return kept
                try:
                    async with asyncio.timeout(min(left_s, kept.left_s + 1.0)):
                        await event.wait()
                except TimeoutError:
                    continue
        finally:
            self._waiting.discard(event)

    # -- the listener --------------------------------------------------------------------------------------------------

    async def answer(self, request: Request, server: str, address: str) -> bytes:
        """The HTTP answer to one request over TLS that showed the certificate `server`. Raises No."""
        try:
            match request.method, request.path:
                case "POST", enrolment.ENROL:
                    return await self._enrol(_read(EnrolRequest, request.body), server, address)
                case "POST", enrolment.RENEW:
                    return await self._renew(_read(RenewRequest, request.body), server, address)
                case "GET", enrolment.AUTHORITY:
                    return answer(self._shown())
        except StorageFull:
            raise No(Refusal.STORAGE_FULL) from None
        except (NotStored, AuthorityFault, Unsealable, OSError) as error:
            log.error("nobody can enrol now: %s", error)
            raise No(Refusal.FAULTED) from None
        raise No(Refusal.NOT_FOUND)

    def _shown(self) -> bytes:
        shown = AuthorityShown(
            store=self._store_id, fingerprint=self._authority.fingerprint, trusted=self._authority.trusted()
        )
        return shown.model_dump_json().encode()

    async def _enrol(self, request: EnrolRequest, server: str, address: str) -> bytes:
        async with self._turn:
            lane: str | None = None
            try:
                if request.store not in ("", self._store_id):
                    raise No(Refusal.OTHER_STORE, f"this is store {self._store_id}")
                kept = await self._invitations.find(request.invitation)
                if kept is None:
                    self._guessed(address)
                    raise No(Refusal.UNKNOWN_INVITATION)
                lane = kept.lane
                return await self._let_in(request, kept, server, address)
            except No as no:
                self._refused(AuditAction.LANE_ENROLLED, no, lane, address)
                raise

    async def _let_in(self, request: EnrolRequest, kept: Kept, server: str, address: str) -> bytes:
        transcript = enrolment.till_transcript(request, server)
        proven = proves(request.proof, kept.keys.till, transcript)
        digest = hashlib.sha256(transcript + request.proof.encode()).digest()
        if kept.answer is not None and kept.used == digest and proven and kept.over is Refusal.INVITATION_USED:
            return answer(kept.answer)
        if kept.over is not None:
            raise No(kept.over)
        if not proven:
            await self._tampered(kept, address)
            raise No(Refusal.NOT_PROVEN)
        if request.lane not in ("", kept.lane):
            raise No(Refusal.OTHER_LANE, f"it is for lane {kept.lane}")
        issued = await self._certify(kept.lane, request.csr)
        told = Enrolled(
            store=self._store_id,
            lane=kept.lane,
            certificate=issued.pem,
            trusted=self._authority.trusted(),
            not_after=utc(issued.not_after),
            server_name=server_name(self._store_id),
            bus_port=self._bus_port,
            nonce=secrets.token_hex(enrolment.NONCE_BYTES),
            proof="0" * 64,
        )
        proof = prove(kept.keys.gateway, enrolment.gateway_transcript(request, server, told))
        body = told.model_copy(update={"proof": proof}).model_dump_json().encode()
        detail = f"from {address}; certificate {issued.serial} until {utc(issued.not_after)}"
        await self._audit.record(
            AuditAction.LANE_ENROLLED,
            lane=kept.lane,
            detail=detail,
            also=[self._invitations.use(kept.name, digest, body)],
        )
        log.info("lane %s has enrolled, from %s", kept.lane, address)
        self._look_again()
        self._told(kept.lane)
        return answer(body)

    async def _renew(self, request: RenewRequest, server: str, address: str) -> bytes:
        from edge.access.certificates import BadCertificate, BadRequest, lane_certificate

        certificate, csr = request.certificate.encode(), request.csr.encode()
        message, signature = enrolment.renewal_transcript(request, server), _bytes_of(request.signature)
        renew = partial(self._authority.renew_expired, message=message, signature=signature, lanes=self._lanes)
        try:
            try:
                async with self._turn:
                    claimed = lane_certificate(certificate, self._authority.trusted()).lane
                    if wait_ms := self._pace.wait_ms(claimed):
                        raise No(Refusal.TOO_FAST, f"{RENEWALS} certificates a day are enough", retry_after_ms=wait_ms)
                    issued = await asyncio.to_thread(renew, certificate, csr)
                    self._pace.gave(issued.lane)
            except BadCertificate as error:
                raise No(Refusal.UNKNOWN_CERTIFICATE, str(error)) from None
            except NotProven as error:
                raise No(Refusal.NOT_PROVEN, str(error)) from None
            except Revoked as error:
                raise No(Refusal.REVOKED, str(error)) from None
            except BadRequest as error:
                raise No(Refusal.BAD_CSR, str(error)) from None
        except No as no:
            self._refused(AuditAction.LANE_RENEWED, no, None, address)
            raise
        detail = f"from {address}; certificate {issued.serial} until {utc(issued.not_after)}"
        await self._audit.record(AuditAction.LANE_RENEWED, lane=issued.lane, detail=detail)
        log.info("lane %s has renewed its certificate here, from %s", issued.lane, address)
        told = Renewed(
            store=self._store_id,
            lane=issued.lane,
            certificate=issued.pem,
            trusted=self._authority.trusted(),
            not_after=utc(issued.not_after),
            server_name=server_name(self._store_id),
            bus_port=self._bus_port,
        )
        self._told(issued.lane)
        return answer(told.model_dump_json().encode())

    async def _certify(self, lane: str, csr: str) -> Issued:
        from edge.access.certificates import BadRequest

        if lane not in self._lanes:
            raise No(Refusal.OTHER_LANE, f"there is no lane {lane!r} in this store any more")
        try:
            return await asyncio.to_thread(self._authority.issue_lane, lane, csr.encode())
        except (BadRequest, Revoked) as error:
            raise No(Refusal.BAD_CSR, str(error)) from None

    # -- what looks like an attack -------------------------------------------------------------------------------------

    async def _tampered(self, kept: Kept, address: str) -> None:
        """Somebody names an invitation and cannot prove that he knows its code."""
        await self._invitations.failed(kept.name)
        over = kept.failures + 1 >= MAX_FAILURES
        ended = "; after so many failures that code is dead, make a new one" if over else ""
        self._warn(
            f"somebody stands between the till of lane {kept.lane} and this gateway: what it said to enrol was changed "
            f"on its way, from {address}. Look for foreign devices on the network{ended}"
        )
        if over:
            self._audit.record(
                AuditAction.LANE_INVITATION_WITHDRAWN, "failed", lane=kept.lane, detail="too many failures"
            )
            self._look_again()

    def _guessed(self, address: str) -> None:
        now = time.monotonic()
        self._guesses.append(now)
        if len(self._guesses) == GUESSES and now - self._guesses[0] < GUESSES_WITHIN_S:
            self._guesses.clear()
            self._warn(
                f"codes to enrol a till are being guessed, last from {address}: nobody gets in that way, but find the "
                "device that tries"
            )

    def _warn(self, text: str) -> None:
        self._warnings.set(WARNING, text)
        if self._calm is not None:
            self._calm.cancel()
        self._calm = asyncio.get_running_loop().call_later(WARN_FOR_S, self._warnings.clear, WARNING)

    def _refused(self, action: AuditAction, no: No, lane: str | None, address: str) -> None:
        detail = f"{no.code} from {address}: {no.detail or TITLES[no.code][1]}"
        self._audit.record(action, "refused", lane=lane, detail=detail)

    # -- who waits -----------------------------------------------------------------------------------------------------

    def _look_again(self) -> None:
        """Some invitation has changed: whoever waits for one looks whether it is his."""
        for event in self._waiting:
            event.set()

    def _told(self, lane: str) -> None:
        for callback in self.on_enrolled:
            callback(lane)


def _read(model: type[Model], body: bytes) -> Model:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise No(Refusal.BAD_REQUEST, first_error(error)) from None


def utc(moment: datetime) -> str:
    """RFC 3339, to the second."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _bytes_of(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
