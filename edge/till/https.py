"""One small question to the gateway's enrolment listener, and its answer: HTTP/1.1 over TLS.

Strategy: the TLS context is the caller's, and so is what is believed: this module only says which certificate the other
end has shown (`Answer.server`). Everything is bounded in size and time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

import orjson

from edge.bus.enrolment import MAX_ANSWER_BYTES, sha256

READ_BYTES = 16_384
SAID_LENGTH = 300
CERTIFICATE_TIMES = (9, 10)
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED (openssl/x509_vfy.h)."""


SEE = "Does the gateway run there, and is that its enrolment port (8884, or what the invitation says)?"


class Unreachable(Exception):
    """No answer that can be read; the text says why."""


class NotBelieved(Exception):
    """The other end cannot prove that it is this store's gateway. `dated`: it is, but for its certificate's dates."""

    def __init__(self, text: str, *, dated: bool = False) -> None:
        super().__init__(text)
        self.dated = dated


@dataclass(frozen=True, slots=True)
class Answer:
    """`server`: SHA-256 of the certificate that TLS has shown, hex. `table`: the JSON object, {} when it was none."""

    status: int
    table: dict[str, object]
    server: str

    def said(self, part: str) -> str:
        """A text of a refusal, fit for people: whoever answers may be a stranger. Empty where there is none."""
        text = self.table.get(part)
        return "".join(one for one in text[:SAID_LENGTH] if one.isprintable()) if isinstance(text, str) else ""

    def refusal(self) -> str:
        """What a refusal says, for a person: code, title, and what of it the gateway names."""
        code, title, detail = (self.said(part) for part in ("code", "title", "detail"))
        said = f"{title.removesuffix('.')} ({detail})" if title and detail else title or detail
        return ": ".join(part for part in (code, said) if part)


@dataclass(frozen=True, slots=True)
class Asked:
    """Connected, TLS done, nothing said yet. `server` as in `Answer`."""

    server: str
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter

    async def post(self, path: str, body: bytes, host: str) -> Answer:
        """Ask, and read the answer. Raises Unreachable."""
        import h11

        connection = h11.Connection(h11.CLIENT)
        head = [("host", host), ("content-type", "application/json"), ("content-length", str(len(body)))]
        request = h11.Request(method="POST", target=path, headers=[*head, ("connection", "close")])
        parts = (request, h11.Data(data=body), h11.EndOfMessage())
        status, got = 0, bytearray()
        try:
            self._writer.write(b"".join(connection.send(part) or b"" for part in parts))
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    connection.receive_data(await self._reader.read(READ_BYTES))
                elif isinstance(event, h11.Response):
                    status = event.status_code
                elif isinstance(event, h11.Data):
                    got += event.data
                    if len(got) > MAX_ANSWER_BYTES:
                        raise Unreachable("the answer is larger than any that a gateway gives")
                elif isinstance(event, h11.EndOfMessage):
                    break
                elif not isinstance(event, h11.InformationalResponse):
                    raise Unreachable("it hung up without an answer")
        except h11.RemoteProtocolError as error:
            raise Unreachable(f"what came is no answer of a gateway: {error}") from None
        except OSError as error:
            raise Unreachable(f"it hung up ({_why(error)}). {SEE}") from None
        return Answer(status, _table(bytes(got)), self.server)


@contextlib.asynccontextmanager
async def asking(
    host: str, port: int, context: ssl.SSLContext, *, server_name: str | None, within_s: float
) -> AsyncIterator[Asked]:
    """Connect; the whole block may take `within_s`. Raises Unreachable, NotBelieved."""
    where = f"{host}, port {port}"
    try:
        async with asyncio.timeout(within_s):
            try:
                reader, writer = await asyncio.open_connection(
                    host, port, ssl=context, server_hostname=server_name or host, limit=2 * READ_BYTES
                )
            except ssl.SSLCertVerificationError as error:
                dated = error.verify_code in CERTIFICATE_TIMES
                raise NotBelieved(f"{where}: {error.verify_message}", dated=dated) from None
            except ssl.SSLError as error:
                raise NotBelieved(f"{where}: {error.reason or error}") from None
            except OSError as error:
                raise Unreachable(f"{where}: {_why(error)}. {SEE}") from None
            try:
                shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
                yield Asked(sha256(shown), reader, writer)
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise Unreachable(f"{where}: no answer within {within_s:g} s. {SEE}") from None


def _why(error: OSError) -> str:
    """In the system's words: asyncio puts its own, with Python in them, around a connection that failed."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)


def _table(body: bytes) -> dict[str, object]:
    try:
        table = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return table if isinstance(table, dict) else {}
