"""Receipts in eight languages look as a reader expects: the paper against pictures that were looked at.

Encoder, virtual printer, picture: compared with `golden_paper/<language>.png`, with room for the dots by which two
releases of a font differ. The second half shows that the comparison fails where a reader would see a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from drivers.printers import fonts
from drivers.printers.document import Columns, Element, Row, Text
from drivers.printers.escpos import encode
from drivers.printers.profiles import PROFILES
from tests.drivers.golden_receipts import MODEL, RECEIPTS, difference, drawn

GOLDEN = Path(__file__).parent / "golden_paper"
BY_CODE_PAGE = ("ru", "el")


def golden(language: str) -> Image.Image:
    with Image.open(GOLDEN / f"{language}.png") as picture:
        return picture.convert("1")


def changed(receipt: Sequence[Element], change: Callable[[str], str]) -> list[Element]:
    """The receipt with every text changed."""
    out: list[Element] = []
    for element in receipt:
        match element:
            case Text():
                out.append(replace(element, text=change(element.text)))
            case Row():
                out.append(replace(element, left=change(element.left), right=change(element.right)))
            case Columns():
                out.append(replace(element, texts=tuple(change(text) for text in element.texts)))
            case _:
                out.append(element)
    return out


def once(old: str, new: str) -> Callable[[str], str]:
    """Replace the first `old` of the whole receipt."""
    done = False

    def change(text: str) -> str:
        nonlocal done
        if done or old not in text:
            return text
        done = True
        return text.replace(old, new, 1)

    return change


@pytest.mark.parametrize("language", RECEIPTS)
def test_the_paper_looks_as_it_should(language: str, tmp_path: Path) -> None:
    actual = drawn(RECEIPTS[language])
    wrong = difference(golden(language), actual)
    if wrong:
        path = tmp_path / f"{language}.png"
        actual.save(path)
        pytest.fail(f"{language}: {wrong}; look at {path} beside {GOLDEN / path.name}")


@pytest.mark.parametrize("language", RECEIPTS)
@pytest.mark.parametrize("shift", [(1, 0), (0, 1), (-1, 1)])
def test_a_dot_more_or_less_is_no_difference(language: str, shift: tuple[int, int]) -> None:
    picture = golden(language)
    assert not difference(picture, ImageChops.offset(picture, *shift))


@pytest.mark.parametrize("language", RECEIPTS)
def test_reversed_text_is_seen(language: str) -> None:
    assert difference(golden(language), drawn(changed(RECEIPTS[language], lambda text: text[::-1])))


FAULTS = [
    ("zh", once("牛", "\u25a1"), "a box instead of a letter"),
    ("zh", once("奶 1.5%", "奶  1.5%"), "a column too far"),
    ("zh", once("东", "車"), "another letter"),
    ("ja", once("ぎ", "き"), "a mark missing"),
    ("ko", once("원", "\u25a1"), "a box instead of a letter"),
    ("ko", once("수", "주"), "another letter"),
    ("ar", "\u200c".join, "letters that are not joined"),
    ("ar", once("خبز", "زبخ"), "a word reversed"),
    ("ar", once("مُحَمَّد", "محمد"), "vowels missing"),
    ("he", once("לחם", "םחל"), "a word reversed"),
    ("he", once("ל", "ק"), "another letter"),
    ("th", once("ที่", "ที"), "a tone missing"),
    ("th", once("ปู่", "ปุ่"), "another vowel"),
    ("th", once("น้ำ", "นำ้"), "a tone in the wrong place"),
    ("ru", once("Й", "И"), "a mark missing"),
    ("el", once("ά", "α"), "an accent missing"),
]


@pytest.mark.parametrize(
    ("language", "fault", "name"), FAULTS, ids=[f"{language}: {name}" for language, _, name in FAULTS]
)
def test_faults_are_seen(language: str, fault: Callable[[str], str], name: str) -> None:
    wrong = changed(RECEIPTS[language], fault)
    assert wrong != list(RECEIPTS[language])
    assert difference(golden(language), drawn(wrong)), f"{name} is not seen"


@pytest.mark.parametrize("language", RECEIPTS)
def test_code_pages_where_they_cover_the_text_pictures_where_they_do_not(language: str) -> None:
    data = encode(RECEIPTS[language], PROFILES[MODEL]).data
    assert (b"\x1dv0" not in data) == (language in BY_CODE_PAGE)


def test_without_its_font_a_language_is_replaced_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "truetype").mkdir()
    (tmp_path / "truetype" / "dejavu").symlink_to("/usr/share/fonts/truetype/dejavu")
    monkeypatch.setattr(fonts, "FOLDER", tmp_path)
    fonts.forget()
    try:
        encoded = encode([Text("牛奶 Milk שלום")], PROFILES[MODEL])
        assert encoded.replaced == "牛奶"
        assert b"\x1dv0" in encoded.data  # Hebrew has its font
    finally:
        monkeypatch.undo()
        fonts.forget()


def test_the_price_stays_at_the_right_edge() -> None:
    """The last dot of each price stands in the same column of cells, set by the printer or drawn."""
    edges = set()
    for left in ("Milk", "牛奶", "Milk 牛奶", "우유", "นม", "Молоко"):
        picture = ImageChops.invert(drawn([Row(left, "1.29")]).convert("L"))
        box = picture.getbbox()
        assert box is not None
        edges.add(box[2])
    assert max(edges) - min(edges) <= 2
