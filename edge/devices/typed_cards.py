"""Card numbers as keys: what a keyboard scanner sends holds no character, and still says the number to who reads keys.

Source: linux/input-event-codes.h (KEY_1 to KEY_0 are 2 to 11 on every layout; the keypad's digits).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from drivers.scanners.keyboard import RECORD
from drivers.scanners.keys import KEYPAD_DIGITS
from edge.card_numbers import find

_DIGITS = {**{code: str((code - 1) % 10) for code in range(2, 12)}, **KEYPAD_DIGITS}
_HELD = frozenset((29, 42, 54, 56, 69, 97, 100))
"""Ctrl, Shift, Alt and Num Lock type nothing themselves."""
_PRESSED = 1
_KEY_EVENT = struct.Struct(">HB")
_EV_KEY = 1


def in_keys(raw: bytes) -> bool:
    """Whether key events as in `Scan.raw` (code, value; three bytes each) type a card number."""
    whole = raw[: len(raw) - len(raw) % _KEY_EVENT.size]
    return _typed(code for code, value in _KEY_EVENT.iter_unpack(whole) if value == _PRESSED)


def in_records(sent: bytes) -> bool:
    """Whether the kernel's `input_event` records type a card number."""
    whole = sent[: len(sent) - len(sent) % RECORD.size]
    return _typed(code for *_, kind, code, value in RECORD.iter_unpack(whole) if (kind, value) == (_EV_KEY, _PRESSED))


def _typed(codes: Iterable[int]) -> bool:
    return bool(find("".join(_DIGITS.get(code, "x") for code in codes if code not in _HELD)))
