"""Documents of the bus to bytes for one printer.

Strategy: the bus's elements have the names and fields of the encoder's, so they are handed over as they are. Encoding
imports a large library at its first use and takes milliseconds for a long receipt, so both happen on a thread, one
receipt at a time.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

import orjson

from drivers.errors import BadDocument
from drivers.printers import document as doc
from drivers.printers import escpos
from drivers.printers.escpos import Encoded
from drivers.printers.profiles import PrinterProfile
from edge.bus.messages.replies import Code, ProblemError
from edge.bus.messages.requests import Print


class Encoder:
    """Encodes receipts on a thread, one at a time (the library's first import is not safe from two threads)."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def preload(self) -> None:
        """Import the library now, so that the first receipt does not wait for it."""
        async with self._turn:
            await asyncio.to_thread(escpos.preload)

    async def encode(self, parameters: Print, profile: PrinterProfile) -> Encoded:
        """What the till asked for as bytes; ProblemError(bad_message) names the element that cannot be printed."""
        if (parameters.document is None) == (parameters.raw is None):
            raise ProblemError(Code.BAD_MESSAGE, "parameters: give either 'document' or 'raw'")
        if parameters.raw is not None:
            if not parameters.raw:
                raise ProblemError(Code.BAD_MESSAGE, "parameters.raw: is empty; give the printer's commands in base64")
            return Encoded(parameters.raw, "")
        if profile.language != "escpos":
            message = f"parameters.document: this printer takes {profile.language.upper()} only; give it as 'raw'"
            raise ProblemError(Code.BAD_MESSAGE, message)
        elements = parameters.document or []
        if not elements:
            raise ProblemError(Code.BAD_MESSAGE, "parameters.document: is empty; give at least one element")
        try:
            document = doc.from_json([element.model_dump(mode="json") for element in elements])
        except BadDocument as error:
            raise _bad(error) from error
        return await self._encoded(document, profile)

    async def duplicate(self, original: str, content: bytes, profile: PrinterProfile) -> bytes:
        """The bytes of a job once more, below a line that says so."""
        if profile.language != "escpos":
            raise ProblemError(Code.BAD_MESSAGE, "a label cannot be marked DUPLICATE; print it again as a new job")
        head: list[doc.Element] = [
            doc.Text("DUPLICATE", align="center", bold=True, width=2, height=2),
            doc.Text(original, align="center"),
            doc.Rule(),
        ]
        return (await self._encoded(head, profile)).data + content

    async def _encoded(self, document: Sequence[doc.Element], profile: PrinterProfile) -> Encoded:
        async with self._turn:
            try:
                return await asyncio.to_thread(escpos.encode, document, profile)
            except BadDocument as error:
                raise _bad(error) from error


def digest_of(parameters: Print) -> bytes:
    """The SHA-256 of what is to be on the paper, wherever it is printed and however long it may wait."""
    content = parameters.model_dump(mode="json", include={"document", "raw"})
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).digest()


def _bad(error: BadDocument) -> ProblemError:
    return ProblemError(Code.BAD_MESSAGE, f"parameters.document: {error}")
