"""The fonts that text is drawn with where no code page of a printer has it.

Looked up at the first use, in the places where Debian puts them; `FACES` is the table. What no installed font covers
is not drawable, and is printed as "?" and reported. Han characters get their Chinese shapes, in Japanese texts too.
Arabic, Hebrew, Thai and other joined or stacked scripts need Pillow's text shaping (libraqm, which its wheels bring,
and Debian's libfribidi0); without it they count as not drawable, because their bare letters would be wrong.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from drivers.printers.bidi import has_right_to_left

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

FOLDER = Path("/usr/share/fonts")
_NO_CHARACTER = "\uffff"
_UNPRINTABLE = frozenset(("Cc", "Cs", "Cn", "Co", "Zl", "Zp"))
_THAI_AND_OTHER_STACKED = range(0x0900, 0x1100)  # Devanagari to Myanmar, Thai and Lao among them


@dataclass(frozen=True, slots=True)
class Face:
    """One font: where it may stand below `FOLDER`, and its em in widths of a character cell."""

    name: str
    files: tuple[str, ...]
    em_cells: float


MONO = Face("DejaVu Sans Mono", ("truetype/dejavu/DejaVuSansMono.ttf",), 5 / 3)
SANS = Face("DejaVu Sans", ("truetype/dejavu/DejaVuSans.ttf",), 11 / 6)
THAI = Face("Loma", ("truetype/tlwg/Loma.ttf", "opentype/tlwg/Loma.otf"), 7 / 4)
HAN = Face("WenQuanYi Micro Hei", ("truetype/wqy/wqy-microhei.ttc",), 23 / 12)
HAN_BEAUTIFUL = Face("Noto Sans CJK", ("opentype/noto/NotoSansCJK-Regular.ttc",), 22 / 12)
FACES = (MONO, THAI, HAN, HAN_BEAUTIFUL, SANS)
_FACES_RIGHT_TO_LEFT = (SANS, THAI, HAN, HAN_BEAUTIFUL, MONO)


def needs_shaping(character: str) -> bool:
    """Whether the shape or place of `character` depends on its neighbours."""
    return ord(character) in _THAI_AND_OTHER_STACKED or has_right_to_left(character)


@lru_cache(4096)
def face_for(character: str, right_to_left: bool = False) -> Face | None:
    """The first face that has `character`; None when no installed one has (or none that could shape it)."""
    if unicodedata.category(character) in _UNPRINTABLE:
        return None
    if needs_shaping(character) and not can_shape():
        return None
    right_to_left = right_to_left or has_right_to_left(character)
    for face in _FACES_RIGHT_TO_LEFT if right_to_left else FACES:
        if font(face, 24, shaped=False) is not None and _has(face, character):
            return face
    return None


def can_draw(character: str, base: str | None = None) -> bool:
    """Whether `character` can be drawn; a mark, whether the face of the `base` that it stands on has it."""
    face = face_for(character) if base is None else face_for(base)
    return face is not None and (base is None or _has(face, character))


@cache
def can_shape() -> bool:
    """Whether Pillow can join Arabic and stack Thai here."""
    from PIL import features

    return bool(features.check("raqm"))


@cache
def font(face: Face, size: int, *, shaped: bool) -> FreeTypeFont | None:
    """`face` at `size` pixels to the em; None when it is not installed."""
    from PIL import ImageFont

    layout = ImageFont.Layout.RAQM if shaped and can_shape() else ImageFont.Layout.BASIC
    for name in face.files:
        path = FOLDER / name
        if path.exists():
            return ImageFont.truetype(path, size, layout_engine=layout)
    return None


def forget() -> None:
    """Look fonts up anew at the next use: somebody installed one."""
    face_for.cache_clear()
    font.cache_clear()
    _missing.cache_clear()


def _has(face: Face, character: str) -> bool:
    loaded = font(face, 24, shaped=False)
    assert loaded is not None
    return _drawn(loaded, character) != _missing(face)


@cache
def _missing(face: Face) -> tuple[tuple[int, int], bytes]:
    """What the font draws for a character that it does not have."""
    loaded = font(face, 24, shaped=False)
    assert loaded is not None
    return _drawn(loaded, _NO_CHARACTER)


def _drawn(loaded: FreeTypeFont, character: str) -> tuple[tuple[int, int], bytes]:
    mask = loaded.getmask(character, mode="1")
    return mask.size, bytes(mask)
