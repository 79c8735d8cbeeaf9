"""Draws a strip of paper as a picture: characters in their cells, barcodes, QR codes and dots where they belong."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from drivers.virtual.paper import Align, Bars, Gap, Item, Line, Matrix, Raster, Strip, Style

WIDTH_DOTS = 512
_MARGIN_DOTS = 24
_LINE_GAP_DOTS = 6
_FONTS = Path("/usr/share/fonts/truetype/dejavu")
_BARCODE_NAMES = {"EAN13": "ean13", "EAN8": "ean8", "UPC-A": "upca", "CODE39": "code39", "CODE128": "code128"}


def draw(strip: Strip) -> Image.Image:
    """Return the strip as a picture, one pixel per dot, with a margin of blank paper."""
    pieces = [piece for item in strip.items if (piece := _piece(item)) is not None]
    height = sum(printed.height for printed, _ in pieces) + 2 * _MARGIN_DOTS
    paper = Image.new("L", (WIDTH_DOTS + 2 * _MARGIN_DOTS, height), 250)
    top = _MARGIN_DOTS
    for printed, align in pieces:
        free = WIDTH_DOTS - printed.width
        left = {"left": 0, "center": free // 2, "right": free}[align]
        paper.paste(printed, (_MARGIN_DOTS + left, top))
        top += printed.height
    return paper


def _piece(item: Item) -> tuple[Image.Image, Align] | None:
    match item:
        case Line():
            return _line(item), item.align
        case Raster():
            return _raster(item), item.align
        case Bars():
            return _bars(item), item.align
        case Matrix():
            return _matrix(item), item.align
        case Gap():
            return (_blank(1, item.dots), "left") if item.dots else None


def _blank(width: int, height: int) -> Image.Image:
    return Image.new("L", (max(1, width), max(1, height)), 250)


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
    return ImageOps.invert(cell) if style.invert else cell


def _line(line: Line) -> Image.Image:
    cells = [_character(character, style) for text, style in line.runs for character in text]
    rows: list[list[Image.Image]] = [[]]
    for cell in cells:  # a printer starts a new line where the old one is full
        if rows[-1] and sum(other.width for other in rows[-1]) + cell.width > WIDTH_DOTS:
            rows.append([])
        rows[-1].append(cell)
    heights = [max((cell.height for cell in row), default=24) + _LINE_GAP_DOTS for row in rows]
    widths = [sum(cell.width for cell in row) for row in rows]
    picture = _blank(max(widths), sum(heights))
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for cell in row:
            picture.paste(cell, (left, top + height - _LINE_GAP_DOTS - cell.height))
            left += cell.width
        top += height
    return picture


def _raster(raster: Raster) -> Image.Image:
    size = (raster.width_bytes * 8, raster.height_dots)
    needed = raster.width_bytes * raster.height_dots
    dots = Image.frombytes("1", size, raster.data[:needed].ljust(needed, b"\0"))
    grey = ImageOps.invert(dots.convert("L"))
    x, y = raster.scale
    return grey.resize((size[0] * x, size[1] * y), Image.Resampling.NEAREST)


def _bars(bars: Bars) -> Image.Image:
    import barcode
    from barcode.errors import BarcodeError

    name = _BARCODE_NAMES.get(bars.symbology)
    try:
        modules = barcode.get_barcode_class(name)(bars.data).build()[0] if name else ""
    except BarcodeError:
        modules = ""
    caption = _line(Line(((bars.data, Style(small=True)),), "center"))
    picture = _blank(max(len(modules) * bars.module_dots, caption.width), bars.height_dots + 2 * caption.height)
    pen = ImageDraw.Draw(picture)
    left = (picture.width - len(modules) * bars.module_dots) // 2
    for index, module in enumerate(modules):
        if module == "1":
            x = left + index * bars.module_dots
            pen.rectangle((x, caption.height, x + bars.module_dots - 1, caption.height + bars.height_dots), 0)
    if bars.text in ("above", "both") or not modules:
        picture.paste(caption, ((picture.width - caption.width) // 2, 0))
    if bars.text in ("below", "both"):
        picture.paste(caption, ((picture.width - caption.width) // 2, picture.height - caption.height + 4))
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
