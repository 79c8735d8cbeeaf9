r"""NAME OF THE COMMAND SET: one line on which displays speak it.

Document: title, revision, pages. Line: 9600 8N1.

Draw every command that is used, byte by byte:

    0C              clear, cursor home
    1F n            cursor to cell n, from 0, row by row

State what happens at the end of a line and of the screen: does it wrap, or scroll? Say which settings survive without
power, and whether initialising blinks. Text is one byte per cell, already in the display's code page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivers.displays.base import Display, DisplayOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateDisplayOptions(DisplayOptions):
    """What a technician may set besides the options of all displays; every field has a default."""


class TemplateDisplay(Display):
    """Cells in, bytes out."""

    def initialise(self) -> bytes:
        """Clear the screen."""
        return b"\x0c"

    def paint(self, cells: Sequence[bytes]) -> bytes:
        """Each row after the cursor's move to its first cell."""
        columns = self.options.columns
        return b"".join(b"\x1f" + bytes((row * columns,)) + line for row, line in enumerate(cells))
