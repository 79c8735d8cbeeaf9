"""Price versions: staged as they arrive, checked whole, activated at their local time, looked up by code.

Strategy: the bridge hands over HQ's messages byte for byte. The manifest's signature is checked before anything of it
is believed; a chunk is taken only when the manifest names its hash. When the last chunk is there the version is staged;
one transaction makes it the active one at its effective time in the store's own zone, WAN or not. A version that fails
any check is refused whole and the old one stays.

Source: design pages "Journal, bridge, HQ" (downlink) and "Store services" (prices).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

import orjson
import zstandard
from pydantic import ValidationError

from edge.bus import frame, topics
from edge.bus.client import Message
from edge.bus.envelope import now_utc
from edge.bus.messages.base import Recorded
from edge.bus.messages.facts import PriceActivated, PriceRefused, first_error
from edge.bus.messages.links import Committed
from edge.bus.messages.prices import PRICES_STREAM, PriceItem, PriceManifest, PriceNotice, SignedManifest
from edge.bus.messages.replies import Code, ProblemError
from edge.bus.messages.requests import PriceLookup
from edge.journal.store import Statement, StorageFull, Store, StoreFaulted
from edge.services.requests import Asked, Handler

log = logging.getLogger(__name__)

MAX_CHUNK_BYTES = 8 * 1024 * 1024
"""A decompressed chunk larger than this is refused: a few bytes of zstd can ask for gigabytes."""

LONGEST_SLEEP_S = 60.0
"""The wall clock may jump, so the next activation is looked at again at least this often."""

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


class Prices:
    """The store's price versions. `run` activates them in time; `on_down` takes what HQ sent."""

    def __init__(
        self,
        store: Store,
        store_id: str,
        zone: ZoneInfo,
        public_key: str | None,
        publish: Callable[..., None],
        report: Callable[..., Awaitable[object]],
    ) -> None:
        self._store = store
        self._store_id = store_id
        self._zone = zone
        self._public_key = public_key
        self._publish = publish
        self._report = report
        self._active: Version | None = None
        self._activated_at = ""
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def active(self) -> str | None:
        """The version in force, or None while the store has none."""
        return self._active.manifest.version if self._active else None

    def operations(self) -> Mapping[str, Handler]:
        """The operations that the router lets this service serve."""
        return {"price.lookup": self._lookup}

    async def load(self) -> None:
        """Read what earlier lives of this gateway staged and activated."""
        row = await self._store.fetch_one(
            "SELECT number, manifest, effective_utc, activated_at FROM price_versions WHERE state = 'active'"
        )
        if row is not None:
            self._active = _version(*row[:3])
            self._activated_at = str(row[3])

    def announce(self) -> None:
        """Tell every till which version is in force (retained)."""
        if self._active is None:
            return
        notice = PriceNotice(
            version=self._active.manifest.version,
            items=self._active.manifest.items,
            effective_at=self._active.manifest.effective_at,
            activated_at=self._activated_at,
        )
        self._publish(topics.store_subject("prices"), notice.model_dump_json().encode(), qos=1, retain=True)

    # -- from HQ -------------------------------------------------------------------------------------------------------

    def on_down(self, message: Message) -> None:
        """Take one downlink message from the bridge; answered on ``bridge/committed`` once it is on disk."""
        task = asyncio.create_task(self._taken(message), name="price message")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _taken(self, message: Message) -> None:
        """Take it; when the disk does not let us, say nothing: the bridge still owns it and gives it to us again."""
        try:
            await self._take(message)
        except (StorageFull, StoreFaulted) as error:
            log.error("a price message is not kept: %s", error)
            message.ack()

    async def _take(self, message: Message) -> None:
        try:
            header, body = frame.unpack(message.payload)
            stream, epoch, seq = str(header["stream"]), str(header["epoch"]), int(header["seq"])
        except (frame.BadFrame, KeyError, ValueError, TypeError) as error:
            log.error("a downlink message cannot be read: %s", error)
            message.ack()
            return
        ok, detail = True, ""
        async with self._turn:  # in order: a chunk needs its manifest
            try:
                if stream != PRICES_STREAM:
                    raise Refused("", "unknown_stream", f"no service takes the stream {stream!r}")
                await self._step(header, body)
            except Refused as refused:
                ok, detail = False, refused.detail
                await self._refuse(refused)
        answer = Committed(stream=stream, epoch=epoch, seq=seq, ok=ok, detail=detail)
        self._publish(topics.BRIDGE_COMMITTED, answer.model_dump_json().encode(), qos=1)
        message.ack()

    async def _step(self, header: frame.Header, body: bytes) -> None:
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
        staged, state = _version(*row[:3]), row[3]
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
        self._changed.set()

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

    async def _refuse(self, refused: Refused) -> None:
        log.error("price version %s refused: %s", refused.version or "(unknown)", refused.detail)
        also: list[Statement] = [
            (
                "UPDATE price_versions SET state = 'refused' WHERE version = ? AND state = 'receiving'",
                (refused.version,),
            )
        ]
        await self._record(PriceRefused(version=refused.version, code=refused.code, detail=refused.detail), also)

    # -- in time -------------------------------------------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Activate each staged version when its time has come."""
        while True:
            self._changed.clear()
            wait_s = await self._activate_due()
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                continue  # its time has come, or time to look at the clock again

    async def _activate_due(self) -> float:
        """Activate what is due; returns seconds until the next look."""
        rows = await self._store.fetch_all(
            "SELECT number, manifest, effective_utc FROM price_versions WHERE state = 'staged'"
        )
        now = datetime.now(UTC)
        waiting = sorted((_version(*row) for row in rows), key=lambda version: (version.effective_utc, version.number))
        due = [version for version in waiting if version.effective_utc <= now]
        if due:
            await self._activate(due[-1], older=due[:-1])
        later = [version for version in waiting if version.effective_utc > now]
        if not later:
            return 24 * 3600.0
        return min(LONGEST_SLEEP_S, (later[0].effective_utc - now).total_seconds() + 0.001)

    async def _activate(self, version: Version, older: Iterable[Version]) -> None:
        at = now_utc()
        late = (datetime.now(UTC) - version.effective_utc).total_seconds() > LONGEST_SLEEP_S
        retire = [old.number for old in older] + ([self._active.number] if self._active else [])
        statements: list[Statement] = [
            ("UPDATE price_versions SET state = 'retired' WHERE number = ?", (number,)) for number in retire
        ]
        statements.append(
            (
                "UPDATE price_versions SET state = 'active', activated_at = ? WHERE number = ?",
                (at, version.number),
            )
        )
        # A basket in flight keeps its version, so the one before stays; what is older goes.
        keep = self._active.number if self._active else version.number
        statements.append(("DELETE FROM prices WHERE number < ?", (min(keep, version.number),)))
        fact = PriceActivated(
            version=version.manifest.version,
            items=version.manifest.items,
            effective_at=version.manifest.effective_at,
            late=late,
        )
        await self._record(fact, statements)
        self._active, self._activated_at = version, at
        log.info("price version %s is in force: %d items", version.manifest.version, version.manifest.items)
        self.announce()

    async def _record(self, fact: Recorded, also: list[Statement]) -> None:
        await self._report(fact, also=also)

    # -- look-up -------------------------------------------------------------------------------------------------------

    async def _lookup(self, asked: Asked, parameters: PriceLookup) -> dict[str, Any]:
        if self._active is None:
            raise ProblemError(Code.NOT_FOUND, "the store has no price version yet; HQ publishes one")
        for code in _spellings(parameters.code):
            row = await self._store.fetch_one(
                "SELECT code, text, price_minor, per, tax FROM prices WHERE number = ? AND code = ?",
                (self._active.number, code),
            )
            if row is not None:
                return {
                    **dict(zip(("code", "text", "price_minor", "per", "tax"), row, strict=True)),
                    "currency": self._active.manifest.currency,
                    "version": self._active.manifest.version,
                }
        raise ProblemError(Code.NOT_FOUND, f"{parameters.code!r} is not in price version {self.active}")


def _spellings(code: str) -> Iterable[str]:
    """A GTIN is the same with 8, 12, 13 or 14 digits: as given, then as the other lengths (GS1 GenSpecs 24, 3.3.2)."""
    yield code
    if code.isdigit() and len(code) in (12, 13, 14):
        bare = code.lstrip("0")
        for length in (13, 8, 12, 14):
            if len(bare) <= length and bare.rjust(length, "0") != code:
                yield bare.rjust(length, "0")


def _version(number: int, manifest: str, effective_utc: str) -> Version:
    return Version(number, PriceManifest.model_validate_json(manifest), datetime.fromisoformat(effective_utc))


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
