r"""The uplink batch: consecutive facts of one class in one MQTT message. Used by both ends.

    TG1 {"store":"s1","class":"transaction","epoch":"0197...","first":41,"last":80,
         "prev":"<hash of 40>","head":"<hash of 80>","encoding":"zstd"}\n
    <zstd of [{"id":...,"tgseq":41},...,{"id":...,"tgseq":80}]>

Strategy: the body is a CloudEvents JSON batch made of the journal's bodies as they lie on disk, joined and not
encoded again. The receiver gets the exact bytes back by writing each event in canonical form: the journal wrote them
so, and the joined result is compared with what came, so a difference of one byte is noticed. `prev` and `head` are
the hashes before the first and of the last fact, so a batch can be checked by itself and against its neighbours.

Source: CloudEvents 1.0.2, "JSON Batch Format"; RFC 8878 (zstd).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
import zstandard
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge.bus import frame
from edge.bus.envelope import Event, canonical
from edge.bus.messages.base import Id
from edge.bus.messages.facts import FactClass, first_error
from edge.journal import chain

ZSTD_LEVEL = 3
MAX_BODY_BYTES = 16 * 1024 * 1024
"""A batch that decompresses to more is refused: a few bytes of zstd can ask for gigabytes."""

MAX_BATCH_FACTS = 10_000
WORTH_COMPRESSING_BYTES = 200

HexHash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class BadBatch(ValueError):
    """The payload is no batch that can be believed; the text says what was found. `header` when it could be read."""

    def __init__(self, reason: str, header: BatchHeader | None = None) -> None:
        super().__init__(reason)
        self.header = header


class BatchHeader(BaseModel):
    """The header line. Keys that are not known are left to newer receivers."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    store: Id
    fact_class: FactClass = Field(alias="class")
    epoch: str = Field(pattern=r"^[A-Za-z0-9-]{1,64}$")
    first: int = Field(ge=1, le=2**53)
    last: int = Field(ge=1, le=2**53)
    prev: HexHash | None = Field(description="hash of first - 1; null when the journal no longer has it")
    head: HexHash = Field(description="hash of last")
    encoding: Literal["zstd", "none"]
    omitted: str | None = Field(default=None, max_length=64)

    @model_validator(mode="after")
    def _range(self) -> BatchHeader:
        if not 0 <= self.last - self.first < MAX_BATCH_FACTS:
            raise ValueError(f"{self.first} to {self.last} is no range of 1 to {MAX_BATCH_FACTS} facts")
        return self


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive facts of one class. `prev` and `head` are 32-byte hashes; `bodies` the journal's exact bytes."""

    store: str
    fact_class: FactClass
    epoch: str
    first: int
    prev: bytes | None
    head: bytes
    bodies: tuple[bytes, ...]

    @property
    def last(self) -> int:
        """The sequence of the last fact."""
        return self.first + len(self.bodies) - 1


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact of a received batch: its exact bytes, its hash in the chain, and the event for whoever stores it."""

    seq: int
    body: bytes
    hash: bytes
    event: Event


@dataclass(frozen=True, slots=True)
class Received:
    """A batch whose bytes are exact. `sound` when the chain computed from `prev` ends in `head`.

    `omitted` says why one fact, `batch.first`, cannot be sent at all; there are no facts then.
    """

    batch: Batch
    facts: tuple[Fact, ...]
    sound: bool
    omitted: str | None = None


class Encoder:
    """Batches to payloads; keeps one compressor."""

    def __init__(self) -> None:
        self._zstd = zstandard.ZstdCompressor(level=ZSTD_LEVEL)

    def encode(self, batch: Batch) -> bytes:
        """The payload of `batch`; small ones stay readable, because compression would not make them smaller."""
        body = b"[" + b",".join(batch.bodies) + b"]"
        encoding = "none"
        if len(body) >= WORTH_COMPRESSING_BYTES:
            packed = self._zstd.compress(body)
            if len(packed) < len(body):
                body, encoding = packed, "zstd"
        return frame.pack(_header(batch, batch.last, encoding), body)


def encode_omission(batch: Batch, why: str) -> bytes:
    """The payload that stands for the single fact of `batch`, which will never be sent because of `why`."""
    return frame.pack({**_header(batch, batch.first, "none"), "omitted": why}, b"")


def _header(batch: Batch, last: int, encoding: str) -> frame.Header:
    return {
        "store": batch.store,
        "class": batch.fact_class.value,
        "epoch": batch.epoch,
        "first": batch.first,
        "last": last,
        "prev": batch.prev.hex() if batch.prev is not None else None,
        "head": batch.head.hex(),
        "encoding": encoding,
    }


def decode(payload: bytes, store: str | None = None) -> Received:
    """The batch in `payload`; BadBatch when its bytes cannot be believed, or it does not speak for `store`."""
    try:
        raw_header, body = frame.unpack(payload)
        header = BatchHeader.model_validate(raw_header)
    except frame.BadFrame as error:
        raise BadBatch(str(error)) from None
    except ValidationError as error:
        raise BadBatch(f"header: {first_error(error)}") from None
    if store is not None and header.store != store:
        raise BadBatch(f"came on the topic of store {store!r} but speaks for {header.store!r}")
    if header.omitted is not None:
        if header.first != header.last or body:
            raise BadBatch("an omission stands for one fact and carries none", header)
        return Received(_batch(header, ()), (), sound=True, omitted=header.omitted)
    text = _decompressed(body, header) if header.encoding == "zstd" else body
    try:
        events: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadBatch(f"body is not JSON: {error}", header) from None
    count = header.last - header.first + 1
    if not isinstance(events, list) or len(events) != count:
        raise BadBatch(f"body is not a list of {count} events", header)
    if not all(isinstance(event, dict) for event in events):
        raise BadBatch("an entry of the body is not an event", header)
    bodies = tuple(canonical(event) for event in events)
    if b"[" + b",".join(bodies) + b"]" != text:
        raise BadBatch("body is not in canonical form: its hashes cannot be computed", header)
    return _chained(header, bodies, events)


def _chained(header: BatchHeader, bodies: tuple[bytes, ...], events: list[Event]) -> Received:
    batch = _batch(header, bodies)
    facts: list[Fact] = []
    previous = batch.prev
    for seq, body, event in zip(range(batch.first, batch.last + 1), bodies, events, strict=True):
        if event.get("tgseq") != seq or event.get("tgclass") != batch.fact_class.value:
            found = f"{event.get('tgclass')} {event.get('tgseq')}"
            raise BadBatch(f"an event says it is {found}, where {batch.fact_class.value} {seq} should stand", header)
        if not isinstance(event.get("id"), str) or not isinstance(event.get("type"), str):
            raise BadBatch(f"event {seq} has no id or no type", header)
        previous = chain.link(previous, body) if previous is not None else None
        facts.append(Fact(seq, body, previous or b"", event))
    if previous is None and facts:  # nothing to start from: only the last hash is known
        facts[-1] = Fact(facts[-1].seq, facts[-1].body, batch.head, facts[-1].event)
        return Received(batch, tuple(facts), sound=True)
    return Received(batch, tuple(facts), sound=previous == batch.head)


def _batch(header: BatchHeader, bodies: tuple[bytes, ...]) -> Batch:
    return Batch(
        store=header.store,
        fact_class=header.fact_class,
        epoch=header.epoch,
        first=header.first,
        prev=bytes.fromhex(header.prev) if header.prev is not None else None,
        head=bytes.fromhex(header.head),
        bodies=bodies,
    )


def _decompressed(body: bytes, header: BatchHeader) -> bytes:
    try:
        with zstandard.ZstdDecompressor().stream_reader(body) as reader:
            text = reader.read(MAX_BODY_BYTES + 1)
    except zstandard.ZstdError as error:
        raise BadBatch(f"body is not zstd: {error}", header) from None
    if len(text) > MAX_BODY_BYTES:
        raise BadBatch(f"body is larger than {MAX_BODY_BYTES} bytes", header)
    return text
