"""HQ's price messages, checked and put on disk until their version is whole.

Strategy: the manifest's signature is checked before anything of it is believed; a chunk is taken only when the manifest
names its hash. When the last chunk is there and the whole fits the manifest, the version is staged. A version that
fails any check is refused whole.

Source: design pages "Journal, bridge, HQ" (downlink) and "Store services" (prices).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import orjson
import zstandard
from pydantic import ValidationError

from edge.bus.envelope import now_utc
from edge.bus.messages.facts import first_error
from edge.bus.messages.prices import PriceItem, PriceManifest, SignedManifest
from edge.journal.store import Statement, Store
from edge.services.from_hq import Believed, Delivery, NotTaken

MAX_CHUNK_BYTES = 8 * 1024 * 1024
"""A decompressed chunk larger than this is refused: a few bytes of zstd can ask for gigabytes."""

ROWS_AT_ONCE = 500
"""Prices written or removed in one transaction: a till's fact waits for no more than these."""

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


class Refused(NotTaken):
    """A price message that will never be taken; `version` as far as it is known."""

    def __init__(self, version: str, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.version = version


Rank = tuple[datetime, datetime, int]


@dataclass(frozen=True, slots=True)
class Version:
    """A price version on this gateway. `effective_utc` and `received_utc` in UTC; `number` is the store's own, rising.

    Of several versions that are due, the one with the highest `rank` is in force, whether it was published for the
    store or for a group of it, and in whatever order they arrived: the one whose time came last, where a time before
    its publication means "from publication on"; of two with the same time, the one published last.
    """

    number: int
    manifest: PriceManifest
    effective_utc: datetime
    received_utc: datetime

    @classmethod
    def of(cls, number: int, manifest: str, effective_utc: str, received_at: str) -> Version:
        """From the first columns of ``price_versions`` (`COLUMNS`)."""
        return cls(
            number,
            PriceManifest.model_validate_json(manifest),
            datetime.fromisoformat(effective_utc),
            datetime.fromisoformat(received_at),
        )

    @property
    def rank(self) -> Rank:
        """What decides between versions that are due."""
        at = self.manifest.published_at
        published = datetime.fromisoformat(at) if at else self.received_utc
        return max(self.effective_utc, published), published, self.number


COLUMNS = "number, manifest, effective_utc, received_at"


class Staging:
    """Takes the messages of the stream ``prices``. `staged` is called when a version has become whole."""

    def __init__(self, store: Store, zone: ZoneInfo, believed: Believed, staged: Callable[[], None]) -> None:
        self._store = store
        self._zone = zone
        self._believed = believed
        self._staged = staged

    async def take(self, delivery: Delivery) -> None:
        """Stage one message of the stream; Refused when it, and with it its version, will never be taken."""
        kind = delivery.header.get("kind")
        if kind == "manifest":
            await self._stage_manifest(delivery)
        elif kind == "chunk":
            await self._stage_chunk(delivery)
        else:
            raise Refused("", "unknown_kind", f"{kind!r} is neither a manifest nor a chunk")

    async def _stage_manifest(self, delivery: Delivery) -> None:
        manifest = self._verified(delivery)
        known = await self._store.fetch_one(
            "SELECT manifest FROM price_versions WHERE version = ?", (manifest.version,)
        )
        text = manifest.model_dump_json()
        if known is not None:
            if PriceManifest.model_validate_json(known[0]) != manifest:
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

    async def _stage_chunk(self, delivery: Delivery) -> None:
        version, index, body = str(delivery.header.get("version")), delivery.header.get("index"), delivery.body
        row = await self._store.fetch_one(
            f"SELECT {COLUMNS}, state FROM price_versions WHERE version = ?",  # noqa: S608
            (version,),
        )
        if row is None:
            raise Refused(version, "no_manifest", f"a chunk of {version!r} came before its manifest")
        staged, state = Version.of(*row[:4]), row[4]
        if state != "receiving":
            return  # came twice, or belongs to a version that was refused or overtaken
        chunks = staged.manifest.chunks
        if not isinstance(index, int) or not 0 <= index < len(chunks):
            raise Refused(version, "bad_chunk", f"chunk {index!r} is not among the manifest's {len(chunks)}")
        if hashlib.sha256(body).hexdigest() != chunks[index].sha256:
            raise Refused(version, "bad_chunk", f"chunk {index} is not the one that was signed")
        known = "SELECT 1 FROM price_chunks WHERE number = ? AND chunk = ?"
        if await self._store.fetch_one(known, (staged.number, index)) is not None:
            await self._complete(staged)  # came twice; a crash may have come between its rows and the last look
            return
        items = await asyncio.to_thread(_items, version, index, body)
        if len(items) != chunks[index].items:
            raise Refused(version, "bad_chunk", f"chunk {index} holds {len(items)} items, not {chunks[index].items}")
        insert = "INSERT OR REPLACE INTO prices(number, code, text, price_minor, per, tax) VALUES (?, ?, ?, ?, ?, ?)"
        rows: list[Statement] = [
            (insert, (staged.number, item.code, item.text, item.price_minor, item.per, item.tax)) for item in items
        ]
        rows.append(("INSERT OR IGNORE INTO price_chunks(number, chunk) VALUES (?, ?)", (staged.number, index)))
        for first in range(0, len(rows), ROWS_AT_ONCE):  # the mark that the chunk is here goes with the last rows
            await self._store.write(rows[first : first + ROWS_AT_ONCE])
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

    def _verified(self, delivery: Delivery) -> PriceManifest:
        """The manifest, when HQ's key signed it and it is for this store or the group that it came for."""
        try:
            signed = SignedManifest.model_validate_json(delivery.body)
        except ValidationError as error:
            raise Refused("", "bad_manifest", first_error(error)) from None
        try:
            self._believed.check(signed.manifest, signed.signature)
        except NotTaken as refused:
            raise Refused("", refused.code, refused.detail) from None
        try:
            manifest = PriceManifest.model_validate_json(signed.manifest)
        except ValidationError as error:
            raise Refused("", "bad_manifest", first_error(error)) from None
        try:
            self._believed.speaks_to_us(manifest, delivery.group)
        except NotTaken as refused:
            raise Refused(manifest.version, "not_ours", refused.detail) from None
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
