"""What the keys of a keyboard scanner mean: one explicit table per layout.

Key codes are those of Linux (`input-event-codes.h`): they name places on the keyboard, not letters. A layout
gives each place its character without and with shift. Add a layout as one more row of LAYOUTS.
"""

from __future__ import annotations

from collections.abc import Mapping

# The places that a layout gives characters to, row by row: 41 is left of "1", 43 and 86 differ between
# keyboards.
_PLACES = (41, *range(2, 14), *range(16, 28), *range(30, 41), 43, *range(44, 54), 57, 86)

_US_PLAIN = "`1234567890-=" + "qwertyuiop[]" + "asdfghjkl;'" + "\\" + "zxcvbnm,./" + " " + "\\"
_US_SHIFT = "~!@#$%^&*()_+" + "QWERTYUIOP{}" + 'ASDFGHJKL:"' + "|" + "ZXCVBNM<>?" + " " + "|"

ENTER, KEYPAD_ENTER, TAB = 28, 96, 15
LEFT_SHIFT, RIGHT_SHIFT = 42, 54
LEFT_CTRL, RIGHT_CTRL = 29, 97
LEFT_ALT, RIGHT_ALT = 56, 100
CAPS_LOCK, NUM_LOCK = 58, 69

KEYPAD: Mapping[int, str] = {
    **dict(zip((82, 79, 80, 81, 75, 76, 77, 71, 72, 73), "0123456789", strict=True)),
    83: ".",
    78: "+",
    74: "-",
    55: "*",
    98: "/",
}

Layout = Mapping[int, tuple[str, str]]


def _layout(plain: str, shift: str) -> Layout:
    return {code: pair for code, *pair in zip(_PLACES, plain, shift, strict=True)}  # type: ignore[misc]


LAYOUTS: Mapping[str, Layout] = {"us": _layout(_US_PLAIN, _US_SHIFT)}
