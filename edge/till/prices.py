"""Prices as the gateway answered them, remembered for when it is away, and how sure one can be of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edge.bus.envelope import now_utc
from edge.bus.messages.replies import Code, ProblemError
from edge.till.ledger import Ledger


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


class Prices:
    """Asks for prices with `ask` (`Till.request`) and remembers them in the ledger."""

    def __init__(self, ledger: Ledger, ask: Callable[..., Awaitable[dict[str, Any]]]) -> None:
        self._ledger = ledger
        self._ask = ask
        self._known: dict[str, dict[str, Any]] = {}

    async def find(self, code: str, *, online: bool, deadline_ms: int) -> Price:
        """The price of `code`; `online`: the gateway can be asked. Raises ProblemError, as `Till.price` says."""
        unanswered = ProblemError(Code.TIMED_OUT, f"the gateway is away and {code!r} was not sold here before")
        if online:
            try:
                item = await self._ask("price.lookup", {"code": code}, deadline_ms=deadline_ms)
            except ProblemError as problem:
                if problem.code is Code.NOT_FOUND:
                    self._known.pop(code, None)
                    await self._ledger.forget_price(code)
                if problem.code not in (Code.TIMED_OUT, Code.TOO_FAST, Code.FAULTED):
                    raise
                unanswered = problem
            else:
                if self._known.get(code) != item:  # unchanged: spare the disk
                    await self._ledger.remember_price(code, item)
                    self._known[code] = item
                return read_price(item, now_utc(), "confirmed")
        remembered = await self._ledger.recall_price(code)
        if remembered is None:
            raise unanswered
        return read_price(*remembered, "local")
