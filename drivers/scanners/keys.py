"""Places on a keyboard, by their Linux key code (`input-event-codes.h`), and what means the same on every layout."""

from __future__ import annotations

from collections.abc import Mapping

TAB, ENTER, KEYPAD_ENTER = 15, 28, 96
LEFT_SHIFT, RIGHT_SHIFT = 42, 54
LEFT_CTRL, RIGHT_CTRL = 29, 97
LEFT_ALT, RIGHT_ALT = 56, 100
CAPS_LOCK, NUM_LOCK = 58, 69

KEYPAD_DIGITS: Mapping[int, str] = dict(
    zip((82, 79, 80, 81, 75, 76, 77, 71, 72, 73), "0123456789", strict=True),
)

CTRL_PLACES: Mapping[int, str] = {26: "\x1b", 43: "\x1c", 27: "\x1d"}
"""Ctrl with the keys that are [ \\ ] on a US keyboard types ESC, FS and GS on national ones too (Microsoft's layouts),
unless the key's own character has a control character."""

WINDOWS_DEAD: Mapping[str, Mapping[int, str]] = {
    "fr": {3: "\u0303", 8: "\u0300"},
    "es": {5: "\u0303"},
}
"""Keys that with AltGr are dead on Windows and plain in xkb: ~ and the grave accent. Scanners imitate Windows: they
strike space after them, which would otherwise become part of the code. (The tables of us, gb, de, fr, es and it were
compared; with a variant of xkb, xkb's word stands.)"""


def control_character(character: str) -> str | None:
    """What Ctrl with this character types (Ctrl+] is GS), or None."""
    if "@" <= character <= "_" or "a" <= character <= "z":
        return chr(ord(character) & 0x1F)
    return None


def alt_character(digits: str) -> str | None:
    """What Alt with these keypad digits types, or None where machines disagree or nothing is typed.

    With a leading zero the number is one of Windows-1252 (0 to 31: the control character). Without one it is of the
    OEM code page, and that depends on the country: only what 437 and 850 have in common is known.
    """
    number = int(digits)
    if not 0 < number < 256:
        return None
    one = bytes((number,))
    if digits.startswith("0"):
        return one.decode("cp1252", errors="ignore") or None
    if number < 0x20 or number == 0x7F:
        return None  # pictures, such as a double arrow for 29: no code holds them
    here, there = one.decode("cp437"), one.decode("cp850")
    return here if here == there else None
