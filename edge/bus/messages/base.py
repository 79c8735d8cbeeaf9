"""The two shapes all messages have: strict where we are asked something, tolerant where something is recorded."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from edge.bus.topics import ID_PATTERN


class Message(BaseModel):
    """Frozen, no silent conversion ("3" is not 3), unknown keys are errors."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Recorded(BaseModel):
    """As `Message`, but unknown keys are kept: a fact from a newer till must not lose what we cannot read yet."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")


Id = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
"""A store, lane, device or job id."""

EventId = Annotated[str, StringConstraints(min_length=1, max_length=64)]

Minor = Annotated[int, Field(ge=-(10**15), le=10**15)]
"""Money in minor units of the currency beside it (cents); the bound is far above any sale and inside 64 bits."""

PositiveMinor = Annotated[int, Field(ge=0, le=10**15)]

Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
"""ISO 4217 alphabetic code."""

Quantity = Annotated[str, StringConstraints(pattern=r"^([1-9][0-9]{0,8}(\.[0-9]{1,6})?|0\.[0-9]{0,5}[1-9][0-9]{0,5})$")]
"""A positive decimal string: ``1``, ``0.482``. Never a float, never negative: a return is a fact of its own."""

WeightValue = Annotated[str, StringConstraints(pattern=r"^-?[0-9]{1,6}(\.[0-9]{1,6})?$")]
"""A decimal string exactly as the scale resolved it."""

BusinessDay = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
