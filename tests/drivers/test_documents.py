"""Documents to bytes to paper: what a till asks for is what the virtual printer, which shares no code, shows."""

from __future__ import annotations

import io
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from drivers.errors import BadDocument
from drivers.printers import escpos_library, fonts
from drivers.printers.document import (
    Barcode,
    Columns,
    Cut,
    Element,
    Feed,
    Image,
    Kick,
    Qr,
    Row,
    Rule,
    Text,
    from_json,
    to_json,
)
from drivers.printers.escpos import encode
from drivers.printers.pictures import quiet_picture
from drivers.printers.profiles import PROFILES
from drivers.virtual.escpos_reader import EscposReader
from drivers.virtual.paper import Bars, Line, Matrix, Raster
from drivers.virtual.picture import draw
from tests.drivers.paper_rig import Paper


def printed(document: list[Element], model: str = "TM-T88V") -> Paper:
    paper = Paper()
    reader = EscposReader(paper)
    buffer = bytearray(encode(document, PROFILES[model]).data)
    reader.read(buffer)
    assert not buffer
    assert reader.unknown_commands == 0
    return paper


def png(width: int, height: int, seed: int = 1) -> bytes:
    picture = Picture.frombytes("L", (width, height), random.Random(seed).randbytes(width * height))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def test_a_whole_receipt() -> None:
    paper = printed(
        [
            Text("Café Ångström", align="center", bold=True, width=2, height=2),
            Row("Bananas 0.482 kg", "1.20"),
            Row("A very long description of an article that does not fit into one line", "12.00", bold=True),
            Rule(),
            Text("Total €13.20", align="right", underline=True),
            Barcode("4006381333931", "EAN13"),
            Barcode("R{1}-42"),
            Qr("https://example.com/r/42"),
            Feed(2),
            Kick(pin=5, pulse_ms=120),
            Cut(),
        ]
    )
    (receipt,) = paper.cuts
    assert receipt.text() == "\n".join(
        [
            "Café Ångström",
            "Bananas 0.482 kg" + " " * 22 + "1.20",
            "A very long description of an article that",
            "does not fit into one line" + " " * 11 + "12.00",
            "-" * 42,
            "Total €13.20",
            "[EAN13 4006381333931]",
            "[CODE128 R{1}-42]",
            "[QR https://example.com/r/42]",
        ]
    )
    title, _, _, wrapped, _, total, bars, _, matrix = (item for item in receipt.items if type(item).__name__ != "Gap")
    assert isinstance(title, Line)
    assert (title.align, title.runs[0][1].bold, title.runs[0][1].width) == ("center", True, 2)
    assert isinstance(wrapped, Line)
    assert wrapped.runs[0][1].bold
    assert wrapped.runs[0][1].width == 1
    assert isinstance(total, Line)
    assert (total.align, total.runs[0][1].underline, total.runs[0][1].bold) == ("right", True, False)
    assert isinstance(bars, Bars)
    assert bars.text == "below"
    assert isinstance(matrix, Matrix)
    assert (matrix.level, matrix.align) == ("M", "center")
    assert paper.kicks == [(1, 120)]


@pytest.mark.parametrize("model", PROFILES)
def test_every_profile_prints_every_element(model: str) -> None:
    document: list[Element] = [
        Text("Total", bold=True),
        Row("a", "1.00"),
        Rule("="),
        Barcode("4006381333931", "EAN13"),
        Barcode("ABC-1"),
        Qr("x"),
        Image(png(64, 16)),
        Cut(),
    ]
    paper = printed(document, model)
    strips = paper.cuts or [paper.strip]  # one model has no knife
    assert len(strips) == 1
    assert strips[0].text().startswith("Total\na" + " " * (PROFILES[model].columns - 5) + "1.00\n====")


def test_characters_are_printed_from_their_code_page_or_replaced_and_reported() -> None:
    document: list[Element] = [Text("Žluťoučký kůň, Привет, €5, \U0001f34c and \ue000 and \U0001f34c")]
    encoded = encode(document, PROFILES["TM-T88V"])
    assert encoded.replaced == "\U0001f34c\ue000"
    assert printed(document).strip.text() == "Žluťoučký kůň, Привет, €5, ? and ? and ?"


