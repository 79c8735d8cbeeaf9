r"""Customer displays that speak the CD5220 command set (Partner, Logic Controls, Bematech, Firich, POS-X and more).

Document: Partner CD5220 User's Manual, section 6.1 (command list), pages 10 and 11; Logic Controls / Bematech LDX1000
manual, pages 46 and 47 (CD5220 mode). Line: 9600 8N1 as delivered.

    1B 51 41 20*c 0D   ESC Q A ... CR   string mode, write the upper line
    1B 51 42 20*c 0D   ESC Q B ... CR   string mode, write the lower line
    0C                 CLR              clear, and leave string mode: in it nothing but ESC Q and CLR is obeyed
    1B 40              ESC @            initialise
    1B 2A n            ESC * n          brightness 1 to 4
    1B 5F n            ESC _ n          cursor 0 off, 1 on
    1B 6C x y          ESC l x y        cursor to column x, row y, both from 1
    1B 11              ESC DC1          overwrite mode

The two lines of 20 that most have are written in string mode; other sizes with ESC l. The set has no command for a
code page: it is chosen by switches, or by a command of the maker's (`select`, for example "1b7413" where ESC t works).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from drivers.displays.base import Display, DisplayOptions

_CLEAR, _INITIALISE, _CURSOR_OFF, _OVERWRITE = b"\x0c", b"\x1b\x40", b"\x1b\x5f\x00", b"\x1b\x11"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cd5220DisplayOptions(DisplayOptions):
    """`select` is sent after initialising: the maker's own command for the code page, in hexadecimal digits."""

    select: str = ""

    def __post_init__(self) -> None:
        """Refuse what is no hexadecimal text."""
        DisplayOptions.__post_init__(self)
        try:
            bytes.fromhex(self.select)
        except ValueError:
            raise ValueError(f"select: is {self.select!r}; expected bytes in hexadecimal digits") from None


class Cd5220Display(Display):
    """The CD5220 command set."""

    @cached_property
    def _select(self) -> bytes:
        return bytes.fromhex(getattr(self.options, "select", ""))

    def initialise(self) -> bytes:
        """Leave string mode, then set everything anew."""
        brightness = self.options.brightness
        dim = b"\x1b\x2a" + bytes((brightness,)) if brightness is not None else b""
        return _CLEAR + _INITIALISE + _OVERWRITE + _CURSOR_OFF + dim + self._select

    def paint(self, cells: Sequence[bytes]) -> bytes:
        """String mode for two lines of 20, else each row after the cursor's move."""
        if (self.options.columns, self.options.rows) == (20, 2):
            return b"\x1b\x51\x41" + cells[0] + b"\r\x1b\x51\x42" + cells[1] + b"\r"
        return b"".join(b"\x1b\x6c\x01" + bytes((row,)) + line for row, line in enumerate(cells, 1))
