"""Draws a strip of paper as a picture: characters in their cells, barcodes, QR codes and dots where they belong.

Codes are drawn dot for dot, so that a reader of codes reads them. What is wider than the paper is cut off at its edge.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from drivers.virtual.paper import Align, Bars, Gap, Item, Line, Matrix, Raster, Strip, Style

WIDTH_DOTS = 512
_MARGIN_DOTS = 24
_BLANK = 250
_FONTS = Path("/usr/share/fonts/truetype/dejavu")


def draw(strip: Strip, width_dots: int = WIDTH_DOTS) -> Image.Image:
    """Return the strip as a picture, one pixel per dot, with a margin of blank paper."""
    pieces = [piece for item in strip.items if (piece := _piece(item, width_dots)) is not None]
    height = sum(printed.height for printed, _ in pieces) + 2 * _MARGIN_DOTS
    paper = Image.new("L", (width_dots + 2 * _MARGIN_DOTS, height), _BLANK)
    top = _MARGIN_DOTS
    for printed, align in pieces:
        printed = printed.crop((0, 0, min(printed.width, width_dots), printed.height))
        free = width_dots - printed.width
        left = {"left": 0, "center": free // 2, "right": free}[align]
        paper.paste(printed, (_MARGIN_DOTS + left, top))
        top += printed.height
    return paper


def _piece(item: Item, width_dots: int) -> tuple[Image.Image, Align] | None:
    match item:
        case Line():
            return _line(item, width_dots), item.align
        case Raster():
            return _raster(item), item.align
        case Bars():
            return _bars(item, width_dots), item.align
        case Matrix():
            return _matrix(item), item.align
        case Gap():
            return (_blank(1, item.dots), "left") if item.dots else None


def _blank(width: int, height: int) -> Image.Image:
    return Image.new("L", (max(1, width), max(1, height)), _BLANK)


@cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    path = _FONTS / ("DejaVuSansMono-Bold.ttf" if bold else "DejaVuSansMono.ttf")
    return ImageFont.truetype(path, size) if path.exists() else ImageFont.load_default(size)


@cache
def _character(character: str, style: Style) -> Image.Image:
    width, height = style.cell_dots
    cell = _blank(width // style.width, height // style.height)
    font = _font(cell.height * 5 // 6, style.bold)
    ImageDraw.Draw(cell).text((cell.width / 2, cell.height * 0.8), character, 0, font, anchor="ms")
    cell = cell.resize((width, height), Image.Resampling.NEAREST)
    if style.underline:
        ImageDraw.Draw(cell).line((0, height - 1, width, height - 1), 0)
    if style.upside_down:
        cell = cell.rotate(180)
    return ImageOps.invert(cell) if style.invert else cell


def _line(line: Line, width_dots: int) -> Image.Image:
    cells = [_character(character, style) for text, style in line.runs for character in text]
    if any(style.upside_down for _, style in line.runs):
        cells.reverse()
    rows: list[list[Image.Image]] = [[]]
    for cell in cells:  # a printer starts a new line where the old one is full
        if rows[-1] and sum(other.width for other in rows[-1]) + cell.width > width_dots:
            rows.append([])
        rows[-1].append(cell)
    heights = [max((cell.height for cell in row), default=24) for row in rows]
    widths = [sum(cell.width for cell in row) for row in rows]
    feeds = [max(height, line.spacing_dots) for height in heights]
    picture = _blank(max(widths), sum(feeds))
    top = 0
    for row, height, feed in zip(rows, heights, feeds, strict=True):
        left = 0
        for cell in row:
            picture.paste(cell, (left, top + height - cell.height))
            left += cell.width
        top += feed
    return picture


def _raster(raster: Raster) -> Image.Image:
    size = (raster.width_bytes * 8, raster.height_dots)
    needed = raster.width_bytes * raster.height_dots
    dots = Image.frombytes("1", size, raster.data[:needed].ljust(needed, b"\0"))
    grey = Image.new("L", size, _BLANK)
    grey.paste(0, mask=dots)
    x, y = raster.scale
    return grey.resize((size[0] * x, size[1] * y), Image.Resampling.NEAREST)


def _bars(bars: Bars, width_dots: int) -> Image.Image:
    caption = _line(Line(((bars.caption, Style()),), "center"), width_dots)
    above = caption.height if bars.text in ("above", "both") else 0
    below = caption.height if bars.text in ("below", "both") else 0
    width = max(len(bars.dots), caption.width if above or below else 0)
    picture = _blank(width, bars.height_dots + above + below)
    row = Image.new("L", (len(bars.dots), 1))
    row.putdata([0 if dot == "1" else _BLANK for dot in bars.dots])
    picture.paste(row.resize((row.width, bars.height_dots)), ((width - row.width) // 2, above))
    for there, top in ((above, 0), (below, above + bars.height_dots)):
        if there:
            picture.paste(caption, ((width - caption.width) // 2, top))
    return picture


def _matrix(matrix: Matrix) -> Image.Image:
    import qrcode

    levels = {"L": qrcode.ERROR_CORRECT_L, "M": qrcode.ERROR_CORRECT_M}
    levels |= {"Q": qrcode.ERROR_CORRECT_Q, "H": qrcode.ERROR_CORRECT_H}
    code = qrcode.QRCode(error_correction=levels[matrix.level], border=2)
    code.add_data(matrix.data)
    rows = code.get_matrix()
    picture = _blank(len(rows), len(rows))
    for y, row in enumerate(rows):
        for x, dark in enumerate(row):
            if dark:
                picture.putpixel((x, y), 0)
    side = len(rows) * matrix.module_dots
    return picture.resize((side, side), Image.Resampling.NEAREST)