def test_columns_wrap_within_their_widths_and_small_letters_make_more_of_them() -> None:
    table = Columns(
        ("2 x", "Textmarker gelb, breite Spitze, nachfüllbar", "12.58"), (4, 0, 8), ("left", "left", "right")
    )
    lines = ["2 x  Textmarker gelb, breite" + " " * 9 + "12.58", " " * 5 + "Spitze, nachfüllbar"]
    assert printed([table]).strip.text() == "\n".join(lines)
    small = printed([replace(table, font="B")]).strip
    assert len(small.text().splitlines()[0]) == 56
    assert all(style.small for item in small.items if isinstance(item, Line) for _, style in item.runs)
    with pytest.raises(BadDocument, match="do not fit into 42"):
        encode([replace(table, widths=(40, 0, 8))], PROFILES["TM-T88V"])


def test_long_text_wraps_by_words_and_a_long_right_part_keeps_all_of_its_letters() -> None:
    long = "one two three four five six seven eight nine ten eleven"
    assert printed([Text(long)]).strip.text() == "one two three four five six seven eight\nnine ten eleven"
    assert printed([Text("x" * 50)]).strip.text() == "x" * 42 + "\n" + "x" * 8
    assert printed([Text(long, width=2)]).strip.text().splitlines()[0] == "one two three four"
    right = "a reference number of thirty-nine signs"
    assert printed([Row("Left", right)]).strip.text() == "Left\n" + right.rjust(42)
    assert "".join(printed([Row("Left", "9" * 60)]).strip.text().split()) == "Left" + "9" * 60


@pytest.mark.parametrize("model", PROFILES)
@pytest.mark.parametrize("text", ["牛奶 Milk 1.29", "שלום", "น้ำดื่ม"])
def test_every_model_prints_every_script_within_its_paper(model: str, text: str) -> None:
    paper = printed([Text(text), Row(text, "1.29"), Text(text, align="right", width=2, height=2)], model)
    pictures = [item for item in paper.strip.items if isinstance(item, Raster)]
    assert pictures
    assert all(picture.width_bytes * 8 <= PROFILES[model].width_dots for picture in pictures)
    scales = {picture.scale for picture in pictures}
    assert scales == ({(2, 3)} if model.startswith("TM-U220") else {(1, 1)})


def test_a_document_cannot_smuggle_commands() -> None:
    document: list[Element] = [Text("a\x1bp\x00\x32\x32b\x10\x14\x01\x00\x01c\x1dV\x00"), Row("\x1b@", "\x07")]
    paper = printed(document)
    assert paper.kicks == []
    assert paper.cuts == []
    assert "\x1b" not in encode(document, PROFILES["TM-T88V"]).data.decode("latin-1").replace("\x1bt", "")
    with pytest.raises(BadDocument, match="element 0"):
        encode([Barcode("AB\x1bp\x00")], PROFILES["TM-T88V"])


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60), st.text(max_size=30))
def test_any_text_prints_as_lines_only(left: str, right: str) -> None:
    paper = printed([Text(left), Row(left, right)])
    assert paper.kicks == []
    assert paper.cuts == []
    assert not paper.replies


@pytest.mark.parametrize("model", PROFILES)
def test_only_code_pages_that_a_model_has_are_chosen(model: str) -> None:
    text = "Žluťoučký kůň, Привет, Γειά σου, Grüße €5, São, ąęł"
    profile = PROFILES[model]
    data = encode([Text(word) for word in text.split()], profile).data
    known = set(escpos_library.code_pages(profile).values())
    chosen = {int(page[0]) for page in re.findall(rb"\x1bt(.)", data, re.DOTALL)}
    assert chosen
    assert chosen <= known
    if profile.code_pages is not None:
        assert max(chosen) <= 19
    paper = printed([Text(word) for word in text.split()], model).strip
    lines = [item for item in paper.items if isinstance(item, Line)]
    assert all("".join(part for part, _ in line.runs) in text.split() for line in lines)


def test_a_document_that_would_never_end_is_refused() -> None:
    with pytest.raises(BadDocument, match="more than 8 MiB"):
        encode([Image(png(512, 4096))] * 40, PROFILES["TM-T88V"])


@pytest.mark.parametrize("model", ["TM-T88V", "TM-T20III", "TM-U220", "generic-58"])
def test_no_picture_of_any_shape_spells_a_command(model: str) -> None:
    shapes = random.Random(11)
    pictures = [png(shapes.randint(1, 900), shapes.randint(1, 1500), seed) for seed in range(12)]
    for picture in pictures:
        data = encode([Image(picture)], PROFILES[model]).data
        assert not re.search(rb"\x10(\x04[\x01-\x08]|\x05[\x00-\x02]|\x14[\x01-\x08])", data)


