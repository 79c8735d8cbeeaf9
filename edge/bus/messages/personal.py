"""Which parts of a fact are personal: marked in its model, and everything else follows from there.

    class MemberIdentified(Recorded):
        receipt_number: str
        member: Annotated[str, Field(max_length=64), Personal(subject=True)]

Strategy: one field names the person (`subject`); a fact whose model has one is *about a person*. Of such a fact every
part of `data` that the model does not know as impersonal is sealed with that person's own key before the journal sees
it: the marked fields, and whatever a newer till adds that we cannot read yet. Marks stand on the fields of `data`
itself, not deeper; a test holds every model to that.

An employee (``operator_id``) is not marked: who took the money is what the record is for, and the law wants it kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic_core import CoreSchema


@dataclass(frozen=True, slots=True)
class Personal:
    """Marks a field; `subject`: its value says who the person is. A model has at most one such.

    The schema says so too (``x-personal``), for whoever writes a till or reads facts at HQ.
    """

    subject: bool = False

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "x-personal": "subject" if self.subject else True}


@dataclass(frozen=True, slots=True)
class About:
    """What of a fact's data is whose: the field that names the person, and the fields that may be read by anybody."""

    subject: str
    impersonal: frozenset[str]


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whose data can be erased: `kind` is the name of the field that names them (``member``)."""

    kind: str
    name: str


@cache
def about(model: type[BaseModel]) -> About | None:
    """How facts with this data are about a person; None when they are not. ValueError when the marks make no sense."""
    marks = {
        name: mark
        for name, field in model.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, Personal)
    }
    if not marks:
        return None
    subjects = [name for name, mark in marks.items() if mark.subject]
    if len(subjects) != 1:
        raise ValueError(f"{model.__name__}: one field must say who the person is, found {subjects}")
    return About(subjects[0], frozenset(model.model_fields) - marks.keys())
