"""New JSON from old: a value of a message with something wrong in it that a parser of JSON lets through, or should not.

What no library writes (the same key twice, numbers of a thousand digits, a hundred brackets) is put in as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from tests.fuzz.mutation import Mutator

CARD = "4111111111111111"
"""The number that card schemes give out for tests (Visa)."""
PASSWORD = "hunter2-of-the-fuzzer"
SECRET_FIELDS = ("session", "grant", "password", "pin")
TRACK = f";{CARD}=29121010000000000000?"
_RAW = re.compile(r'"\\u0001raw:([^"]*)\\u0001"')
_DEEP = (3, 20, 60, 130, 260, 1_000)
_TEXTS = (
    *("", " ", "\0", "\x1b[2J", "\ud800", "\udfff\ud800", "\ufeff", "\u202e", "\U0010ffff", "a" * 65, "x" * 5_000),
    *("tg/v1/lanes/2/replies", "#", "+", "$SYS", "../..", "null", "1", "-1", "0.482", "1e400", "NaN", "é" * 200),
    *("2026-05-04T25:00:00Z", "9999-12-31", "0001-01-01T00:00:00.000Z", "%s%n", "'; DROP TABLE facts; --", "=1+1"),
    *(CARD, TRACK, "4111-1111 1111-1111"),
)
_NUMBERS = (0, -1, 1, 0.1, -0.0, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30, 1e308, int(CARD))
_TEXT_NUMBERS = ("1e400", "-1e400", "1" * 400, "NaN", "Infinity", "0" * 9, "1.0", "1E2", "01", "0x10", "-")


def twisted(value: Any, random: Random) -> Any:
    """A copy of `value` with one thing in it changed: another leaf, a key or entry more, one fewer, one in a list."""
    if isinstance(value, dict) and value and random.random() < 0.85:
        key = random.choice(list(value))
        other = {**value}
        choice = random.random()
        if choice < 0.6:
            other[key] = twisted(value[key], random)
        elif choice < 0.72:
            del other[key]
        elif choice < 0.82:
            other[random.choice((*_TEXTS, "id", "data", "session", "password", "pin", "cvv", key.upper()))] = value[key]
        else:
            other[random.choice(list(value))] = value[key]
        return other
    if isinstance(value, list) and value and random.random() < 0.85:
        at = random.randrange(len(value))
        choice = random.random()
        if choice < 0.6:
            return [*value[:at], twisted(value[at], random), *value[at + 1 :]]
        if choice < 0.8:
            return [*value[:at], *value[at + 1 :]]
        return (value * random.choice((2, 3, 200)))[:2_000]
    return odd(value, random)


def told(value: Any) -> Any:
    """The same where `PASSWORD` stands only where passwords belong: elsewhere nobody can know it for one."""
    if isinstance(value, dict):
        return {key: item if key.lower() in SECRET_FIELDS else told(item) for key, item in value.items()}
    if isinstance(value, list):
        return [told(item) for item in value]
    return "..." if isinstance(value, str) and PASSWORD in value else value


def odd(value: Any, random: Random) -> Any:
    """Something that nobody expects in the place of `value`."""
    choice = random.random()
    if choice < 0.3:
        return random.choice(_TEXTS)
    if choice < 0.5:
        return random.choice(_NUMBERS)
    if choice < 0.6:
        return raw(random.choice(_TEXT_NUMBERS))
    if choice < 0.68:
        depth = random.choice(_DEEP)
        return raw(random.choice(("[" * depth + "]" * depth, "{'a':" * depth + "1" + "}" * depth)).replace("'", "~"))
    if choice < 0.8:
        return random.choice((None, True, False, [], {}))
    if choice < 0.9 and isinstance(value, str):
        at = random.randrange(len(value) + 1)
        return value[:at] + random.choice(_TEXTS) + value[at:]
    return random.choice(([value], {"value": value}, str(value)[:100]))


def raw(text: str) -> str:
    """Stands for `text` itself, without quotation marks, where it is written."""
    return f"\x01raw:{text}\x01"


def written(value: Any, random: Random) -> bytes:
    """As JSON, more or less: sometimes with a key twice, white space, escapes of plain letters, or something behind."""
    text = json.dumps(value, ensure_ascii=True, separators=random.choice(((",", ":"), (" , ", " : "))))
    text = _RAW.sub(lambda found: found[1].replace("~", '"'), text)
    choice = random.random()
    if choice < 0.04 and text.startswith("{"):
        text = '{"id":"again","id":7,' + text[1:]
    elif choice < 0.08:
        text = text.replace("pass", r"p\u0061ss").replace('"id"', r'"\u0069d"').replace("session", r"sess\u0069on")
    elif choice < 0.1:
        text += random.choice((" ", "\n", "\0", "{}", ",", "//"))
    elif choice < 0.2 and "\\ud" not in text:
        return json.dumps(json.loads(text), ensure_ascii=False).encode() if _plain(text) else text.encode()
    return text.encode()


def _plain(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


class Structured(Mutator):
    """Half of the inputs from `make`, which knows what an input is made of; half as any `Mutator` makes them."""

    def __init__(self, seeds: Sequence[bytes], seed: int, make: Callable[[Random], bytes]) -> None:
        super().__init__(seeds, 1, seed)
        self._make = make

    def next(self) -> bytes:
        """One more input."""
        return self._make(self._random) if self._random.getrandbits(1) else super().next()
