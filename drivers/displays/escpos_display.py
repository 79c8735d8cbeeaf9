r"""Customer displays that speak ESC/POS as Epson's DM-D series does.

Document: Epson DM-D110 Specification (STANDARD), section 5.4, sheets 37 to 56. Line: 9600 8N1 as delivered.

    1B 40           ESC @       initialise: settings as after power on, screen clear, cursor home (sheet 42)
    1B 3D n         ESC =       the host's data go to: 1 printer, 2 display, 3 both (sheet 41); 2 after power on
    1B 74 n         ESC t       code page n (sheet 45): 0 PC437, 1 katakana, 2 PC850, 3 PC860, 4 PC863, 5 PC865,
                                16 WPC1252, 17 PC866, 18 PC852, 19 PC858
    1F 01           US MD1      overwrite: the cursor goes from the end of the screen to its beginning, nothing scrolls
    1F 43 n         US C        cursor 0 off, 1 on
    1F 58 n         US X        brightness 1 to 4
    1F 24 x y       US $        cursor to column x, row y, both from 1
    0C              CLR         clear

What does not blink is sent with every picture, so that a display that was switched off and on shows the next one
right. Displays stand on a line of their own or share it with a printer that hangs behind them; ESC = 2 at the start
costs the former nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drivers.displays.base import SELECT_DISPLAY, Display, DisplayOptions
from drivers.displays.code_pages import CodePage

_PAGES: Mapping[CodePage, int] = {
    "cp437": 0,
    "ascii": 0,
    "katakana": 1,
    "cp850": 2,
    "cp860": 3,
    "cp863": 4,
    "cp865": 5,
    "cp1252": 16,
    "cp866": 17,
    "cp852": 18,
    "cp858": 19,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EscposDisplayOptions(DisplayOptions):
    """An ESC/POS display on a line of its own; options of all displays."""


class EscposDisplay(Display):
    """The command set of Epson's DM-D displays."""

    def initialise(self) -> bytes:
        """ESC = 2, ESC @, CLR."""
        return SELECT_DISPLAY + b"\x1b\x40\x0c"

    def paint(self, cells: Sequence[bytes]) -> bytes:
        """Settings, then each row after the cursor's move to its first column."""
        options = self.options
        settings = b"\x1b\x74" + bytes((_PAGES[options.code_page],)) + b"\x1f\x01\x1f\x43\x00"
        if options.brightness is not None:
            settings += b"\x1f\x58" + bytes((options.brightness,))
        rows = (b"\x1f\x24\x01" + bytes((row,)) + line for row, line in enumerate(cells, 1))
        return settings + b"".join(rows)
