"""A signed price version: one manifest, then its chunks (downlink stream ``prices``).

The manifest names every chunk by its SHA-256, and HQ's Ed25519 signature covers the manifest: the broker in between is
not trusted. A chunk is zstd-compressed JSON lines, one `PriceItem` each.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edge.bus.messages.base import Currency, Message, PositiveMinor
from edge.bus.messages.signed import UTC_TIME, Addressed

PRICES_STREAM = "prices"


class PriceItem(Message):
    code: str = Field(min_length=1, max_length=32, description="GTIN as printed, or an in-store code")
    text: str = Field(min_length=1, max_length=200)
    price_minor: PositiveMinor
    per: Literal["each", "kg", "lb"] = "each"
    tax: str = Field(default="", max_length=16)


class PriceChunkRef(Message):
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the chunk's compressed bytes")
    items: int = Field(ge=1)


class PriceManifest(Addressed):
    version: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    effective_at: str = Field(description="local time in the store's own zone: 2026-05-04T06:00:00; a past time is now")
    currency: Currency
    published_at: str | None = Field(default=None, pattern=UTC_TIME, description="by HQ's clock; decides between two")
    items: int = Field(ge=1)
    chunks: tuple[PriceChunkRef, ...] = Field(strict=False, min_length=1)


class SignedManifest(Message):
    """Body of the ``manifest`` message: the manifest's exact bytes as text, and the signature over them."""

    manifest: str
    signature: str = Field(description="Ed25519, base64")


class PriceNotice(Message):
    """Retained on ``store/prices``: tills are told the number and ask for what they need."""

    version: str
    items: int
    effective_at: str
    activated_at: str
