"""A price list from a file, checked line by line, cut into chunks and signed: what `tillgate hq prices publish` sends.

    code,text,price_minor,per,tax          or JSON lines with the same keys
    4006381333931,Pencil HB,129,each,A

Strategy: every problem of the file is told, not only the first, and a file with problems is not published at all. Items
are sorted by code, so a chunk compresses well; each chunk's hash stands in the manifest, and the manifest is signed.

Source: RFC 4180 (CSV), RFC 8878 (zstd), RFC 8032 (Ed25519).
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import zstandard
from pydantic import ValidationError
from sqlalchemy import Connection, insert

from cloud_bridge.hq.downlog import Also, Make
from cloud_bridge.hq.recipients import Recipient
from cloud_bridge.hq.schema import prices_sent
from edge.bus import frame
from edge.bus.envelope import now_utc
from edge.bus.messages.facts import first_error
from edge.bus.messages.prices import PRICES_STREAM, PriceChunkRef, PriceItem, PriceManifest, SignedManifest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PACKET_BYTES = 60 * 1024
HEADER_ROOM_BYTES = 1024
MAX_CHUNK_BYTES = PACKET_BYTES - HEADER_ROOM_BYTES
MAX_CHUNK_RAW_BYTES = 1024 * 1024
"""Before compression: what a store unpacks at once."""

SHOWN_PROBLEMS = 50
KEYS = ("code", "text", "price_minor", "per", "tax")
ZSTD_LEVEL = 9


class BadPriceList(ValueError):
    """The list cannot be published; `problems` says what is wrong, each with its line."""

    def __init__(self, problems: Sequence[str]) -> None:
        more = f"\n... and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
        super().__init__("\n".join(problems[:SHOWN_PROBLEMS]) + more)
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Compressed JSON lines of `items` items."""

    body: bytes
    items: int


def read(file: Path) -> list[PriceItem]:
    """The items of a CSV or JSON-lines file, sorted by code; BadPriceList with every problem."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadPriceList([f"{file}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise BadPriceList([f"{file}: is not UTF-8: {error.reason} at byte {error.start}"]) from None
    items: dict[str, PriceItem] = {}
    lines: dict[str, int] = {}
    problems: list[str] = []
    rows = _json_rows(text) if text.lstrip().startswith("{") else _csv_rows(text)
    for number, row in rows:
        if isinstance(row, str):
            problems.append(f"{file}:{number}: {row}")
            continue
        try:
            item = PriceItem.model_validate(row)
        except ValidationError as error:
            problems.append(f"{file}:{number}: {first_error(error)}")
            continue
        if item.code in items:
            problems.append(f"{file}:{number}: code {item.code!r} stands on line {lines[item.code]} already")
            continue
        items[item.code], lines[item.code] = item, number
    if not items and not problems:
        problems.append(f"{file}: holds no items; the first line is {','.join(KEYS)}")
    if problems:
        raise BadPriceList(problems)
    return [items[code] for code in sorted(items)]


def _json_rows(text: str) -> Iterator[tuple[int, dict[str, object] | str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield number, f"is not JSON: {error}"
            continue
        yield number, row if isinstance(row, dict) else "is not a JSON object"


def _csv_rows(text: str) -> Iterator[tuple[int, dict[str, object] | str]]:
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    missing = [key for key in KEYS[:3] if key not in (reader.fieldnames or ())]
    if missing:
        yield 1, f"the header line lacks {', '.join(missing)}; it is {','.join(KEYS)}"
        return
    for fields in reader:
        number = reader.line_num
        if None in fields or None in fields.values():
            yield number, f"has not {len(reader.fieldnames or ())} fields; put texts with commas in double quotes"
            continue
        row: dict[str, object] = {key: value.strip() for key, value in fields.items() if value.strip()}
        price = str(row.get("price_minor", ""))
        if not price.isascii() or not price.removeprefix("-").isdigit():
            yield number, f"price_minor: must be whole minor units (129 for 1.29), found {price!r}"
            continue
        yield number, {**row, "price_minor": int(price)}


def chunks(items: Sequence[PriceItem]) -> list[Chunk]:
    """The items in compressed chunks, each small enough for one packet of the smallest broker."""
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    lines = [orjson.dumps(item.model_dump()) for item in items]
    out: list[Chunk] = []
    waiting = [(0, len(lines))]
    while waiting:
        first, last = waiting.pop()
        raw = b"\n".join(lines[first:last])
        body = compressor.compress(raw) if len(raw) <= MAX_CHUNK_RAW_BYTES else b""
        if len(raw) > MAX_CHUNK_RAW_BYTES or len(body) > MAX_CHUNK_BYTES:
            middle = (first + last) // 2
            waiting += [(middle, last), (first, middle)]
        else:
            out.append(Chunk(body, last - first))
    return out


def manifest(to: Recipient, version: str, effective_at: str, currency: str, parts: Sequence[Chunk]) -> PriceManifest:
    """The manifest of a version, published now; BadPriceList when recipient, version, time or currency cannot be."""
    try:
        if datetime.fromisoformat(effective_at).tzinfo is not None:
            raise BadPriceList([f"effective at {effective_at!r}: give the store's local time, without a zone"])
    except ValueError as error:
        if isinstance(error, BadPriceList):
            raise
        raise BadPriceList([f"effective at {effective_at!r}: write a local time such as 2026-05-04T06:00:00"]) from None
    try:
        return PriceManifest(
            version=version,
            store=to.store,
            group=to.group,
            effective_at=effective_at,
            published_at=now_utc(),
            currency=currency,
            items=sum(part.items for part in parts),
            chunks=tuple(
                PriceChunkRef(sha256=hashlib.sha256(part.body).hexdigest(), items=part.items) for part in parts
            ),
        )
    except ValidationError as error:
        raise BadPriceList([first_error(error)]) from None


def messages(version: PriceManifest, parts: Sequence[Chunk], key: Ed25519PrivateKey) -> list[Make]:
    """The messages of a version, manifest first; each still wants its epoch and number."""
    text = version.model_dump_json(exclude_none=True)
    signature = base64.b64encode(key.sign(text.encode())).decode()
    head = SignedManifest(manifest=text, signature=signature).model_dump_json().encode()
    to = Recipient(version.store, version.group).header
    made: list[Make] = [partial(_framed, {**to, "kind": "manifest"}, head)]
    for index, part in enumerate(parts):
        made.append(partial(_framed, {**to, "kind": "chunk", "version": version.version, "index": index}, part.body))
    return made


def noted(version: PriceManifest, count: int) -> Also:
    """Writes beside the `count` messages of a version what tells later whether any store still needs it."""
    scope = Recipient(version.store, version.group).scope

    def write(db: Connection, _: str, first: int) -> None:
        db.execute(
            insert(prices_sent).values(
                scope=scope,
                first=first,
                last=first + count - 1,
                version=version.version,
                effective_at=version.effective_at,
                published_at=version.published_at,
            )
        )

    return write


def _framed(more: dict[str, object], body: bytes, epoch: str, seq: int) -> bytes:
    return frame.pack({"stream": PRICES_STREAM, "epoch": epoch, "seq": seq, **more}, body)
