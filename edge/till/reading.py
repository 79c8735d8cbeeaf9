"""What comes from the gateway, read so that nothing of a newer one, or unreadable, stops a till."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from edge.bus.client import Message
from edge.bus.messages.replies import Code, ProblemError
from edge.card_guard import guarded

log = guarded(__name__)


@dataclass(frozen=True, slots=True)
class GatewayView:
    """What the gateway last said of itself; `state` is ``unknown`` until it has."""

    state: str = "unknown"
    link: str = "unknown"
    price_version: str | None = None
    table: dict[str, Any] | None = None

    @classmethod
    def of(cls, table: dict[str, Any]) -> GatewayView:
        """Of its status, as far as this till understands it."""
        return cls(
            state=str(table.get("state", "unknown")),
            link=str(table.get("link", "unknown")),
            price_version=table.get("price_version"),
            table=table,
        )


def table_of(message: Message) -> dict[str, Any]:
    """The JSON object of a message, {} when it holds none: a message that we cannot read must not stop a till."""
    try:
        table = orjson.loads(message.payload)
    except orjson.JSONDecodeError:
        log.warning("a message on %s is not JSON", message.topic)
        return {}
    return table if isinstance(table, dict) else {}


def problem_of(table: Any) -> ProblemError:
    """The reply's problem; a code from a newer gateway than this till counts as ``faulted`` with that code named."""
    fields: dict[str, Any] = table if isinstance(table, dict) else {}
    detail, code = str(fields.get("detail", "")), fields.get("code")
    retry_after_ms = fields.get("retry_after_ms")
    if code not in list(Code):
        return ProblemError(Code.FAULTED, f"unknown problem {code!r}: {detail}", retry_after_ms=retry_after_ms)
    return ProblemError(Code(code), detail, retry_after_ms=retry_after_ms)
