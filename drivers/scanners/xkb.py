"""What the keys of a keyboard mean, from libxkbcommon and the xkb data of the system; no X server, no C compiler.

A layout is compiled once into plain dictionaries (about 5 ms and, with the library, 1 MB), so that a key costs one
look-up afterwards. A dozen functions of the library are called through ctypes; that is the whole of the binding, and
it needs only the packages libxkbcommon0 and xkb-data.

Source: libxkbcommon, xkbcommon.h (ABI of libxkbcommon.so.0); X11 keysymdef.h for the numbers of dead keys.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_uint32, c_void_p
from dataclasses import dataclass
from functools import cache

SHIFT, CAPS, ALTGR = 1, 2, 4
"""Bits of what holds while a key is struck; `Layout` is asked with ``code * 8 + bits``."""

_EVDEV_OFFSET = 8  # xkb counts keys from 8
_KEY_CODES = range(1, 128)
_RIGHT_ALT = 100
_LEVEL3_SHIFT = 0xFE03
_LOG_CRITICAL = 10
_MODS_EFFECTIVE = 1 << 3
_KEY_DOWN = 1

# Keysyms of dead keys, and the combining character that each of them is.
_DEAD: Mapping[int, str] = {
    0xFE50: "\u0300",
    0xFE51: "\u0301",
    0xFE52: "\u0302",
    0xFE53: "\u0303",
    0xFE54: "\u0304",
    0xFE55: "\u0306",
    0xFE56: "\u0307",
    0xFE57: "\u0308",
    0xFE58: "\u030a",
    0xFE59: "\u030b",
    0xFE5A: "\u030c",
    0xFE5B: "\u0327",
    0xFE5C: "\u0328",
    0xFE60: "\u0323",
    0xFE61: "\u0309",
    0xFE62: "\u031b",
}


class NoLayout(Exception):
    """A layout cannot be had; the text says what to install or to correct."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A keyboard: both tables are keyed by ``code * 8 + (SHIFT | CAPS | ALTGR)`` with Linux key codes.

    `characters` are what keys type at once, `dead` the combining character that waits for the next key. `altgr` tells
    whether the right Alt key is AltGr on this keyboard. Keypad keys are those of Num Lock on.
    """

    characters: Mapping[int, str]
    dead: Mapping[int, str]
    altgr: bool


class _Names(Structure):
    """struct xkb_rule_names."""

    _fields_ = [(name, c_char_p) for name in ("rules", "model", "layout", "variant", "options")]


_PROTOTYPES = {
    "xkb_context_new": (c_void_p, (c_int,)),
    "xkb_context_set_log_level": (None, (c_void_p, c_int)),
    "xkb_context_unref": (None, (c_void_p,)),
    "xkb_keymap_new_from_names": (c_void_p, (c_void_p, POINTER(_Names), c_int)),
    "xkb_keymap_unref": (None, (c_void_p,)),
    "xkb_keymap_mod_get_index": (c_uint32, (c_void_p, c_char_p)),
    "xkb_state_new": (c_void_p, (c_void_p,)),
    "xkb_state_unref": (None, (c_void_p,)),
    "xkb_state_update_key": (c_int, (c_void_p, c_uint32, c_int)),
    "xkb_state_update_mask": (c_int, (c_void_p, *(c_uint32,) * 6)),
    "xkb_state_serialize_mods": (c_uint32, (c_void_p, c_int)),
    "xkb_state_key_get_one_sym": (c_uint32, (c_void_p, c_uint32)),
    "xkb_keysym_to_utf32": (c_uint32, (c_uint32,)),
}


@cache
def load_layout(layout: str, variant: str = "") -> Layout:
    """Compile a layout of xkb (``"de"``, variant ``"nodeadkeys"``) for a PC keyboard of 105 keys; raises NoLayout."""
    library = _library()
    context = library.xkb_context_new(0)
    if not context:
        raise NoLayout("libxkbcommon finds no keyboard layouts; install the package xkb-data")
    try:
        library.xkb_context_set_log_level(context, _LOG_CRITICAL)
        names = _Names(b"evdev", b"pc105", layout.encode(), variant.encode(), b"")
        # The rules map a layout that they do not know to nothing at all, so a name must be one word.
        keymap = library.xkb_keymap_new_from_names(context, byref(names), 0) if layout.isidentifier() else None
        if not keymap:
            what = f"{layout}({variant})" if variant else layout
            raise NoLayout(f"xkb has no layout {what!r}; /usr/share/X11/xkb/rules/base.lst lists them (xkb-data)")
        state = library.xkb_state_new(keymap)
        try:
            return _compiled(library, keymap, state)
        finally:
            library.xkb_state_unref(state)
            library.xkb_keymap_unref(keymap)
    finally:
        library.xkb_context_unref(context)


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libxkbcommon.so.0")
    except OSError:
        raise NoLayout("libxkbcommon.so.0 is missing; install the packages libxkbcommon0 and xkb-data") from None
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _compiled(library: ctypes.CDLL, keymap: int, state: int) -> Layout:
    shift, lock, num_lock = (
        1 << library.xkb_keymap_mod_get_index(keymap, name) for name in (b"Shift", b"Lock", b"Mod2")
    )
    level3 = 0
    if library.xkb_state_key_get_one_sym(state, _RIGHT_ALT + _EVDEV_OFFSET) == _LEVEL3_SHIFT:
        library.xkb_state_update_key(state, _RIGHT_ALT + _EVDEV_OFFSET, _KEY_DOWN)
        level3 = library.xkb_state_serialize_mods(state, _MODS_EFFECTIVE)
    characters: dict[int, str] = {}
    dead: dict[int, str] = {}
    for bits in range(8 if level3 else 4):
        held = (shift if bits & SHIFT else 0) | (level3 if bits & ALTGR else 0)
        locked = num_lock | (lock if bits & CAPS else 0)
        library.xkb_state_update_mask(state, held, 0, locked, 0, 0, 0)
        for code, keysym in _keysyms(library, state):
            if keysym in _DEAD:
                dead[code * 8 + bits] = _DEAD[keysym]
            elif (point := library.xkb_keysym_to_utf32(keysym)) >= 0x20 and point != 0x7F:
                characters[code * 8 + bits] = chr(point)
    return Layout(characters, dead, bool(level3))


def _keysyms(library: ctypes.CDLL, state: int) -> Iterator[tuple[int, int]]:
    """Every key that means something now: its Linux code and its keysym."""
    for code in _KEY_CODES:
        if keysym := library.xkb_state_key_get_one_sym(state, code + _EVDEV_OFFSET):
            yield code, keysym
