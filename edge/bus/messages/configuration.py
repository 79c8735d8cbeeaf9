"""What HQ may change of a store's gateway: settings of a bounded set, and its own keys. Signed like all of HQ's.

Streams ``configuration`` and ``keys``. Both carry a number that only grows, whatever stream or epoch they come in: what
is older than what a store has is refused, so nobody can put a store back by keeping a message.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from edge.bus.messages.signed import UTC_TIME, Numbered
from edge.bus.messages.spoken import Ed25519Key

CONFIGURATION_STREAM = "configuration"
KEYS_STREAM = "keys"


class Configuration(Numbered):
    """All that HQ sets in a store, whole: what it does not name is as ``store.toml`` says."""

    type: Literal["tillgate.configuration.v1"] = "tillgate.configuration.v1"
    version: int = Field(ge=1, le=2**53, description="milliseconds since 1970 when it was made")
    settings: dict[str, Any] = Field(description="tables and keys of store.toml, of those that HQ may set")
    by: str = Field(default="", max_length=64)
    issued_at: str = Field(pattern=UTC_TIME)


class HqKeys(Numbered):
    """From now on these keys are HQ's, in the place of `price_key`. Signed by one that was until now."""

    type: Literal["tillgate.hq.keys.v1"] = "tillgate.hq.keys.v1"
    keys: tuple[Ed25519Key, ...] = Field(strict=False, min_length=1, max_length=4)
    version: int = Field(ge=1, le=2**53, description="milliseconds since 1970 when it was made")
