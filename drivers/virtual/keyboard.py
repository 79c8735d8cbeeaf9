"""A virtual keyboard scanner: types on a unix socket in the kernel's `input_event` records.

It types as scanners do on a US keyboard: each key pressed and released with its report mark, shift held where
needed, Ctrl+] for GS, Enter at the end. The host side is the `event-socket` transport.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from typing import Any

from drivers.virtual.twin import BadRequest, Table, Twin, get
from drivers.virtual.wire import Wire

_EV_SYN, _EV_KEY, _EV_MSC = 0, 1, 4
_SYN_REPORT, _SYN_DROPPED, _MSC_SCAN = 0, 3, 4
_ENTER, _SHIFT, _CTRL = 28, 42, 29

# Rows of a US keyboard: the key code of the first key, then the characters without and with shift.
_ROWS = (
    (2, "1234567890-=", "!@#$%^&*()_+"),
    (16, "qwertyuiop[]", "QWERTYUIOP{}"),
    (30, "asdfghjkl;'`", 'ASDFGHJKL:"~'),
    (43, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    (57, " ", " "),
)
_KEYS = {
    character: (first + place, held)
    for first, plain, shifted in reversed(_ROWS)
    for row, held in ((shifted, _SHIFT), (plain, 0))
    for place, character in enumerate(row)
} | {"\x1d": (27, _CTRL)}


class VirtualKeyboard(Twin):
    """Actions: scan, cut_scan (stops in the middle), lose_events (the kernel dropped some in the middle)."""

    kind = "keyboard"

    def __init__(self, name: str, wire: Wire) -> None:
        super().__init__(name, wire)
        self.scans = 0
        self.actions |= {"scan": self._scan, "cut_scan": self._cut_scan, "lose_events": self._lose_events}

    def scan(self, text: str, aim: str = "") -> None:
        """Scan a label; raises BadRequest for a character that no key has."""
        self.scans += 1
        self.wire.send(self._typed(f"]{aim}{text}" if aim else text) + self._key(_ENTER))

    def state(self) -> Table:
        """Adds the number of labels scanned."""
        return {**super().state(), "scans": self.scans}

    def _typed(self, text: str) -> bytes:
        data = b""
        for character in text:
            if character not in _KEYS:
                raise BadRequest(f"no key types {character!r}; a US keyboard has ASCII and GS")
            code, held = _KEYS[character]
            if held:
                data += self._record(_EV_KEY, held, 1) + self._report()
            data += self._key(code)
            if held:
                data += self._record(_EV_KEY, held, 0) + self._report()
        return data

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
        self.wire.send(self._typed(text[:middle]) + lost + self._typed(text[middle + 1 :]) + self._key(_ENTER))
