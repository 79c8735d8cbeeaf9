"""HQ's price messages, checked and put on disk until their version is whole.

Strategy: the manifest's signature is checked before anything of it is believed; a chunk is taken only when the manifest
names its hash. When the last chunk is there and the whole fits the manifest, the version is staged. A version that
fails any check is refused whole.

Source: design pages "Journal, bridge, HQ" (downlink) and "Store services" (prices).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import orjson
import zstandard
from pydantic import ValidationError

from edge.bus import frame
from edge.bus.envelope import now_utc
from edge.bus.messages.facts import first_error
from edge.bus.messages.prices import PRICES_STREAM, PriceItem, PriceManifest, SignedManifest
from edge.journal.store import Statement, Store

MAX_CHUNK_BYTES = 8 * 1024 * 1024
"""A decompressed chunk larger than this is refused: a few bytes of zstd can ask for gigabytes."""

PRICES_SCHEMA = """
CREATE TABLE IF NOT EXISTS price_versions (
    number INTEGER PRIMARY KEY,
    version TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN ('receiving', 'staged', 'active', 'retired', 'refused')),
    manifest TEXT NOT NULL,
    effective_utc TEXT NOT NULL,
    received_at TEXT NOT NULL,
    activated_at TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS price_chunks (
    number INTEGER NOT NULL,
    chunk INTEGER NOT NULL,
    PRIMARY KEY (number, chunk)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS prices (
    number INTEGER NOT NULL,
    code TEXT NOT NULL,
    text TEXT NOT NULL,
    price_minor INTEGER NOT NULL,
    per TEXT NOT NULL,
    tax TEXT NOT NULL,
    PRIMARY KEY (number, code)
) STRICT, WITHOUT ROWID;
"""


class Refused(Exception):
    """A price message that will never be taken; `version` as far as it is known."""

    def __init__(self, version: str, code: str, detail: str) -> None:
        super().__init__(detail)
        self.version = version
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Version:
    """A price version on this gateway. `effective_utc` in UTC; `number` is the store's own, rising."""

    number: int
    manifest: PriceManifest
    effective_utc: datetime

    @classmethod
    def of(cls, number: int, manifest: str, effective_utc: str) -> Version:
        """From a row of ``price_versions``."""
        return cls(number, PriceManifest.model_validate_json(manifest), datetime.fromisoformat(effective_utc))


class Staging:
    """Takes the messages of the stream ``prices``. `staged` is called when a version has become whole."""

    def __init__(
        self, store: Store, store_id: str, zone: ZoneInfo, public_key: str | None, staged: Callable[[], None]
    ) -> None:
        self._store = store
        self._store_id = store_id
        self._zone = zone
        self._public_key = public_key
        self._staged = staged

    async def take(self, header: frame.Header, body: bytes) -> None:
        """Stage one message of the stream; Refused when it, and with it its version, will never be taken."""
        if header.get("stream") != PRICES_STREAM:
            raise Refused("", "unknown_stream", f"no service takes the stream {header.get('stream')!r}")
        kind = header.get("kind")
        if kind == "manifest":
            await self._stage_manifest(body)
        elif kind == "chunk":
            await self._stage_chunk(header, body)
        else:
            raise Refused("", "unknown_kind", f"{kind!r} is neither a manifest nor a chunk")

    async def _stage_manifest(self, body: bytes) -> None:
        manifest = self._verified(body)
        known = await self._store.fetch_one(
            "SELECT manifest FROM price_versions WHERE version = ?", (manifest.version,)
        )
        text = manifest.model_dump_json()
        if known is not None:
            if known[0] != text:
                raise Refused(manifest.version, "version_reused", "this version number came with other content before")
            return
        effective = self._effective(manifest)
        await self._store.write(
            [
                (
                    "INSERT INTO price_versions(version, state, manifest, effective_utc, received_at)"
                    " VALUES (?, 'receiving', ?, ?, ?)",
                    (manifest.version, text, effective.isoformat(), now_utc()),
                )
            ]
        )

    async def _stage_chunk(self, header: frame.Header, body: bytes) -> None:
        version, index = str(header.get("version")), header.get("index")
        row = await self._store.fetch_one(
            "SELECT number, manifest, effective_utc, state FROM price_versions WHERE version = ?", (version,)
        )
        if row is None:
            raise Refused(version, "no_manifest", f"a chunk of {version!r} came before its manifest")
        staged, state = Version.of(*row[:3]), row[3]
        if state != "receiving":
            return  # came twice, or belongs to a version that was refused
        chunks = staged.manifest.chunks
        if not isinstance(index, int) or not 0 <= index < len(chunks):
            raise Refused(version, "bad_chunk", f"chunk {index!r} is not among the manifest's {len(chunks)}")
        if hashlib.sha256(body).hexdigest() != chunks[index].sha256:
            raise Refused(version, "bad_chunk", f"chunk {index} is not the one that was signed")
        items = await asyncio.to_thread(_items, version, index, body)
        if len(items) != chunks[index].items:
            raise Refused(version, "bad_chunk", f"chunk {index} holds {len(items)} items, not {chunks[index].items}")
        statements: list[Statement] = [
            (
                "INSERT OR REPLACE INTO prices(number, code, text, price_minor, per, tax) VALUES (?, ?, ?, ?, ?, ?)",
                (staged.number, item.code, item.text, item.price_minor, item.per, item.tax),
            )
            for item in items
        ]
        statements.append(("INSERT OR IGNORE INTO price_chunks(number, chunk) VALUES (?, ?)", (staged.number, index)))
        await self._store.write(statements)
        await self._complete(staged)

    async def _complete(self, staged: Version) -> None:
        """When the last chunk is there: check the whole and stage it."""
        row = await self._store.fetch_one("SELECT count(*) FROM price_chunks WHERE number = ?", (staged.number,))
        if row is None or row[0] < len(staged.manifest.chunks):
            return
        row = await self._store.fetch_one("SELECT count(*) FROM prices WHERE number = ?", (staged.number,))
        found = row[0] if row else 0
        if found != staged.manifest.items:
            detail = f"{found} different codes where the manifest says {staged.manifest.items}: a code stands twice"
            raise Refused(staged.manifest.version, "bad_version", detail)
        await self._store.write([("UPDATE price_versions SET state = 'staged' WHERE number = ?", (staged.number,))])
        self._staged()

    def _verified(self, body: bytes) -> PriceManifest:
        """The manifest, when HQ's key signed it and it is for this store."""
        try:
            signed = SignedManifest.model_validate_json(body)
        except ValidationError as error:
            raise Refused("", "bad_manifest", first_error(error)) from None
        if self._public_key is None:
            raise Refused("", "no_key", "this store has no [cloud] price_key: no price version can be believed")
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            key = Ed25519PublicKey.from_public_bytes(base64.b64decode(self._public_key, validate=True))
            key.verify(base64.b64decode(signed.signature, validate=True), signed.manifest.encode())
        except (InvalidSignature, binascii.Error, ValueError):
            raise Refused("", "bad_signature", "the manifest is not signed by HQ's key") from None
        try:
            manifest = PriceManifest.model_validate_json(signed.manifest)
        except ValidationError as error:
            raise Refused("", "bad_manifest", first_error(error)) from None
        if manifest.store not in (self._store_id, "*"):
            raise Refused(manifest.version, "not_ours", f"is for store {manifest.store!r}")
        return manifest

    def _effective(self, manifest: PriceManifest) -> datetime:
        try:
            local = datetime.fromisoformat(manifest.effective_at)
        except ValueError:
            raise Refused(
                manifest.version, "bad_manifest", f"effective_at {manifest.effective_at!r} is no local time"
            ) from None
        if local.tzinfo is not None:
            raise Refused(manifest.version, "bad_manifest", "effective_at must be the store's local time, without zone")
        return local.replace(tzinfo=self._zone).astimezone(UTC)


def _items(version: str, index: int, body: bytes) -> list[PriceItem]:
    """The items of a chunk; Refused with the line that is wrong."""
    try:
        with zstandard.ZstdDecompressor().stream_reader(body) as reader:
            text = reader.read(MAX_CHUNK_BYTES + 1)
    except zstandard.ZstdError as error:
        raise Refused(version, "bad_chunk", f"chunk {index} is not zstd: {error}") from None
    if len(text) > MAX_CHUNK_BYTES:
        raise Refused(version, "bad_chunk", f"chunk {index} is larger than {MAX_CHUNK_BYTES} bytes")
    items = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            items.append(PriceItem.model_validate(orjson.loads(line)))
        except ValidationError as error:
            raise Refused(version, "bad_item", f"chunk {index} line {number}: {first_error(error)}") from None
        except orjson.JSONDecodeError as error:
            raise Refused(version, "bad_item", f"chunk {index} line {number}: {error}") from None
    return items
