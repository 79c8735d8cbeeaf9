"""QR codes: the command of printers that draw them, a picture for those that do not.

Document: Epson ESC/POS command reference, GS ( k functions 165 (model), 167 (module size), 169 (error correction), 180
(store) and 181 (print). A code that is wider than the paper is printed by no printer, so its size is found out before.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from PIL.Image import Image

Level = Literal["L", "M", "Q", "H"]

QUIET_MODULES = 4


def width_modules(data: str, level: Level) -> int:
    """How many modules wide the code is, without its quiet zone; raises ValueError when no code holds `data`."""
    return 17 + 4 * int(_code(data, level).version)


def command(data: str, size: int, level: Level) -> bytes:
    """Have the printer draw it, `size` dots to a module."""
    content = data.encode("utf-8")
    if re.search(rb"\x10[\x04\x05\x14]", content):
        raise ValueError("the QR code holds control characters that a printer would obey; leave out U+0010")
    parts = (b"1A2\x00", b"1C" + bytes((size,)), b"1E" + bytes((48 + "LMQH".index(level),)), b"1P0" + content, b"1Q0")
    return b"".join(b"\x1d(k" + struct.pack("<H", len(part)) + part for part in parts)


def picture(data: str, size: int, level: Level) -> Image:
    """The code with its quiet zone, black (0) on white."""
    from PIL import Image

    code = _code(data, level)
    rows = code.get_matrix()
    small = Image.new("1", (len(rows), len(rows)), 255)
    small.putdata([0 if dark else 255 for row in rows for dark in row])
    return small.resize((len(rows) * size, len(rows) * size), Image.Resampling.NEAREST)


def _code(data: str, level: Level) -> Any:
    import qrcode
    from qrcode.exceptions import DataOverflowError

    levels = {"L": qrcode.ERROR_CORRECT_L, "M": qrcode.ERROR_CORRECT_M}
    levels |= {"Q": qrcode.ERROR_CORRECT_Q, "H": qrcode.ERROR_CORRECT_H}
    code = qrcode.QRCode(error_correction=levels[level], border=QUIET_MODULES)
    code.add_data(data.encode("utf-8"), optimize=0)  # as bytes, as printers that draw it themselves may: the larger
    try:
        code.best_fit(start=1)
    except (DataOverflowError, ValueError) as error:  # the library's own check of the version raises ValueError
        raise ValueError(f"the QR code cannot hold {len(data.encode('utf-8'))} bytes at level {level}") from error
    return code
