"""The virtual printer obeys what Epson's reference says, command by command, written here by hand from it."""

from __future__ import annotations

import pytest

from drivers.virtual.escpos_reader import EscposReader
from drivers.virtual.paper import Bars, Gap, Line, Matrix, Raster
from drivers.virtual.picture import draw
from tests.drivers.paper_rig import Paper


def read(data: bytes, *, piecewise: bool = False, unknown: int = 0) -> Paper:
    paper = Paper()
    reader = EscposReader(paper)
    buffer = bytearray()
    for piece in [data[at : at + 1] for at in range(len(data))] if piecewise else [data]:
        buffer += piece
        reader.read(buffer)
    assert not buffer
    assert reader.unknown_commands == unknown
    return paper


DOTS = bytes((0b10000001, 0b01000010))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        # GS v 0: one byte wide, two rows; m = 3 doubles both ways
        (b"\x1dv0\x00\x01\x00\x02\x00" + DOTS, Raster(1, 2, DOTS, "left")),
        (b"\x1dv0\x03\x01\x00\x02\x00" + DOTS, Raster(1, 2, DOTS, "left", (2, 2))),
        # GS ( L function 112 (store, 8 dots by 2, colour 1, bx = 2) and function 50 (print)
        (
            b"\x1d(L\x0c\x000p0\x02\x011\x08\x00\x02\x00" + DOTS + b"\x1d(L\x02\x0002",
            Raster(1, 2, DOTS, "left", (2, 1)),
        ),
        # GS 8 L: the same with a length of four bytes
        (
            b"\x1d8L\x0c\x00\x00\x000p0\x01\x011\x08\x00\x02\x00" + DOTS + b"\x1d(L\x02\x0002",
            Raster(1, 2, DOTS, "left"),
        ),
        # ESC *: two columns of 8 dots, in single density twice as wide and three times as high
        (b"\x1b*\x00\x02\x00\x80\x01\n", Raster(1, 8, b"\x80" + bytes(6) + b"\x40", "left", (2, 3))),
        (b"\x1b*\x01\x02\x00\x80\x01\n", Raster(1, 8, b"\x80" + bytes(6) + b"\x40", "left", (1, 3))),
        (b"\x1b*\x21\x01\x00\x80\x00\x01\n", Raster(1, 24, b"\x80" + bytes(22) + b"\x80", "left")),
        (b"\x1ba\x02\x1dv0\x00\x01\x00\x02\x00" + DOTS, Raster(1, 2, DOTS, "right")),
    ],
)
@pytest.mark.parametrize("piecewise", [False, True])
def test_pictures(command: bytes, expected: Raster, piecewise: bool) -> None:
    assert read(command, piecewise=piecewise).strip.items == [expected]


def test_letters_styles_and_spacing() -> None:
    paper = read(
        b"\x1b!\xb9ABC\n"  # font B, bold, double height and width, underlined
        b"\x1b!\x00\x1b{\x01up\n\x1b{\x00"
        b"a\tb\tc\n"
        b"\x1b3\x40x\n\n\x1b2y\n"
        b"\x1bt\x13\xd5\x1bt\x11\x8f\n"
    )
    lines = [item for item in paper.strip.items if isinstance(item, Line)]
    style = lines[0].runs[0][1]
    assert (style.small, style.bold, style.width, style.height, style.underline) == (True, True, 2, 2, True)
    assert [one.upside_down for _, one in lines[1].runs] == [True]
    assert "".join(text for text, _ in lines[2].runs) == "a       b       c"
    assert [line.spacing_dots for line in lines[3:5]] == [64, 30]
    assert paper.strip.items[4] == Gap(64)
    assert "".join(text for text, _ in lines[5].runs) == "€П"


@pytest.mark.parametrize(
    "command",
    [
        b"\x1b(A\x05\x00\x61\x64\x01\x05\x05",  # the buzzer
        b"\x1bB\x02\x03",  # a buzzer of other makers
        b"\x1bL\x1bT\x00\x1bW" + bytes(8) + b"\x0c\x1bS",  # page mode
        b"\x1cp\x01\x00\x1c!\x00\x1cS\x00\x00\x1c.",
        b"\x1dL\x00\x00\x1dW\x00\x02\x1dP\x00\x00\x1b$\x00\x00\x1b\\\x00\x00",
        b"\x1d(E\x03\x00\x01IN\x1d(K\x02\x00\x30\x00\x1d:\x1d^\x01\x00\x00",
        b"\x10\x04\x01\x10\x05\x02\x10\x14\x01\x00\x01\x00\x00\r\x18",
        b"\x1bD\x08\x10\x00\x1bR\x00\x1bU\x01\x1b \x02\x1bV\x00\x1bc3\x0f\x1bc5\x00",
    ],
)
@pytest.mark.parametrize("piecewise", [False, True])
def test_what_leaves_no_mark_eats_no_letter(command: bytes, piecewise: bool) -> None:
    assert read(command + b"Total\n", piecewise=piecewise).strip.text() == "Total"


def test_codes_of_both_kinds_of_command_and_wrong_ones() -> None:
    paper = read(b"\x1dh\x20\x1dw\x02\x1dH\x02\x1dk\x024006381333931\x00\x1dk\x43\x0d4006381333931")
    first, second = paper.strip.items
    assert first == second
    assert isinstance(first, Bars)
    assert (first.caption, first.height_dots, len(first.dots), first.text) == ("4006381333931", 32, 190, "below")
    assert not read(b"\x1dk\x43\x0d4006381333930", unknown=1).strip.items
    qr = b"\x1d(k\x03\x001C\x04\x1d(k\x03\x001E\x31\x1d(k\x08\x001P0hello\x1d(k\x03\x001Q0"
    assert read(qr).strip.items == [Matrix("hello", 4, "M", "left")]


@pytest.mark.parametrize("piecewise", [False, True])
@pytest.mark.parametrize("command", [b"\x1d(k\x01\x001", b"\x1dV\x1d"])
def test_a_function_without_its_number_and_a_cut_of_an_unknown_kind_take_no_more(
    command: bytes, piecewise: bool
) -> None:
    assert read(command + b"Total\n", piecewise=piecewise).strip.text() == "Total"


def test_what_it_does_not_know_is_counted() -> None:
    assert read(b"\x1b\x7f\x00Total\n", unknown=1).strip.text() == "Total"


def test_the_picture_is_as_wide_as_the_paper_and_upside_down_turns_the_line() -> None:
    assert draw(read(b"Total\n").strip, 576).width == 576 + 48
    upright, turned = (draw(read(command + b"L_\n").strip) for command in (b"", b"\x1b{\x01"))
    line = (24, 24, 24 + 24, 24 + 24)
    assert upright.crop(line).rotate(180).tobytes() == turned.crop(line).tobytes()
    wide = read(b"\x1dv0\x00\x80\x00\x01\x00" + b"\xff" * 128)
    assert draw(wide.strip).width == 512 + 48
