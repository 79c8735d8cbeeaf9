r"""Keyboard scanners: `input_event` records of the kernel in, `Scan` out.

One record, in the machine's own byte order and word size (linux/input.h, struct input_event):

    long seconds | long microseconds | u16 type | u16 code | s32 value        24 bytes on 64 bits, 16 on 32

Type 1 is a key: value 1 pressed, 0 released, 2 repeated. Type 0 code 3 (SYN_DROPPED) says that the kernel had
to throw events away: what has been collected is a shorter code than the one on the label, so it and
everything up to the next end key are discarded and reported.

Beside plain keys, scanners type characters that no key has in two ways, both understood: Ctrl+] for GS, and
Alt with digits of the keypad (Alt+0+2+9 is GS, which stands for FNC1 within GS1 data).

The strategy: keep modifiers and the text so far; judge the code when Enter (or Tab) comes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from drivers.events import Event, Noise, Scan
from drivers.scanners import keys

RECORD = struct.Struct("llHHi")
GAP_CUTS_CODE_MS = 1000
CODE_LIMIT_CHARACTERS = 8192
_EV_SYN, _EV_KEY, _SYN_DROPPED = 0, 1, 3
_KEY_EVENT = struct.Struct(">HB")

_SHIFTS = frozenset((keys.LEFT_SHIFT, keys.RIGHT_SHIFT))
_CTRLS = frozenset((keys.LEFT_CTRL, keys.RIGHT_CTRL))
_ALTS = frozenset((keys.LEFT_ALT, keys.RIGHT_ALT))


@dataclass(frozen=True, slots=True)
class KeyboardScannerOptions:
    """`layout` is the keyboard that the scanner was programmed to be; `suffix` the key that ends a code."""

    layout: Literal["us"] = "us"
    suffix: Literal["enter", "tab"] = "enter"


class KeyboardScanner:
    """Key events of one scanner in, `Scan` and `Noise` out."""

    def __init__(self, options: KeyboardScannerOptions | None = None) -> None:
        options = options or KeyboardScannerOptions()
        self._layout = keys.LAYOUTS[options.layout]
        self._ends = frozenset((keys.TAB,) if options.suffix == "tab" else (keys.ENTER, keys.KEYPAD_ENTER))
        self._records = bytearray()
        self._held: set[int] = set()
        self._caps = False
        self._dropping = False
        self._begin()
        self.idle_ms: int | None = GAP_CUTS_CODE_MS

    @property
    def pending(self) -> bool:
        """True while a code is begun and not ended."""
        return bool(self._raw) or bool(self._records)

    def receive(self, data: bytes) -> Sequence[Event]:
        """Take records, split anywhere; return one event per code that ended."""
        self._records += data
        whole = len(self._records) - len(self._records) % RECORD.size
        chunk = bytes(self._records[:whole])
        del self._records[:whole]
        events: list[Event] = []
        for _, _, kind, code, value in RECORD.iter_unpack(chunk):
            if kind == _EV_KEY and value in (0, 1):
                event = self._key(code, value)
            elif kind == _EV_SYN and code == _SYN_DROPPED:
                event = self._dropped()
            else:
                continue  # repeats, scan codes and report marks say nothing more
            if event is not None:
                events.append(event)
        return events

    def idle(self) -> Sequence[Event]:
        """Silence in the middle of a code: its end will never come."""
        return self.cut_off()

    def cut_off(self) -> Sequence[Event]:
        """Forget everything, keys held down included; a code begun is reported."""
        raw, begun = bytes(self._raw), bool(self._text)
        self._records.clear()
        self._held.clear()
        self._dropping = False
        self._begin()
        return [Noise(raw, "cut off")] if begun else []

    def _begin(self) -> None:
        self._text: list[str] = []
        self._raw = bytearray()
        self._digits = ""
        self._fault: str | None = None

    def _dropped(self) -> Event:
        raw = bytes(self._raw)
        self._held.clear()
        self._begin()
        self._dropping = True
        return Noise(raw, "key events were lost in the kernel")

    def _key(self, code: int, value: int) -> Event | None:
        if self._dropping:
            if value == 1 and code in self._ends:
                self._dropping = False
            return None
        if code in _SHIFTS or code in _CTRLS or code in _ALTS:
            self._modifier(code, value)
            return None
        if value == 0:
            return None
        if code in self._ends:
            return self._end(code)
        if code == keys.CAPS_LOCK:
            self._caps = not self._caps
        elif code != keys.NUM_LOCK and len(self._text) < CODE_LIMIT_CHARACTERS:
            self._raw += _KEY_EVENT.pack(code, value)
            self._typed(code)
        elif code != keys.NUM_LOCK:
            self._fault = f"longer than {CODE_LIMIT_CHARACTERS} characters"
        return None

    def _modifier(self, code: int, value: int) -> None:
        if value == 1:
            self._held.add(code)
        else:
            self._held.discard(code)
        if self._text or self._digits:
            self._raw += _KEY_EVENT.pack(code, value)
        if value == 0 and code in _ALTS and self._digits:
            number = int(self._digits)
            page = "cp1252" if self._digits.startswith("0") else "cp437"
            try:
                self._text.append(bytes((number,)).decode(page))
            except (ValueError, UnicodeDecodeError):
                self._fault = f"Alt+{self._digits} is no character"
            self._digits = ""

    def _typed(self, code: int) -> None:
        held = self._held
        if held & _ALTS:
            digit = keys.KEYPAD.get(code, "")
            if digit.isdigit() and len(self._digits) < 4:
                self._digits += digit
            else:
                self._fault = f"key {code} with Alt means nothing"
            return
        character = keys.KEYPAD.get(code)
        if character is None:
            pair = self._layout.get(code)
            if pair is None:
                self._fault = f"key {code} means nothing on this layout"
                return
            shifted = bool(held & _SHIFTS)
            if self._caps and pair[0].isalpha():
                shifted = not shifted
            character = pair[shifted]
        if held & _CTRLS:
            if character != "]":
                self._fault = f"Ctrl+{character} means nothing in a code"
            character = "\x1d"
        self._text.append(character)

    def _end(self, code: int) -> Event | None:
        raw = bytes(self._raw) + _KEY_EVENT.pack(code, 1)
        text, fault = "".join(self._text), self._fault
        self._begin()
        if fault is not None:
            return Noise(raw, fault)
        if not text:
            return None
        aim = None
        if len(text) > 3 and text[0] == "]" and text[1].isalpha() and text[2].isalnum() and text[:3].isascii():
            aim, text = text[1:3], text[3:]
        if any(character < " " and character != "\x1d" for character in text):
            return Noise(raw, "control characters in a code")
        return Scan(text, raw, aim)
