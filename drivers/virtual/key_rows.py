"""National keyboards as their makers draw them: what each key types alone, with Shift and with AltGr.

Source: the layouts KBDUS, KBDUK, KBDGR, KBDFR, KBDSP and KBDIT of Windows, which scanners imitate (those of Britain,
Germany, France, Spain and Italy compared with ReactOS's tables in dll/keyboard).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Places in the order of a chart, row by row from the left: Linux key codes.
_DIGIT_ROW = (41, *range(2, 14))
_UPPER_ROW = tuple(range(16, 28))
_MIDDLE_ROW = (*range(30, 41), 43)  # a key beside Enter on national keyboards, above Enter on US ones
_LOWER_ROW = (86, *range(44, 54))  # 86 is right of the left Shift key; US keyboards do not have it

Held = tuple[int, ...]
_SHIFT, _ALTGR = 42, 100
_NOTHING = "\0"  # no key, or none that is needed, at that place


@dataclass(frozen=True, slots=True)
class Keyboard:
    """`strokes`: character to key and the modifier keys held. `dead`: such a key waits, so a space must follow it."""

    strokes: Mapping[str, tuple[int, Held]]
    dead: Mapping[str, tuple[int, Held]]


def _keyboard(plain: tuple[str, ...], shifted: tuple[str, ...], altgr: Mapping[str, int], dead: str = "") -> Keyboard:
    """`plain` and `shifted` are the four rows; a character of `dead` is a dead key wherever it stands."""
    strokes: dict[str, tuple[int, Held]] = {" ": (57, ())}
    waiting: dict[str, tuple[int, Held]] = {}
    for rows, held in ((plain, ()), (shifted, (_SHIFT,))):
        for places, row in zip((_DIGIT_ROW, _UPPER_ROW, _MIDDLE_ROW, _LOWER_ROW), rows, strict=True):
            for code, character in zip(places, row, strict=True):
                if character != _NOTHING:
                    (waiting if character in dead else strokes).setdefault(character, (code, held))
    for character, code in altgr.items():
        (waiting if character in dead else strokes).setdefault(character, (code, (_ALTGR,)))
    return Keyboard(strokes, waiting)


KEYBOARDS: Mapping[str, Keyboard] = {
    "us": _keyboard(
        ("`1234567890-=", "qwertyuiop[]", "asdfghjkl;'\\", "\0zxcvbnm,./"),
        ("~!@#$%^&*()_+", "QWERTYUIOP{}", 'ASDFGHJKL:"|', "\0ZXCVBNM<>?"),
        {},
    ),
    "gb": _keyboard(
        ("`1234567890-=", "qwertyuiop[]", "asdfghjkl;'#", "\\zxcvbnm,./"),
        ('¬!"£$%^&*()_+', "QWERTYUIOP{}", "ASDFGHJKL:@~", "|ZXCVBNM<>?"),
        {"€": 5},
    ),
    "de": _keyboard(
        ("^1234567890ß´", "qwertzuiopü+", "asdfghjklöä#", "<yxcvbnm,.-"),
        ('°!"§$%&/()=?`', "QWERTZUIOPÜ*", "ASDFGHJKLÖÄ'", ">YXCVBNM;:_"),
        {"²": 3, "³": 4, "{": 8, "[": 9, "]": 10, "}": 11, "\\": 12, "@": 16, "€": 18, "~": 27, "|": 86, "µ": 50},
        dead="^´`",
    ),
    "fr": _keyboard(
        ("²&é\"'(-è_çà)=", "azertyuiop^$", "qsdfghjklmù*", "<wxcvbn,;:!"),
        ("\0001234567890°+", "AZERTYUIOP¨£", "QSDFGHJKLM%µ", ">WXCVBN?./§"),
        {"~": 3, "#": 4, "{": 5, "[": 6, "|": 7, "`": 8, "\\": 9, "@": 11, "]": 12, "}": 13, "€": 18},
        dead="^¨~`",
    ),
    "es": _keyboard(
        ("º1234567890'¡", "qwertyuiop`+", "asdfghjklñ´ç", "<zxcvbnm,.-"),
        ('ª!"·$%&/()=?¿', "QWERTYUIOP^*", "ASDFGHJKLÑ¨Ç", ">ZXCVBNM;:_"),
        {"\\": 41, "|": 2, "@": 3, "#": 4, "~": 5, "¬": 7, "€": 18, "[": 26, "]": 27, "{": 40, "}": 43},
        dead="`^´¨~",
    ),
    "it": _keyboard(
        ("\\1234567890'ì", "qwertyuiopè+", "asdfghjklòàù", "<zxcvbnm,.-"),
        ('|!"£$%&/()=?^', "QWERTYUIOPé*", "ASDFGHJKLç°§", ">ZXCVBNM;:_"),
        {"€": 18, "[": 26, "]": 27, "@": 39, "#": 40},
    ),
}
