"""Card numbers as keys: what a keyboard scanner sends holds no character, and still says the number to who reads keys.

Strategy: the layout is not asked. The digits' keys are the same everywhere; most layouts type digits without Shift,
some (the French one) with it, so both ways of reading are tried.

Source: linux/input-event-codes.h (KEY_1 to KEY_0 are 2 to 11; the keypad's digits).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from drivers.scanners import keys
from drivers.scanners.keyboard import RECORD
from edge.card_numbers import find

_ROW = {code: str((code - 1) % 10) for code in range(2, 12)}
_SHIFTS = frozenset((keys.LEFT_SHIFT, keys.RIGHT_SHIFT))
_SILENT = frozenset((keys.LEFT_CTRL, keys.RIGHT_CTRL, keys.LEFT_ALT, keys.RIGHT_ALT, keys.CAPS_LOCK, keys.NUM_LOCK))
_KEY_EVENT = struct.Struct(">HB")
_EV_KEY = 1
_RELEASED, _PRESSED = 0, 1


def in_keys(raw: bytes) -> bool:
    """Whether key events as in `Scan.raw` (code, value; three bytes each) type a card number."""
    return _typed(_KEY_EVENT.iter_unpack(raw[: len(raw) - len(raw) % _KEY_EVENT.size]))


def in_records(sent: bytes) -> bool:
    """Whether the kernel's `input_event` records type a card number."""
    whole = sent[: len(sent) - len(sent) % RECORD.size]
    return _typed((code, value) for _, _, kind, code, value in RECORD.iter_unpack(whole) if kind == _EV_KEY)


def _typed(events: Iterable[tuple[int, int]]) -> bool:
    plain, shifted, held = [], [], 0
    for code, value in events:
        if code in _SHIFTS:
            # What is kept begins with the first key that types: a Shift that was down before is only let go in it.
            held = max(0, held + {_PRESSED: 1, _RELEASED: -1}.get(value, 0))
        elif value == _PRESSED and code not in _SILENT:
            digit = _ROW.get(code)
            keypad = keys.KEYPAD_DIGITS.get(code, "x")
            plain.append(digit if digit and held == 0 else keypad)
            shifted.append(digit if digit and held > 0 else keypad)
    return bool(find("".join(plain)) or find("".join(shifted)))
