"""Text as a picture, on the same grid of character cells as the printer's own characters.

Letters of scripts that stand one by one keep to the cells (a Han character, a kana or a Hangul syllable takes two), so
that columns stay aligned with lines that the printer sets itself. Joined and stacked scripts (Arabic, Hebrew, Thai) are
shaped as a run and take the room that they need, in dots. Sizes are made as printers make them: dots are doubled.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from drivers.printers.bidi import Run, visual_runs
from drivers.printers.fonts import MONO, Face, face_for, font, needs_shaping

if TYPE_CHECKING:
    from PIL.Image import Image

WHITE = 255
_NO_LINE_BEGINS_WITH = frozenset("、。，．！？：；）」』】〕〉》ー々ぁぃぅぇぉっゃゅょァィゥェォッャュョ)!?,.:;%")


@dataclass(frozen=True, slots=True)
class Look:
    """How a line looks; `width` and `height` are multiples of the normal character."""

    bold: bool = False
    underline: bool = False
    invert: bool = False
    width: int = 1
    height: int = 1


@dataclass(frozen=True, slots=True)
class Placed:
    """A text that begins `left` dots from the left edge, before it is widened; `base` is its paragraph's direction."""

    left: int
    text: str
    base: int | None = None


def cells(text: str) -> int:
    """How many character cells `text` takes: two for wide East Asian characters, none for marks."""
    if text.isascii():
        return len(text)
    return sum(_cells(one) for one in text)


def wrap(text: str, limit: int, measure: Callable[[str], int]) -> list[str]:
    """Break one paragraph into lines that measure at most `limit`; spaces at a break are left out.

    Lines break at spaces and around East Asian characters; a word that is longer than a line breaks anywhere.
    """
    if measure(text) <= limit:
        return [text]
    lines = [""]
    for word in _words(text):
        if measure((lines[-1] + word).rstrip()) <= limit:
            lines[-1] += word
            continue
        if lines[-1].strip():
            lines.append("")
        if measure(word.rstrip()) <= limit:
            lines[-1] += word
            continue
        for cluster in _clusters(word):
            if lines[-1] and measure((lines[-1] + cluster).rstrip()) > limit:
                lines.append("")
            lines[-1] += cluster
    return [line.rstrip() for line in lines if line.strip()] or [""]


class Typesetter:
    """Draws lines for one size of character cell, `cell_dots` wide and twice as high."""

    def __init__(self, cell_dots: int) -> None:
        self.cell_dots = cell_dots
        self.line_dots = cell_dots * 5 // 2
        self._deeper_dots = cell_dots // 4  # for the few that reach below the line: vowels under deep letters
        self._baseline = cell_dots * 23 // 12

    def measure(self, text: str, base: int | None = None) -> int:
        """Width of `text` in dots at normal size."""
        return sum(self._width(piece) for piece in _pieces(text, base))

    def draw(self, parts: Sequence[Placed], width_dots: int, look: Look) -> Image:
        """One line, black (0) on white in mode "1", `width_dots * look.width` wide."""
        from PIL import Image, ImageChops, ImageDraw

        line = Image.new("1", (width_dots, self.line_dots + self._deeper_dots), WHITE)
        pen = ImageDraw.Draw(line)
        for part in parts:
            left = part.left
            for piece in _pieces(part.text, part.base):
                self._put(line, left, piece)
                left += self._width(piece)
            if look.underline:
                bottom = self._baseline + self.cell_dots // 3
                pen.line((part.left, bottom, left - 1, bottom), 0)
        ink = ImageChops.invert(line).getbbox()
        line = line.crop((0, 0, width_dots, max(self.line_dots, ink[3] if ink else 0)))
        if look.bold:
            shifted = Image.new("1", line.size, WHITE)
            shifted.paste(line, (1, 0))
            line = ImageChops.logical_and(line, shifted)
        if look.invert:
            line = ImageChops.invert(line)
        if (look.width, look.height) != (1, 1):
            size = (line.width * look.width, line.height * look.height)
            line = line.resize(size, Image.Resampling.NEAREST)
        return line

    def _width(self, piece: _Piece) -> int:
        if not piece.shaped:
            return cells(piece.text) * self.cell_dots
        return _length(piece, self._size(piece.face))

    def _size(self, face: Face) -> int:
        return round(face.em_cells * self.cell_dots)

    def _put(self, line: Image, left: int, piece: _Piece) -> None:
        if piece.shaped:
            self._paste(line, left, piece, None)
            return
        for cluster in _clusters(piece.text):
            room = cells(cluster) * self.cell_dots
            if not cluster.isspace():
                self._paste(line, left, _Piece(cluster, piece.face, False, len(cluster) > 1), room)
            left += room

    def _paste(self, line: Image, left: int, piece: _Piece, room: int | None) -> None:
        ink = _ink(piece, self._size(piece.face), room)
        if ink is not None:
            dots, x, y = ink
            line.paste(0, (left + x, self._baseline + y), dots)


