"""What a till sent as a fact: is it one, and may it be sent from there?"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from edge.bus.messages.base import EventId, Recorded
from edge.bus.messages.facts.table import FACTS, FactType
from edge.bus.messages.personal import about


class BadFact(ValueError):
    """The event is no fact we can keep as such; the text names the place and what would be right."""


class FactEnvelope(Recorded):
    """A CloudEvent as a till publishes it on its ``facts`` topic."""

    model_config = ConfigDict(title="Fact")

    specversion: Literal["1.0"]
    id: EventId
    source: str = Field(description="/stores/{store}/lanes/{lane}")
    type: str = Field(max_length=128)
    time: str = Field(min_length=20, max_length=40, description="RFC 3339, UTC")
    sequence: str = Field(pattern=r"^[0-9]{10}$", description="the lane's own counter from 1, contiguous")
    datacontenttype: Literal["application/json"] = "application/json"
    data: dict[str, Any]


def check(event: dict[str, Any], source: str) -> tuple[FactType, int]:
    """The fact's type and lane sequence; BadFact when a till may not send this as a fact from `source`."""
    try:
        envelope = FactEnvelope.model_validate(event)
    except ValidationError as error:
        raise BadFact(first_error(error)) from None
    row = FACTS.get(envelope.type)
    if row is None or not row.from_till:
        known = ", ".join(sorted(name for name, row in FACTS.items() if row.from_till))
        raise BadFact(f"type: {envelope.type!r} is not a fact a till sends; known: {known}")
    if envelope.source != source:
        raise BadFact(f"source: must be {source!r}, not {envelope.source!r}")
    sequence = int(envelope.sequence)
    if sequence < 1:
        raise BadFact("sequence: a lane counts from 0000000001")
    try:
        row.data.model_validate(envelope.data)
    except ValidationError as error:
        # What was found may be somebody's number; it would stand in the log.
        raise BadFact(f"data.{first_error(error, shown=about(row.data) is None)}") from None
    return row, sequence


def first_error(error: ValidationError, *, shown: bool = True) -> str:
    """The first complaint as ``place: what would be right``, and what was found instead if that may be `shown`."""
    first = error.errors(include_url=False, include_context=False, include_input=True)[0]
    place = ".".join(str(part) for part in first["loc"]) or "message"
    if not shown:
        return f"{place}: {first['msg']}"
    # A whole object says nothing of where it is wrong, and may say whose it is: the text goes into the log.
    value = first["input"]
    found = "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)
    return f"{place}: {first['msg']} (found {found if len(found) <= 60 else found[:57] + '...'})"
