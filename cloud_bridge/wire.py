r"""The uplink batch: consecutive facts of one class in one MQTT message. HQ's end reads it in `hq/unpack.py`.

    TG1 {"store":"s1","class":"transaction","epoch":"0197...","first":41,"last":80,
         "prev":"<hash of 40>","head":"<hash of 80>","encoding":"zstd","keys":["<base64url of 32 bytes>"]}\n
    <zstd of [{"id":...,"tgseq":41},...,{"id":...,"tgseq":80}]>

Strategy: the body is a CloudEvents JSON batch made of the journal's bodies as they lie on disk, joined and not
encoded again. `prev` and `head` are the hashes before the first and of the last fact, so a batch can be checked by
itself and against its neighbours. `keys` are those of the customers that its facts speak of (`journal/personal.py`); a
batch that speaks of none has no such attribute, and a receiver that does not know it records the facts all the same.

Source: CloudEvents 1.0.2, "JSON Batch Format"; RFC 8878 (zstd).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import zstandard
from pydantic import BaseModel, ConfigDict, Field, model_validator

from edge.bus import frame
from edge.bus.messages.base import Id
from edge.bus.messages.facts import FactClass
from edge.journal.personal import key_as_text

ZSTD_LEVEL = 1
"""At least as small as level 3 on a store's facts, and faster."""

ZSTD_THIN_LEVEL = 12
"""A tenth smaller, for some ten times the processor's time: for a line that everything waits for."""

MAX_BODY_BYTES = 16 * 1024 * 1024
"""A batch that decompresses to more is refused: a few bytes of zstd can ask for gigabytes."""

MAX_BATCH_FACTS = 10_000
MAX_BATCH_KEYS = 64
"""A batch speaks of so many customers: with their keys the header stays below the 4096 bytes of `frame`."""

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
    keys: Any = Field(default=None, description="a list; what of it is no key is left out: the facts come first")

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
    keys: tuple[bytes, ...] = ()
    """Of the customers that the bodies speak of."""

    @property
    def last(self) -> int:
        """The sequence of the last fact."""
        return self.first + len(self.bodies) - 1


class Encoder:
    """Batches to payloads; keeps its compressors. One batch at a time."""

    def __init__(self) -> None:
        self._zstd = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
        self._zstd_thin = zstandard.ZstdCompressor(level=ZSTD_THIN_LEVEL)

    def encode(self, batch: Batch, *, thin: bool = False) -> bytes:
        """The payload of `batch`, smaller for a `thin` line; what would not become smaller is left as it is."""
        body = b"[" + b",".join(batch.bodies) + b"]"
        encoding = "none"
        if len(body) >= WORTH_COMPRESSING_BYTES:
            packed = (self._zstd_thin if thin else self._zstd).compress(body)
            if len(packed) < len(body):
                body, encoding = packed, "zstd"
        return frame.pack(_header(batch, batch.last, encoding), body)


def encode_omission(batch: Batch, why: str) -> bytes:
    """The payload that stands for the single fact of `batch`, which will never be sent because of `why`."""
    return frame.pack({**_header(batch, batch.first, "none"), "omitted": why}, b"")


def _header(batch: Batch, last: int, encoding: str) -> frame.Header:
    header: frame.Header = {
        "store": batch.store,
        "class": batch.fact_class.value,
        "epoch": batch.epoch,
        "first": batch.first,
        "last": last,
        "prev": batch.prev.hex() if batch.prev is not None else None,
        "head": batch.head.hex(),
        "encoding": encoding,
    }
    if batch.keys:
        header["keys"] = [key_as_text(key) for key in batch.keys]
    return header
