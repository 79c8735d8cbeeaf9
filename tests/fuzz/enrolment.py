"""What strangers can say to the enrolment listener, and what a till is given to read: readers for the fuzzer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge.access.certificates import BadCertificate, BadRequest, csr_key, lane_certificate
from edge.access.enrolment_http import No, Request, RequestReader
from edge.bus import enrolment, invitation
from edge.bus.enrolment import EnrolRequest, RenewRequest, keys_of
from tests.fuzz.readers import Contradiction, Reader, Refused


def request(data: bytes) -> str:
    """A whole connection's bytes, read at once and in two pieces; what was asked, by its model."""
    whole, pieces = _asked(data), _asked(data[: len(data) // 2], data[len(data) // 2 :])
    if whole != pieces:
        raise Contradiction(f"{whole!r} at once, {pieces!r} in pieces")
    if isinstance(whole, str):
        raise Refused(whole)
    model = {enrolment.ENROL: EnrolRequest, enrolment.RENEW: RenewRequest}.get(whole.path)
    if model is None:
        return whole.path
    try:
        read = model.model_validate_json(whole.body)
    except ValidationError as error:
        raise Refused(str(error.error_count())) from None
    transcript = (
        enrolment.till_transcript(read, "00" * 32)
        if isinstance(read, EnrolRequest)
        else enrolment.renewal_transcript(read, "00" * 32)
    )
    if transcript.count(b"\n") != (7 if isinstance(read, EnrolRequest) else 5):
        raise Contradiction(f"a transcript that can be read two ways: {transcript!r}")
    return whole.path


def _asked(*pieces: bytes) -> Request | str:
    """The request, or the code of the refusal."""
    reader = RequestReader()
    try:
        for piece in pieces:
            if piece and (found := reader.feed(piece)) is not None:
                return found
        found = reader.feed(b"")
    except No as no:
        return str(no.code)
    return found if found is not None else "unfinished"


def code(data: bytes) -> str:
    """A typed code or a QR code's text; read again from its own form it is the same."""
    try:
        found = invitation.read(data.decode("utf-8", errors="replace"))
    except invitation.BadCode as bad:
        raise Refused(str(bad)) from None
    if invitation.read(found.text()) != found or invitation.read(invitation.grouped(found.code)).code != found.code:
        raise Contradiction(f"another invitation after a way through its own text: {found}")
    if found.port is not None and not 1 <= found.port <= 65_535:
        raise Contradiction(f"port {found.port}")
    return keys_of(found.code).invitation


def pem(data: bytes) -> str:
    """A certificate request, and the same bytes as a certificate that is to be renewed."""
    try:
        csr_key(data)
        return "request"
    except BadRequest as bad:
        why = str(bad)
    try:
        lane_certificate(data, _AUTHORITY)
        return "certificate"
    except BadCertificate as bad:
        raise Refused(f"{why}; {bad}") from None


_BLOCKS = [
    f"-----BEGIN {block}".encode()
    for block in Path(__file__).with_name("enrolment.pem").read_text(encoding="ascii").split("-----BEGIN ")[1:]
]
_AUTHORITY = _BLOCKS[0].decode()
PEMS = [*_BLOCKS[1:], _BLOCKS[1][:120] + _BLOCKS[1][-60:]]
"""A request, and a certificate of a lane by that authority; what is left of a request."""


def _http(path: str, table: dict[str, object]) -> bytes:
    body = json.dumps(table).encode()
    return f"POST {path} HTTP/1.1\r\nHost: g\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


_ENROL = {
    "v": 1, "invitation": "10" * 16, "store": "S1", "lane": "3", "csr": "x", "nonce": "22" * 32, "proof": "00" * 32,
}  # fmt: skip
REQUESTS = [
    _http(enrolment.ENROL, _ENROL),
    _http(enrolment.ENROL, {**_ENROL, "store": "", "lane": ""}),
    _http(enrolment.RENEW, {"v": 1, "certificate": "c", "csr": "x", "nonce": "22" * 32, "signature": "MEUCIQ=="}),
    b"GET /v1/authority HTTP/1.1\r\nHost: g\r\n\r\n",
    b"POST /v1/enrol HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"POST /v1/enrol HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
]
CODES = [
    b"K7QF-2M9D-3XHT-8BWN-BSPB",
    b"k7qf2m9d3xht8bwnbspb\n",
    f"tillgate:enrol?v=1&port=0065535&ca={'5e' * 32}&code=K7QF2M9D3XHT8BWNBSPB".encode(),
    f"tillgate:enrol?v=1&store=S1&lane=3&host=192.0.2.10&port=8884&ca={'5e' * 32}&code=K7QF2M9D3XHT8BWNBSPB".encode(),
]

ENROLMENT: Mapping[str, tuple[Callable[[], Any], Sequence[bytes]]] = {
    "enrolment-request": (lambda: Reader(request), REQUESTS),
    "invitation": (lambda: Reader(code), CODES),
    "certificate-request": (lambda: Reader(pem), PEMS),
}
"""By name: how one is made, and what it is fed with at first."""
