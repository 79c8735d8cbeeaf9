"""Pictures as a printer takes them: PNG to black dots, and dots to the command of the model.

    raster    1D 76 30 00 xL xH yL yH d...     GS v 0: rows of x bytes, highest bit leftmost
    columns   1B 2A m nL nH d... 0A            ESC *, m = 0: bands of 8 dots, column by column (impact printers)

A real printer looks for real-time commands (DLE EOT, DLE ENQ, DLE DC4) in whatever passes its line, pictures
included, and one of them opens the drawer. So one dot is added wherever the bytes of a picture would spell one; no
header begins one either, because a band is at most 512 rows high.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL.Image import Image

PictureCommand = Literal["raster", "columns"]

ROWS_PER_COMMAND = 512
WIDEST_DOTS, HIGHEST_DOTS = 2400, 4096
_PNG = b"\x89PNG\r\n\x1a\n"


def quiet_picture(data: bytes) -> bytes:
    """Return raster bytes without real-time commands: one dot is added to each DLE that begins one."""
    for second in (0x04, 0x05, 0x14):
        data = data.replace(bytes((0x10, second)), bytes((0x18, second)))
    return data


def from_png(png: bytes, width_dots: int) -> Image:
    """Read a PNG as black (0) and white dots, shrunk to `width_dots` if wider; greys become patterns of dots.

    What is transparent is white. Raises ValueError saying what is wrong. The size is read before anything is unpacked:
    at most 2400 x 4096 dots.
    """
    from PIL import Image, UnidentifiedImageError

    if not png.startswith(_PNG) or len(png) < 33:
        raise ValueError("the picture is no PNG that can be read")
    width, height = struct.unpack(">II", png[16:24])
    if not (0 < width <= WIDEST_DOTS and 0 < height <= HIGHEST_DOTS):
        raise ValueError(f"the picture has {width} x {height} dots, of at most {WIDEST_DOTS} x {HIGHEST_DOTS}")
    try:
        with Image.open(io.BytesIO(png), formats=("PNG",)) as picture:
            drawn = picture.convert("RGBA")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ValueError("the picture is no PNG that can be read") from error
    paper = Image.new("L", drawn.size, 255)
    paper.paste(drawn.convert("L"), mask=drawn.getchannel("A"))
    if width > width_dots:
        paper = paper.resize((width_dots, max(1, height * width_dots // width)), Image.Resampling.BOX)
    return paper.convert("1")


def from_modules(modules: str, narrow_dots: int, height_dots: int) -> Image:
    """The bars of a barcode: "1" is black, one character per module."""
    from PIL import Image

    row = Image.new("1", (len(modules), 1), 255)
    row.putdata([0 if module == "1" else 255 for module in modules])
    return row.resize((len(modules) * narrow_dots, height_dots), Image.Resampling.NEAREST)


def print_picture(picture: Image, command: PictureCommand) -> bytes:
    """The command that prints `picture` (mode "1", black is 0) where the alignment in force puts it."""
    return _columns(picture) if command == "columns" else _raster(picture)


def _inked(picture: Image, width: int, height: int) -> Image:
    """Black as 1, on a sheet of `width` x `height` dots."""
    from PIL import Image, ImageChops

    sheet = Image.new("1", (width, height), 0)
    sheet.paste(ImageChops.invert(picture), (0, 0))
    return sheet


def _raster(picture: Image) -> bytes:
    width_bytes = -(-picture.width // 8)
    rows = _inked(picture, width_bytes * 8, picture.height).tobytes()
    out = bytearray()
    for top in range(0, picture.height, ROWS_PER_COMMAND):
        height = min(ROWS_PER_COMMAND, picture.height - top)
        out += b"\x1d\x76\x30\x00" + struct.pack("<HH", width_bytes, height)
        out += quiet_picture(rows[top * width_bytes : (top + height) * width_bytes])
    return bytes(out)


def _columns(picture: Image) -> bytes:
    from PIL import Image

    bands = -(-picture.height // 8)
    sheet = _inked(picture, picture.width, bands * 8)
    out = bytearray(b"\x1b\x33\x10")  # line spacing: the height of a band, 16 half-dots
    for band in range(bands):
        strip = sheet.crop((0, band * 8, sheet.width, band * 8 + 8))
        columns = strip.transpose(Image.Transpose.TRANSPOSE).tobytes()  # a row of 8 dots is a byte: top is the high bit
        out += b"\x1b\x2a\x00" + struct.pack("<H", sheet.width) + quiet_picture(columns) + b"\n"
    return bytes(out + b"\x1b\x32")
