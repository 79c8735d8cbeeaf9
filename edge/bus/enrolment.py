"""How a till that knows an invitation's code, and a gateway that knows it too, become sure of each other.

Strategy: pure code, shared by gateway and till; no I/O. Both ends derive the same keys from the code. Each proves that
it has them, over a transcript of everything that was said, in which stands the certificate of the TLS server as that
end knows it: the gateway its own, the till the one it was shown. So somebody in between, who must show a certificate of
his own to read along, breaks the till's proof; and as he has no keys, he cannot give the gateway's. The till believes
nothing (no authority, no certificate) before it has checked the gateway's proof.

Transcripts are lines of ASCII, each ended by one LF, of fields that cannot hold an LF: they cannot be read two ways.
What is long stands in them as the SHA-256 of its UTF-8 bytes, in lower-case hex. docs/till.md has it with a vector.

An invitation's name (`Keys.invitation`) is derived from the code as well: whoever does not know the code can neither
name an invitation nor learn of one.

Source: HKDF RFC 5869; HMAC RFC 2104; the hash of the server's certificate as in tls-server-end-point, RFC 5929 section
4.1 (always SHA-256 here: our authority signs with nothing else); ECDSA with SHA-256 on P-256, FIPS 186-5, for renewal.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from edge.bus.messages.base import Id, Message

PORT = 8884
ENROL, RENEW, AUTHORITY = "/v1/enrol", "/v1/renew", "/v1/authority"

HKDF_INFO = b"tillgate enrolment v1"
MAX_BODY_BYTES = 16_384
"""Of a request; an answer holds at most `MAX_ANSWER_BYTES`."""
MAX_ANSWER_BYTES = 65_536
NONCE_BYTES = 32

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Pem = Annotated[str, StringConstraints(min_length=1, max_length=4_096)]


class Refusal(StrEnum):
    """Why the enrolment listener says no: stable, documented in docs/till.md, never renamed."""

    BAD_REQUEST = "bad_request"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    TOO_FAST = "too_fast"
    UNKNOWN_INVITATION = "unknown_invitation"
    INVITATION_EXPIRED = "invitation_expired"
    INVITATION_USED = "invitation_used"
    INVITATION_BLOCKED = "invitation_blocked"
    NOT_PROVEN = "not_proven"
    OTHER_STORE = "other_store"
    OTHER_LANE = "other_lane"
    BAD_CSR = "bad_csr"
    UNKNOWN_CERTIFICATE = "unknown_certificate"
    REVOKED = "revoked"
    STORAGE_FULL = "storage_full"
    FAULTED = "faulted"


class EnrolRequest(Message):
    """POST /v1/enrol."""

    v: Literal[1]
    invitation: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    store: Id | Literal[""] = Field(default="", description="empty: whichever store the code is of")
    lane: Id | Literal[""] = Field(default="", description="empty: whichever lane the code is of")
    csr: Pem = Field(description="PKCS#10, PEM, EC P-256")
    nonce: Sha256 = Field(description="32 random bytes, hex")
    proof: Sha256


class Enrolled(Message):
    """The answer to /v1/enrol. Nothing of it is to be believed before `proof` has been checked."""

    store: Id
    lane: Id
    certificate: str = Field(description="PEM, the lane's")
    trusted: str = Field(description="PEM, one or more: the authorities that this till believes from now on")
    not_after: str = Field(description="UTC, RFC 3339: the certificate's end by the gateway's clock")
    server_name: str = Field(description="the name that certificates of the bus and of this listener carry")
    bus_port: int = Field(description="where the bus is, on this same host")
    nonce: Sha256
    proof: Sha256


class RenewRequest(Message):
    """POST /v1/renew: a certificate for a new key, asked for with the old one, which may have expired."""

    v: Literal[1]
    certificate: Pem = Field(description="the old one")
    csr: Pem
    nonce: Sha256
    signature: Annotated[str, StringConstraints(min_length=8, max_length=200)] = Field(
        description="ECDSA-SHA256 by the old key over the transcript: DER, base64"
    )


class Renewed(Message):
    """The answer to /v1/renew. TLS has proved who gives it: this is for tills that trust the store's authority."""

    store: Id
    lane: Id
    certificate: str
    trusted: str
    not_after: str
    server_name: str
    bus_port: int


class AuthorityShown(Message):
    """The answer to GET /v1/authority: for diagnosis; it proves nothing by itself."""

    store: Id
    fingerprint: Sha256
    trusted: str


class Refused(Message):
    """Any answer that is not 200."""

    code: Refusal
    title: str
    detail: str = ""
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Keys:
    """What both ends derive from a code. `invitation` names it in public; `till` and `gateway` key their proofs."""

    invitation: str
    till: bytes = field(repr=False)
    gateway: bytes = field(repr=False)


def keys_of(code: str) -> Keys:
    """The keys of a code of 20 characters (`invitation.read(...).code`): HKDF-SHA256 without salt, 80 bytes."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    made = HKDF(hashes.SHA256(), length=80, salt=None, info=HKDF_INFO).derive(code.encode("ascii"))
    return Keys(made[:16].hex(), made[16:48], made[48:])


def sha256(of: str | bytes) -> str:
    """SHA-256 in lower-case hex; of a text, its UTF-8 bytes exactly as they were sent."""
    return hashlib.sha256(of.encode() if isinstance(of, str) else of).hexdigest()


def till_transcript(request: EnrolRequest, server: str) -> bytes:
    """What the till proves. `server`: SHA-256 of the DER certificate that the TLS server has shown."""
    return _lines(
        "tillgate enrolment v1 till", request.invitation, request.store, request.lane, server, sha256(request.csr),
        request.nonce,
    )  # fmt: skip


def gateway_transcript(request: EnrolRequest, server: str, answer: Enrolled) -> bytes:
    """What the gateway proves: all that the till said, and all that matters of the answer."""
    return _lines(
        "tillgate enrolment v1 gateway", request.invitation, answer.store, answer.lane, server, sha256(request.csr),
        request.nonce, sha256(answer.certificate), sha256(answer.trusted), answer.nonce,
    )  # fmt: skip


def renewal_transcript(request: RenewRequest, server: str) -> bytes:
    """What a till that renews signs with its old key."""
    return _lines(
        "tillgate renewal v1 till", sha256(request.certificate), server, sha256(request.csr), request.nonce
    )  # fmt: skip


def prove(key: bytes, transcript: bytes) -> str:
    """HMAC-SHA256 in lower-case hex."""
    return hmac.new(key, transcript, hashlib.sha256).hexdigest()


def proves(proof: str, key: bytes, transcript: bytes) -> bool:
    """Whether `proof` is that of `key`; takes as long whatever is wrong with it."""
    return hmac.compare_digest(proof.encode("utf-8", "replace"), prove(key, transcript).encode("ascii"))


def _lines(*fields: str) -> bytes:
    return "".join(f"{field}\n" for field in fields).encode("ascii")
