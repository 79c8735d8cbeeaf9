"""A virtual keyboard scanner: types on a unix socket in the kernel's `input_event` records.

It types as scanners do: each key pressed and released with its report mark, Shift or AltGr held where needed, a space
after a dead key, Ctrl with the second key right of P for GS (] on a US keyboard), Enter (or Tab, or nothing) at the
end. With `alt`, what no key types comes as Alt and a number of Windows-1252 on the keypad, leading zero first; GS then
as Alt+0+2+9. The host side is the `event-socket` transport.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from typing import Any

from drivers.virtual.key_rows import KEYBOARDS
from drivers.virtual.twin import BadRequest, Table, Twin, get
from drivers.virtual.wire import Wire

_EV_SYN, _EV_KEY, _EV_MSC = 0, 1, 4
_SYN_REPORT, _SYN_DROPPED, _MSC_SCAN = 0, 3, 4
_TAB, _ENTER, _CTRL, _ALT, _SPACE, _GS_PLACE = 15, 28, 29, 56, 57, 27
_KEYPAD = (82, 79, 80, 81, 75, 76, 77, 71, 72, 73)


class VirtualKeyboard(Twin):
    """Actions: scan, cut_scan (stops in the middle), lose_events (the kernel dropped some in the middle)."""

    kind = "keyboard"

    def __init__(
        self, name: str, wire: Wire, *, layout: str = "us", alt: bool = False, suffix: str = "enter", prefix: str = ""
    ) -> None:
        super().__init__(name, wire)
        if layout not in KEYBOARDS:
            raise ValueError(f"layout is {layout!r}; expected one of {', '.join(KEYBOARDS)}")
        self._layout = layout
        self._keyboard = KEYBOARDS[layout]
        self._alt = alt
        self._end = {"enter": _ENTER, "tab": _TAB, "none": None}[suffix]
        self._prefix = prefix
        self.scans = 0
        self.actions |= {"scan": self._scan, "cut_scan": self._cut_scan, "lose_events": self._lose_events}

    def frame(self, text: str, aim: str = "") -> bytes:
        """The key events of one scan; raises BadRequest for a character that no key has."""
        return self._typed(self._prefix + (f"]{aim}" if aim else "") + text) + self._ended()

    def scan(self, text: str, aim: str = "") -> None:
        """Scan a label; raises BadRequest for a character that no key has."""
        self.scans += 1
        self.wire.send(self.frame(text, aim))

    def _ended(self) -> bytes:
        return self._key(self._end) if self._end is not None else b""

    def state(self) -> Table:
        """Adds the number of labels scanned."""
        return {**super().state(), "scans": self.scans}

    def _typed(self, text: str) -> bytes:
        return b"".join(self._character(character) for character in text)

    def _character(self, character: str) -> bytes:
        if stroke := self._keyboard.strokes.get(character):
            return self._stroke(*stroke)
        if stroke := self._keyboard.dead.get(character):
            return self._stroke(*stroke) + self._stroke(_SPACE, ())
        if self._alt:
            try:
                (number,) = character.encode("cp1252")
            except UnicodeEncodeError:
                raise BadRequest(f"neither a key nor Alt types {character!r}; Windows-1252 does not have it") from None
            digits = b"".join(self._key(_KEYPAD[int(digit)]) for digit in f"0{number:02}")
            return self._down(_ALT) + digits + self._up(_ALT)
        if character == "\x1d":
            return self._stroke(_GS_PLACE, (_CTRL,))
        raise BadRequest(f"no key types {character!r} on a keyboard {self._layout!r}; give the twin alt=yes")

    def _stroke(self, code: int, held: tuple[int, ...]) -> bytes:
        down, up = (b"".join(map(move, held)) for move in (self._down, self._up))
        return down + self._key(code) + up

    def _down(self, modifier: int) -> bytes:
        return self._record(_EV_KEY, modifier, 1) + self._report()

    def _up(self, modifier: int) -> bytes:
        return self._record(_EV_KEY, modifier, 0) + self._report()

    def _key(self, code: int) -> bytes:
        pressed = self._record(_EV_MSC, _MSC_SCAN, 0x70000 + code) + self._record(_EV_KEY, code, 1) + self._report()
        return pressed + self._record(_EV_KEY, code, 0) + self._report()

    def _report(self) -> bytes:
        return self._record(_EV_SYN, _SYN_REPORT, 0)

    @staticmethod
    def _record(kind: int, code: int, value: int) -> bytes:
        microseconds = time.time_ns() // 1000
        return struct.pack("@llHHi", microseconds // 1_000_000, microseconds % 1_000_000, kind, code, value)

    async def _scan(self, arguments: Mapping[str, Any]) -> None:
        self.scan(get(arguments, "text", str), get(arguments, "aim", str, ""))

    async def _cut_scan(self, arguments: Mapping[str, Any]) -> None:
        text = get(arguments, "text", str)
        self.wire.send(self._typed(text[: max(1, len(text) // 2)]))

    async def _lose_events(self, arguments: Mapping[str, Any]) -> None:
        text = get(arguments, "text", str)
        middle = len(text) // 2
        lost = self._record(_EV_SYN, _SYN_DROPPED, 0) + self._report()
        self.wire.send(self._typed(text[:middle]) + lost + self._typed(text[middle + 1 :]) + self._ended())