def test_pictures_hold_no_real_time_commands_and_come_out_as_drawn() -> None:
    wide = png(512, 1000, seed=7)
    data = encode([Image(wide)], PROFILES["TM-T88V"]).data
    assert not re.search(rb"\x10[\x04\x05\x14]", data.replace(b"\x1dv0", b""))
    rasters = [item for item in printed([Image(wide)]).strip.items if isinstance(item, Raster)]
    assert sum(raster.height_dots for raster in rasters) == 1000
    assert {raster.width_bytes for raster in rasters} == {64}
    assert quiet_picture(b"\x10\x10\x04\x10\x14") == b"\x10\x18\x04\x18\x14"


def test_what_is_transparent_is_white_grey_is_a_pattern_and_wide_pictures_shrink() -> None:
    picture = Picture.new("RGBA", (1024, 16), (0, 0, 0, 0))
    picture.paste((128, 128, 128, 255), (512, 0, 1024, 16))
    file = io.BytesIO()
    picture.save(file, "PNG")
    (raster,) = (item for item in printed([Image(file.getvalue())]).strip.items if isinstance(item, Raster))
    assert (raster.width_bytes, raster.height_dots) == (64, 8)
    rows = [raster.data[at : at + 64] for at in range(0, len(raster.data), 64)]
    assert all(not any(row[:32]) for row in rows)
    black = sum(byte.bit_count() for row in rows for byte in row[32:])
    assert 0.4 < black / (256 * 8) < 0.6


@pytest.mark.parametrize(
    ("element", "message"),
    [
        (Barcode("12345", "EAN13"), "'12345' is not 13 digits"),
        (Image(b"no picture"), "no PNG"),
        (Image(png(10, 5000)), "10 x 5000 dots"),
        (Image(png(10, 10)[:60]), "no PNG"),
        (Image(png(10, 10)[:16] + b"\xff" * 8 + png(10, 10)[24:]), "4294967295 x 4294967295 dots"),
    ],
)
def test_what_cannot_be_printed_names_its_element(element: Element, message: str) -> None:
    with pytest.raises(BadDocument, match=f"element 1: .*{message}"):
        encode([Text("ok"), element], PROFILES["TM-T88V"])


def test_json_both_ways_and_its_errors() -> None:
    document = (
        Text("a", align="center"),
        Row("b", "1"),
        Image(png(8, 8)),
        Qr("x"),
        Feed(3),
        Cut(partial=False),
        Kick(),
    )
    assert from_json(to_json(document)) == document
    for table, message in (
        ({"kind": "txt"}, "kind is 'txt'; expected one of text, row"),
        ({"kind": "text"}, "text: is missing"),
        ({"kind": "text", "text": "a", "colour": "red"}, "colour: is not known here"),
        ({"kind": "text", "text": "a", "width": 9}, "width: is 9; expected 1 to 8"),
        ({"kind": "text", "text": 5}, "text: is 5; expected a text"),
        ({"kind": "image", "png": "%%%"}, "not base64"),
        ({"kind": "image", "png": "iVBORw0Kügo="}, "not base64"),
        ({"kind": "rule", "character": "--"}, "exactly one character"),
        ({"kind": "kick", "pin": 3}, "pin: is 3; expected one of 2, 5"),
        ("text", "expected an object"),
    ):
        with pytest.raises(BadDocument, match="element 1: ") as caught:
            from_json([{"kind": "cut"}, table])  # type: ignore[list-item]
        assert message in str(caught.value)


def test_the_paper_can_be_drawn(tmp_path: Path) -> None:
    paper = printed(
        [
            Text("Café", align="center", bold=True, width=2, height=2),
            Text("inverse", invert=True),
            Barcode("4006381333931", "EAN13"),
            Qr("https://example.com", size=6),
            Image(png(100, 40)),
            Cut(),
        ]
    )
    picture = draw(paper.cuts[0])
    picture.save(tmp_path / "receipt.png")
    colours = picture.getcolors()
    assert colours is not None
    assert picture.width == 560
    assert picture.height > 400
    assert {0, 250} <= {colour for _, colour in colours}


def test_without_text_shaping_what_needs_it_is_replaced_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow without libfribidi: bare Arabic or Hebrew letters in the wrong order would be worse than none."""
    from PIL import features

    known = features.check
    monkeypatch.setattr(features, "check", lambda name: False if name == "raqm" else known(name))
    for cached in (fonts.can_shape, fonts.face_for, fonts.font):
        cached.cache_clear()
    try:
        for text in ("שלום", "سلام", "น้ำ", "Milk שלום 牛奶"):
            encoded = encode([Text(text)], PROFILES["TM-T88V"])
            assert set(encoded.replaced) == set(text) - set("Milk 牛奶")
    finally:
        monkeypatch.undo()
        for cached in (fonts.can_shape, fonts.face_for, fonts.font):
            cached.cache_clear()
