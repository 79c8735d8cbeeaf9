"""What every customer display has: a size, a code page, an idle text, and the bytes of one picture.

Strategy: a picture is always the whole screen, every cell of it written, so that nothing of an earlier one can remain
and nothing flickers. A display says nothing: whether it is on, or was switched off and on in between, nobody can tell.
So a picture may be asked for `fresh`: it then begins with the display's initialisation. The idle picture always is,
and a display that lost its settings is right again with the next customer.

In no picture may DLE stand before EOT, ENQ or DC4: a printer that passes it on would obey that at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from drivers.displays.code_pages import CodePage, displayable, encode

SELECT_DISPLAY = b"\x1b\x3d\x02"
SELECT_PRINTER = b"\x1b\x3d\x01"
"""ESC = n, "select peripheral device": bit 0 printer, bit 1 display (Epson DM-D110 Specification, sheet 41)."""


Line = str | tuple[str, str]
"""A text at the left, or two: at the left, cut where there is no room, and at the right, whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayOptions:
    """What all displays take.

    `code_page` is what the display is set to, or is set to by us where the command set can. `brightness` 1 to 4 (about
    20, 40, 60 and 100 %); None: left as it is. `idle` are the lines shown when there is nothing to show; it comes back
    `idle_after_s` seconds after the last picture (0: never by itself). `decimal_point` is how amounts are written.
    """

    columns: int = 20
    rows: int = 2
    code_page: CodePage = "cp437"
    brightness: Literal[1, 2, 3, 4] | None = None
    idle: tuple[str, ...] = ()
    idle_after_s: int = 60
    decimal_point: Literal[".", ","] = "."

    def __post_init__(self) -> None:
        """Refuse screens that no display of these has, and an idle text that does not fit."""
        if not 16 <= self.columns <= 40:
            raise ValueError(f"columns: is {self.columns}; expected 16 to 40")
        if not 2 <= self.rows <= 4:
            raise ValueError(f"rows: is {self.rows}; expected 2 to 4")
        if len(self.idle) > self.rows:
            raise ValueError(f"idle: has {len(self.idle)} lines; the display has {self.rows}")
        if self.idle_after_s < 0:
            raise ValueError(f"idle_after_s: is {self.idle_after_s}; expected seconds, or 0 for never")


@dataclass(frozen=True, slots=True)
class Picture:
    """One whole screen: `lines` as a person reads them, their bytes, and the characters that had to be replaced."""

    lines: tuple[str, ...]
    data: bytes
    replaced: str = ""


class Display(ABC):
    """One command set; subclasses write the bytes."""

    def __init__(self, options: DisplayOptions) -> None:
        self.options = options

    def picture(self, lines: Sequence[Line], *, fresh: bool = False) -> Picture:
        """The picture of up to `rows` lines; longer texts are cut, missing lines are blank.

        Raises ValueError for a right part that does not fit: an amount is never cut.
        """
        options = self.options
        shown, replaced = [], ""
        for line in [*lines[: options.rows], *[""] * (options.rows - len(lines))]:
            left, right = (line, "") if isinstance(line, str) else line
            left, lost = displayable(left, options.code_page)
            right, also_lost = displayable(right, options.code_page)
            room = options.columns - len(right) - (1 if right else 0)
            if room < -1:
                raise ValueError(f"{right} does not fit: the display has {options.columns} columns")
            shown.append((left[: max(0, room)].ljust(options.columns - len(right)) + right)[: options.columns])
            replaced += lost + also_lost
        cells = [encode(line, options.code_page) for line in shown]
        data = (self.initialise() if fresh else b"") + self.paint(cells)
        return Picture(tuple(line.rstrip() for line in shown), data, replaced)

    @abstractmethod
    def initialise(self) -> bytes:
        """Bring the display to a known state; it may blink."""

    @abstractmethod
    def paint(self, cells: Sequence[bytes]) -> bytes:
        """Write every row, each exactly as wide as the display."""


def behind_printer(data: bytes) -> bytes:
    """A picture for a display that hangs behind a printer, in one piece: the next byte is the printer's again."""
    return SELECT_DISPLAY + data + SELECT_PRINTER
