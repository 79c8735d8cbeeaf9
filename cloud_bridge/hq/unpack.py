"""Received batches in parts: each fact's exact bytes, its hash in the chain, and what HQ keeps in columns of its own.

Strategy: this is HQ's hot path, and most of a fact is its data, which HQ stores as text and does not look into. So the
JSON is walked and checked, but only a handful of attributes are made into objects; what an event's bytes are is told
by where it begins and ends, not by writing it again. Every byte of it is covered by the chain: a difference of one
shows in `Received.sound`.

Source: `cloud_bridge/wire.py`, the format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import zstandard
from pydantic import ValidationError

from cloud_bridge.wire import MAX_BATCH_KEYS, MAX_BODY_BYTES, BadBatch, Batch, BatchHeader
from edge.bus import frame
from edge.bus.messages.facts import first_error
from edge.journal import chain
from edge.journal.personal import key_from_text, pseudonym_of, pseudonyms_in


class Own(msgspec.Struct, gc=False):
    """What HQ reads of an event; anything may be missing or of another type than it should be."""

    id: object = None
    type: object = None
    source: object = None
    time: object = None
    tgclass: object = None
    tgseq: object = None
    tgrecorded: object = None


@dataclass(frozen=True, slots=True)
class Received:
    """A batch whose bytes are exact. `sound` when the chain computed from `prev` ends in `head`.

    `owns` and `hashes` go with `batch.bodies`; a hash is empty where the one before it is not known. `omitted` says
    why one fact, `batch.first`, cannot be sent at all; there are no facts then.
    """

    batch: Batch
    owns: Sequence[Own]
    hashes: Sequence[bytes]
    sound: bool
    omitted: str | None = None
    keys: Mapping[str, bytes] = field(default_factory=dict)
    """Of the customers that the facts speak of: pseudonym to key. Others that came along are left out."""


_EVENTS = msgspec.json.Decoder(list[msgspec.Raw])
_OWN = msgspec.json.Decoder(Own)


def unpack(payload: bytes, store: str | None = None) -> Received:
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
        return Received(_batch(header, ()), (), (), sound=True, omitted=header.omitted)
    bodies = _bodies(_decompressed(body, header) if header.encoding == "zstd" else body, header)
    received = _chained(_batch(header, bodies), _owns(bodies, header))
    return replace(received, keys=_keys(header, bodies)) if header.keys else received


def _bodies(text: bytes, header: BatchHeader) -> tuple[bytes, ...]:
    """The events as they stand in the list."""
    count = header.last - header.first + 1
    try:
        text.decode()
        bodies = tuple(map(bytes, _EVENTS.decode(text)))
    except msgspec.ValidationError:
        raise BadBatch(f"body is not a list of {count} events", header) from None
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise BadBatch(f"body is not JSON: {error}", header) from None
    if len(bodies) != count:
        raise BadBatch(f"body is not a list of {count} events", header)
    if b"[" + b",".join(bodies) + b"]" != text:
        raise BadBatch("body is not in canonical form: there is more between its events than a comma", header)
    return bodies


def _owns(bodies: tuple[bytes, ...], header: BatchHeader) -> list[Own]:
    try:
        owns = [_OWN.decode(body) for body in bodies]
    except (msgspec.ValidationError, msgspec.DecodeError, RecursionError):
        raise BadBatch("an entry of the body is not an event", header) from None
    name = header.fact_class.value
    for seq, own in enumerate(owns, start=header.first):
        if own.tgseq != seq or own.tgclass != name:
            found = f"{own.tgclass} {own.tgseq}"
            raise BadBatch(f"an event says it is {found}, where {name} {seq} should stand", header)
        if type(own.id) is not str or type(own.type) is not str:
            raise BadBatch(f"event {seq} has no id or no type", header)
    return owns


def _keys(header: BatchHeader, bodies: tuple[bytes, ...]) -> dict[str, bytes]:
    """A key proves itself: the pseudonym in the fact, which the chain covers, is its digest."""
    texts = header.keys[:MAX_BATCH_KEYS] if isinstance(header.keys, list) else []
    brought = {pseudonym_of(key): key for text in texts if (key := key_from_text(text)) is not None}
    spoken_of = {pseudonym for body in bodies for pseudonym in pseudonyms_in(body)}
    return {pseudonym: key for pseudonym, key in brought.items() if pseudonym in spoken_of}


def _chained(batch: Batch, owns: list[Own]) -> Received:
    previous = batch.prev
    if previous is None:  # nothing to start from: only the last hash is known
        return Received(batch, owns, [*(b"" for _ in owns[1:]), batch.head], sound=True)
    hashes = []
    for body in batch.bodies:
        previous = chain.link(previous, body)
        hashes.append(previous)
    return Received(batch, owns, hashes, sound=previous == batch.head)


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
        if 0 <= zstandard.frame_content_size(body) <= MAX_BODY_BYTES:
            return zstandard.ZstdDecompressor().decompress(body)
        with zstandard.ZstdDecompressor().stream_reader(body) as reader:
            text = reader.read(MAX_BODY_BYTES + 1)
    except zstandard.ZstdError as error:
        raise BadBatch(f"body is not zstd: {error}", header) from None
    if len(text) > MAX_BODY_BYTES:
        raise BadBatch(f"body is larger than {MAX_BODY_BYTES} bytes", header)
    return text