@cache
def typesetter(cell_dots: int) -> Typesetter:
    """The typesetter for cells of this width."""
    return Typesetter(cell_dots)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Text in one font and one direction; `shaped`: drawn as one, not cell by cell."""

    text: str
    face: Face
    right_to_left: bool
    shaped: bool


def _pieces(text: str, base: int | None) -> Iterator[_Piece]:
    """The pieces of a line from left to right."""
    for run in visual_runs(text, base):
        pieces = _of_run(run)
        yield from reversed(pieces) if run.right_to_left else pieces


@lru_cache(512)
def _of_run(run: Run) -> list[_Piece]:
    pieces: list[_Piece] = []
    for cluster in _clusters(run.text):
        face = face_for(cluster[0], run.right_to_left) or MONO
        shaped = run.right_to_left or any(needs_shaping(one) for one in cluster)
        last = pieces[-1] if pieces else None
        if last is not None and last.face == face and last.shaped == shaped:
            pieces[-1] = _Piece(last.text + cluster, face, run.right_to_left, shaped)
        else:
            pieces.append(_Piece(cluster, face, run.right_to_left, shaped))
    return pieces


@lru_cache(512)
def _length(piece: _Piece, size: int) -> int:
    """In dots, with what stands out at either end."""
    loaded = font(piece.face, size, shaped=True)
    if loaded is None:
        return 0
    direction = "rtl" if piece.right_to_left else "ltr"
    left, _, right, _ = loaded.getbbox(piece.text, anchor="ls", direction=direction)
    return math.ceil(max(right, loaded.getlength(piece.text, direction=direction)) - min(0, left))


@lru_cache(2048)
def _ink(piece: _Piece, size: int, room: int | None) -> tuple[Image, int, int] | None:
    """The dots of a piece (or of one character in the middle of its `room`) and where they go, from the baseline."""
    from PIL import Image, ImageDraw

    loaded = font(piece.face, size, shaped=piece.shaped)
    if loaded is None:
        return None
    direction = ("rtl" if piece.right_to_left else "ltr") if piece.shaped else None
    left, top, right, bottom = (int(edge) for edge in loaded.getbbox(piece.text, anchor="ls", direction=direction))
    if right <= left or bottom <= top:
        return None
    dots = Image.new("1", (right - left, bottom - top), 0)
    pen = ImageDraw.Draw(dots)
    pen.fontmode = "1"
    pen.text((-left, -top), piece.text, 1, loaded, anchor="ls", direction=direction)
    if room is None:
        left = max(0, left)
    else:
        left += round((room - loaded.getlength(piece.text, direction=direction)) / 2)
    return dots, left, top


def _cells(character: str) -> int:
    if unicodedata.east_asian_width(character) in "WF":
        return 2
    return 0 if unicodedata.category(character) in ("Mn", "Me", "Cf") else 1


def _clusters(text: str) -> Iterator[str]:
    """Characters together with the marks that stand on them."""
    if text.isascii():
        yield from text
        return
    start = 0
    for at in range(1, len(text) + 1):
        if at == len(text) or _cells(text[at]) > 0:
            if start < at:
                yield text[start:at]
            start = at


def _words(text: str) -> Iterator[str]:
    """What a line may not break within, each with the spaces behind it."""
    word = ""
    for cluster in _clusters(text):
        wide = _cells(cluster[0]) == 2
        after_space = word[-1:].isspace() and not cluster.isspace()
        after_wide = bool(word) and _cells(word[-1]) == 2 and not cluster.isspace()
        may_break = after_wide or (wide and not word.isspace())
        if word and (after_space or (may_break and cluster[0] not in _NO_LINE_BEGINS_WITH)):
            yield word
            word = ""
        word += cluster
    if word:
        yield word
