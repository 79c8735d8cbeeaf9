"""Options of devices, transports and document elements: frozen dataclasses read from plain tables, strictly.

`read_options(cls, table)` accepts exactly the fields of the dataclass, with exactly their types, and names
the key and what would be right otherwise. No schema library: the dataclass is the schema, also of a table in a table.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from drivers.errors import BadOption

T = TypeVar("T")

_PLAIN = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", bytes: "bytes"}


def read_options(cls: type[T], table: Mapping[str, Any]) -> T:
    """Build the dataclass `cls` from `table`; raises BadOption naming the key and what is expected there."""
    owner: Any = cls
    hints = _hints(owner)
    fields = {field.name: field for field in dataclasses.fields(owner)}
    for key in table:
        if key not in fields:
            raise BadOption(key, f"is not known here; known are {', '.join(fields)}")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in table:
            values[name] = _checked(name, table[name], hints[name])
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise BadOption(name, f"is missing; expected {_wanted(hints[name])}")
    try:
        return cls(**values)
    except ValueError as error:  # a dataclass may check its own values in __post_init__
        key, _, expected = str(error).partition(": ")
        raise BadOption(key, expected) from error


@cache
def _hints(cls: Any) -> Mapping[str, Any]:
    """The types of the fields: working them out takes longer than all the rest, and a document has many elements."""
    return typing.get_type_hints(cls)


def _checked(key: str, value: Any, hint: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        if any(value == choice and type(value) is type(choice) for choice in typing.get_args(hint)):
            return value
    elif origin in (types.UnionType, typing.Union):
        for choice in typing.get_args(hint):
            if choice is type(None) and value is None:
                return None
            if choice is not type(None):
                return _checked(key, value, choice)
    elif origin is tuple and isinstance(value, list | tuple):  # tuple[T, ...]
        return tuple(_checked(key, item, typing.get_args(hint)[0]) for item in value)
    elif dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        try:
            return read_options(typing.cast("type[Any]", hint), value)
        except BadOption as error:
            raise BadOption(f"{key}.{error.key}", error.expected) from error
    elif hint is float and type(value) in (int, float):
        return float(value)
    elif type(value) is hint:  # exactly: True is not a whole number here
        return value
    raise BadOption(key, f"is {value!r}; expected {_wanted(hint)}")


def _wanted(hint: Any) -> str:
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return "one of " + ", ".join(repr(choice) for choice in typing.get_args(hint))
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_wanted(choice) for choice in typing.get_args(hint) if choice is not type(None))
    if origin is tuple:
        return f"a list, each {_wanted(typing.get_args(hint)[0])}"
    if dataclasses.is_dataclass(hint):
        return f"a table with {', '.join(field.name for field in dataclasses.fields(hint))}"
    return _PLAIN.get(hint, str(hint))
