"""A price as the gateway answered it, and how sure one can be of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Price:
    """`price_minor` per `per` in minor units of `currency`.

    `confidence` is ``confirmed`` when the gateway answered just now, ``local`` when this till remembered it from
    `as_of` because the gateway was away.
    """

    code: str
    text: str
    price_minor: int
    per: Literal["each", "kg", "lb"]
    currency: str
    version: str | None
    as_of: str
    confidence: Literal["confirmed", "local"]


def read_price(item: Mapping[str, Any], as_of: str, confidence: Literal["confirmed", "local"]) -> Price:
    """The result of ``price.lookup`` as a `Price`; keys that a newer gateway adds are let be."""
    return Price(
        code=str(item["code"]),
        text=str(item["text"]),
        price_minor=int(item["price_minor"]),
        per=item.get("per", "each"),
        currency=str(item.get("currency", "")),
        version=item.get("version"),
        as_of=as_of,
        confidence=confidence,
    )
