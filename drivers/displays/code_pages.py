"""Text to the single bytes of a display's code page; what the page lacks is replaced where everybody sees it.

Strategy: only printable characters of the page get through. A control character in a text (an item name from a
spreadsheet) would be a command to the display, so it is replaced like any character that the page lacks.

Katakana is the page of JIS X 0201: half-width katakana as 0xA1 to 0xDF. Full-width katakana is written half-width, a
voiced one as two characters.
"""

from __future__ import annotations

import unicodedata
from typing import Literal

CodePage = Literal[
    "cp437", "cp850", "cp852", "cp858", "cp860", "cp863", "cp865", "cp866", "cp1252", "katakana", "ascii"
]
REPLACEMENT = "?"

_HALF_WIDTH_FIRST, _HALF_WIDTH_LAST = 0xFF61, 0xFF9F
_HALF_WIDTH = {
    unicodedata.normalize("NFKC", chr(code)): chr(code) for code in range(_HALF_WIDTH_FIRST, _HALF_WIDTH_LAST + 1)
}
"""By the full-width character; the two voicing marks (U+3099, U+309A) are among them."""


def displayable(text: str, page: CodePage) -> tuple[str, str]:
    """The text as it will stand on the display, one character per cell, and what had to be replaced in it."""
    shown, replaced = [], []
    for character in _cells(text, page):
        if encoded(character, page) is not None:
            shown.append(character)
        else:
            shown.append(REPLACEMENT)
            replaced.append(character)
    return "".join(shown), "".join(replaced)


def encode(text: str, page: CodePage) -> bytes:
    """The bytes of a text that `displayable` has given."""
    return b"".join(encoded(character, page) or REPLACEMENT.encode("ascii") for character in text)


def encoded(character: str, page: CodePage) -> bytes | None:
    """The byte of one character, or None where the page has none."""
    if not character.isprintable():
        return None
    if page == "katakana":
        code = ord(character)
        if _HALF_WIDTH_FIRST <= code <= _HALF_WIDTH_LAST:
            return bytes((0xA1 + code - _HALF_WIDTH_FIRST,))
        return character.encode("ascii") if character.isascii() else None
    try:
        return character.encode(page)
    except UnicodeEncodeError:
        return None


def _cells(text: str, page: CodePage) -> str:
    text = unicodedata.normalize("NFC", text.replace("\t", " ").replace("\u00a0", " ").replace("\u202f", " "))
    if page != "katakana":
        return text
    cells = []
    for character in text:
        parts = unicodedata.normalize("NFD", character)
        if all(part in _HALF_WIDTH for part in parts):
            cells += [_HALF_WIDTH[part] for part in parts]
        else:
            cells.append(character)
    return "".join(cells)
