"""The paper of a virtual printer: what is on it, strip by strip, and its text.

Printing appends to the strip that hangs out of the printer; a cut ends it and makes it a receipt. Dots are
those of a thermal head (512 of them across, unless the printer is told otherwise); a character of font A is 12 by 24.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Align = Literal["left", "center", "right"]


@dataclass(frozen=True, slots=True)
class Style:
    """How characters look. `width` and `height` are multiples of the normal size."""

    bold: bool = False
    underline: bool = False
    invert: bool = False
    small: bool = False
    width: int = 1
    height: int = 1
    upside_down: bool = False

    @property
    def cell_dots(self) -> tuple[int, int]:
        """Width and height of one character."""
        width, height = (9, 17) if self.small else (12, 24)
        return width * self.width, height * self.height


@dataclass(frozen=True, slots=True)
class Line:
    """One printed line: runs of characters in one style each; the paper moves on by at least `spacing_dots`."""

    runs: tuple[tuple[str, Style], ...]
    align: Align
    spacing_dots: int = 30


@dataclass(frozen=True, slots=True)
class Raster:
    """Black and white dots, row by row, eight to a byte, highest bit leftmost. `scale` multiplies x and y."""

    width_bytes: int
    height_dots: int
    data: bytes
    align: Align
    scale: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True)
class Bars:
    """A barcode as the printer was told to draw it: `data` as sent, `dots` the black ones of one row of it."""

    symbology: str
    data: bytes
    caption: str
    dots: str
    height_dots: int
    text: Literal["none", "above", "below", "both"]
    align: Align


@dataclass(frozen=True, slots=True)
class Matrix:
    """A QR code."""

    data: str
    module_dots: int
    level: str
    align: Align


@dataclass(frozen=True, slots=True)
class Gap:
    """Paper fed without printing."""

    dots: int


Item = Line | Raster | Bars | Matrix | Gap


@dataclass(slots=True)
class Strip:
    """What is printed since the last cut."""

    items: list[Item] = field(default_factory=list)

    def text(self) -> str:
        """What a person would read aloud; codes and pictures in brackets."""
        lines: list[str] = []
        for item in self.items:
            match item:
                case Line():
                    lines.append("".join(text for text, _ in item.runs).rstrip())
                case Raster():
                    lines.append(f"[picture {item.width_bytes * 8} x {item.height_dots}]")
                case Bars():
                    lines.append(f"[{item.symbology} {item.caption}]")
                case Matrix():
                    lines.append(f"[QR {item.data}]")
                case Gap():
                    lines += [""] * (item.dots // 30)
        return "\n".join(lines).strip("\n")
