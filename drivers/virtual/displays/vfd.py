"""Draws a vacuum fluorescent display: green-blue characters in dark cells, as bright as they are set."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

_CELL = (18, 30)
_GAP = 4
_MARGIN = 14
_FONT = Path("/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf")
_GLASS, _DARK_CELL, _LIGHT = (12, 16, 16), (20, 28, 28), (90, 255, 210)
_SHARE = {1: 0.35, 2: 0.55, 3: 0.75, 4: 1.0}


def draw(cells: Sequence[Sequence[str]], brightness: int) -> Image.Image:
    """The picture of these cells."""
    width = 2 * _MARGIN + len(cells[0]) * (_CELL[0] + _GAP) - _GAP
    height = 2 * _MARGIN + len(cells) * (_CELL[1] + 2 * _GAP) - 2 * _GAP
    picture = Image.new("RGB", (width, height), _GLASS)
    pen = ImageDraw.Draw(picture)
    light = tuple(int(part * _SHARE[brightness]) for part in _LIGHT)
    for row, line in enumerate(cells):
        for column, character in enumerate(line):
            left = _MARGIN + column * (_CELL[0] + _GAP)
            top = _MARGIN + row * (_CELL[1] + 2 * _GAP)
            pen.rectangle((left, top, left + _CELL[0] - 1, top + _CELL[1] - 1), _DARK_CELL)
            if character != " ":
                pen.text((left + _CELL[0] / 2, top + _CELL[1] * 0.78), character, light, _font(), anchor="ms")
    return picture


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.truetype(_FONT, 26) if _FONT.exists() else ImageFont.load_default(26)
