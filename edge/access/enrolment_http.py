"""HTTP/1.1 as the enrolment listener speaks it: one small request per connection, one answer, then it is closed.

Strategy: h11 parses and has no I/O; this module bounds what it may hold and turns it into one `Request`, or into the
answer that says why not. No keep-alive, no pipelining, no upgrade, no continuation: what comes after the request is not
read.

Source: RFC 9110, RFC 9112.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from edge.bus.enrolment import MAX_BODY_BYTES, Refusal

if TYPE_CHECKING:
    import h11

MAX_HEAD_BYTES = 8_192

TITLES: dict[Refusal, tuple[int, str]] = {
    Refusal.BAD_REQUEST: (400, "The request cannot be read."),
    Refusal.NOT_FOUND: (404, "There is nothing here under this name and method."),
    Refusal.TOO_LARGE: (413, "The request is larger than any enrolment."),
    Refusal.TOO_FAST: (429, "Too many requests come from there; wait and try again."),
    Refusal.UNKNOWN_INVITATION: (403, "There is no such invitation: check the code, or ask for a new one."),
    Refusal.INVITATION_EXPIRED: (403, "This invitation is over: ask for a new one."),
    Refusal.INVITATION_USED: (403, "This invitation has been used: ask for a new one."),
    Refusal.INVITATION_BLOCKED: (403, "This invitation is blocked after too many failures: ask for a new one."),
    Refusal.NOT_PROVEN: (403, "The proof does not hold: something between till and gateway changes what is said."),
    Refusal.OTHER_STORE: (403, "This is the gateway of another store."),
    Refusal.OTHER_LANE: (403, "The invitation is for another lane."),
    Refusal.BAD_CSR: (400, "The certificate request cannot be used."),
    Refusal.UNKNOWN_CERTIFICATE: (403, "This certificate is not one of this store's lanes: enrol the till anew."),
    Refusal.REVOKED: (403, "This certificate has been revoked: enrol the till anew."),
    Refusal.STORAGE_FULL: (503, "The gateway cannot keep anything now; try again later, and tell a technician."),
    Refusal.FAULTED: (500, "The gateway has a fault of its own; it is logged."),
}
"""Each refusal's HTTP status, and what it says to people."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked: `method` in upper case, `path` without query, `body` at most `MAX_BODY_BYTES`."""

    method: str
    path: str
    body: bytes


class No(Exception):
    """The request is refused; becomes the answer."""

    def __init__(self, code: Refusal, detail: str = "", *, retry_after_ms: int | None = None) -> None:
        super().__init__(f"{code}: {detail or TITLES[code][1]}")
        self.code = code
        self.detail = detail
        self.retry_after_ms = retry_after_ms


class RequestReader:
    """Bytes in, at last one `Request` out. One for each connection."""

    def __init__(self) -> None:
        import h11

        self._h11 = h11
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._head: h11.Request | None = None
        self._body = bytearray()

    def feed(self, data: bytes) -> Request | None:
        """Take what came (empty: the other end sends no more); the request once it is whole. Raises No."""
        h11 = self._h11
        try:
            self._connection.receive_data(data)
            while True:
                event = self._connection.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return None
                if isinstance(event, h11.Request):
                    self._begin(event)
                elif isinstance(event, h11.Data):
                    if len(self._body) + len(event.data) > MAX_BODY_BYTES:
                        raise No(Refusal.TOO_LARGE, f"at most {MAX_BODY_BYTES} bytes")
                    self._body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    return self._whole()
                else:
                    raise No(Refusal.BAD_REQUEST, "the connection ended before the request did")
        except h11.RemoteProtocolError as error:
            code = Refusal.TOO_LARGE if error.error_status_hint == 431 else Refusal.BAD_REQUEST
            raise No(code, f"not HTTP/1.1 as it is understood here: {error}") from None

    def _begin(self, head: h11.Request) -> None:
        self._head = head
        for name, value in head.headers:
            if name == b"content-length" and int(value) > MAX_BODY_BYTES:
                raise No(Refusal.TOO_LARGE, f"at most {MAX_BODY_BYTES} bytes")

    def _whole(self) -> Request:
        assert self._head is not None
        path = self._head.target.split(b"?", 1)[0]
        return Request(self._head.method.decode("ascii"), path.decode("ascii", "replace"), bytes(self._body))


def answer(body: bytes, *, status: int = 200) -> bytes:
    """A whole answer: head and `body`, JSON."""
    import h11

    connection = h11.Connection(h11.SERVER)
    head = [
        ("content-type", "application/json"), ("content-length", str(len(body))), ("cache-control", "no-store"),
        ("connection", "close"),
    ]  # fmt: skip
    reason = _REASONS.get(status, "Refused")
    parts = (h11.Response(status_code=status, headers=head, reason=reason.encode()), h11.Data(data=body))
    return b"".join(connection.send(part) or b"" for part in (*parts, h11.EndOfMessage()))


_REASONS = {200: "OK"}


def refusal(no: No) -> bytes:
    """A whole answer that says why not."""
    status, title = TITLES[no.code]
    problem = {"code": no.code, "title": title, "detail": no.detail, "retry_after_ms": no.retry_after_ms}
    return answer(orjson.dumps(problem), status=status)
