"""What is printed can be scanned: encoder to paper to an independent reader of codes."""

from __future__ import annotations

import itertools
from typing import Any, Literal, get_args

import pytest
import zxingcpp

from drivers.errors import BadDocument
from drivers.printers import barcodes
from drivers.printers.barcodes import Symbology
from drivers.printers.document import Barcode, Cut, Element, Qr, Text
from drivers.printers.escpos import encode
from drivers.printers.profiles import PROFILES
from drivers.virtual import symbols
from drivers.virtual.picture import draw
from tests.drivers.test_documents import printed

# UPC numbers are read as the 13 digits that they are short for.
GOOD = [
    ("EAN13", "4006381333931", "EAN13", "4006381333931"),
    ("EAN13", "978020137962", "EAN13", "9780201379624"),
    ("EAN8", "9638507", "EAN8", "96385074"),
    ("UPC-A", "03600029145", "EAN13", "0036000291452"),
    ("UPC-E", "04252614", "UPCE", "0042100005264"),
    ("UPC-E", "123455", "UPCE", "0012345000058"),
    ("UPC-E", "0654321", "UPCE", "0065100004327"),
    ("CODE39", "TILL-7 $/+%.", "Code39", "TILL-7 $/+%."),
    ("CODE93", "Till 93 {a}", "Code93", "Till 93 {a}"),
    ("CODE93", "@`!:;", "Code93", "@`!:;"),
    ("CODE128", "R{1}-42 abc~", "Code128", "R{1}-42 abc~"),
    ("CODE128", "1234567890123", "Code128", "1234567890123"),
    ("CODE128", "AB1604012233", "Code128", "AB1604012233"),
    ("GS1-128", "(01)0950600013435(17)261124(10)AB-12", "Code128", "(01)09506000134352(17)261124(10)AB-12"),
    ("GS1-128", "(01)09506000134352(10)ABC123(17)261124", "Code128", "(01)09506000134352(10)ABC123(17)261124"),
    ("GS1-128", "(00)340123450000000017", "Code128", "(00)340123450000000017"),
    ("ITF", "12345670", "ITF", "12345670"),
    ("ITF14", "1540014128876", "ITF", "15400141288763"),
    ("CODABAR", "A40156-7$B", "Codabar", "A40156-7$B"),
]


def scanned(document: list[Element], model: str) -> list[Any]:
    picture = draw(printed(document, model).strip, 576)
    return list(zxingcpp.read_barcodes(picture.convert("L")))


@pytest.mark.parametrize("width", [2, 3])
@pytest.mark.parametrize(("symbology", "data", "kind", "read"), GOOD)
def test_bars_drawn_by_the_printer(symbology: Symbology, data: str, kind: str, read: str, width: int) -> None:
    if barcodes.check(data, symbology).width_dots(width) > 576:
        with pytest.raises(BadDocument, match="the paper has 576"):
            encode([Barcode(data, symbology, width=width)], PROFILES["TM-T20III"])
        return
    (code,) = scanned([Text("Total"), Barcode(data, symbology, width=width)], "TM-T20III")
    assert (code.format.name, code.text) == (kind, read)


@pytest.mark.parametrize("model", ["generic-58", "TM-U220"])
@pytest.mark.parametrize(("symbology", "data", "kind", "read"), GOOD)
def test_bars_drawn_for_printers_that_draw_none(
    symbology: Symbology, data: str, kind: str, read: str, model: str
) -> None:
    document: list[Element] = [Barcode(data, symbology)]
    modules = barcodes.modules_of(barcodes.check(data, symbology))
    if symbology in ("UPC-E", "CODE93"):
        assert modules is None
        with pytest.raises(BadDocument, match=f"draws no {symbology}; choose another"):
            encode(document, PROFILES[model])
    elif modules and 2 * len(modules) > PROFILES[model].width_dots:
        with pytest.raises(BadDocument, match=f"needs {2 * len(modules)} dots"):
            encode(document, PROFILES[model])
    else:
        (code,) = scanned(document, model)
        assert (code.format.name, code.text) == (kind, read)


@pytest.mark.parametrize("model", ["TM-T88V", "TM-T88III", "generic-58"])
@pytest.mark.parametrize("data", ["https://shop.example/r/42?t=1", "Grüße 牛奶", "0123456789" * 10])
def test_qr_codes(model: str, data: str) -> None:
    (code,) = scanned([Qr(data, size=4, level="Q" if len(data) < 50 else "L")], model)
    assert (code.format.name, code.text) == ("QRCode", data)


def test_every_symbology_is_read_back_here() -> None:
    assert {symbology for symbology, *_ in GOOD} == set(get_args(Symbology))


@pytest.mark.parametrize(("symbology", "data", "kind", "read"), GOOD)
def test_the_width_that_is_checked_is_the_width_that_is_drawn(
    symbology: Symbology, data: str, kind: str, read: str
) -> None:
    checked = barcodes.check(data, symbology)
    name = {"GS1-128": "CODE128", "ITF14": "ITF"}.get(symbology, symbology)
    for width in (2, 3, 4, 5, 6):
        assert len(symbols.dots(name, checked.data, width)) == checked.width_dots(width)


@pytest.mark.parametrize(
    ("barcode", "message"),
    [
        (Barcode("4006381333932", "EAN13"), "wrong check digit; the right one is 1"),
        (Barcode("400638133393X", "EAN13"), "not 13 digits"),
        (Barcode("96385075", "EAN8"), "the right one is 4"),
        (Barcode("036000291453", "UPC-A"), "the right one is 2"),
        (Barcode("14252614", "UPC-E"), "begin with 0"),
        (Barcode("04252615", "UPC-E"), "the right one is 4"),
        (Barcode("15400141288764", "ITF14"), "the right one is 3"),
        (Barcode("123", "ITF"), "even number of digits"),
        (Barcode("lower", "CODE39"), "other characters"),
        (Barcode("123", "CODABAR"), "not A to D"),
        (Barcode("", "CODE128"), "no data"),
        (Barcode("AB\x1bp\x00", "CODE128"), "printable ASCII"),
        (Barcode("٤٠٠٦", "ITF"), "printable ASCII"),
        (Barcode("0109506000134352", "GS1-128"), "written like (01)"),
        (Barcode("(01)09506000134353", "GS1-128"), "the right one is 2"),
        (Barcode("(17)2611", "GS1-128"), "(17) takes 6 digits"),
        (Barcode("(10)a{b", "GS1-128"), "GS1 does not allow"),
        (Barcode("(10)" + "A" * 50, "GS1-128"), "at most 48"),
        (Barcode("W" * 60, "CODE128"), "needs 1390 dots, the paper has 512"),
        (Barcode("4006381333931", "EAN13", width=6), "needs 570 dots, the paper has 512"),
        (Qr("x" * 200, size=16), "needs"),
        (Qr("x" * 2000, level="H"), "cannot hold 2000 bytes"),
        (Qr("a\x10\x14\x01\x00\x01"), "leave out U+0010"),
    ],
)
def test_what_is_wrong_is_said(barcode: Barcode | Qr, message: str) -> None:
    with pytest.raises(BadDocument) as caught:
        encode([Text("ok"), barcode], PROFILES["TM-T88V"])
    assert str(caught.value).startswith("element 1: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("model", ["TM-T88V", "TM-U220"])
@pytest.mark.parametrize("place", ["above", "below", "none"])
def test_gs1_data_is_written_with_its_brackets(model: str, place: Literal["above", "below", "none"]) -> None:
    lines = printed([Barcode("(17)261124", "GS1-128", text=place)], model).strip.text().splitlines()
    code = "[picture" if model == "TM-U220" else "[CODE128"
    kinds = ["text" if line == "(17)261124" else "code" for line in lines if line == "(17)261124" or code in line]
    assert [kind for kind, _ in itertools.groupby(kinds)] == {
        "above": ["text", "code"],
        "below": ["code", "text"],
        "none": ["code"],
    }[place]


def test_pairs_of_digits_never_spell_a_command() -> None:
    """16 20 01 00 01 in code set C would be DLE DC4: the drawer would open."""
    for digits in ("1620010001", "9916040112", "0016200100"):
        paper = printed([Barcode(digits, "CODE128"), Cut()])
        data = encode([Barcode(digits, "CODE128")], PROFILES["TM-T88V"]).data
        assert not any(bytes((0x10, second)) in data for second in (4, 5, 20))
        assert f"[CODE128 {digits}]" in paper.cuts[0].text()


def test_the_printer_draws_nothing_for_data_that_is_wrong() -> None:
    assert symbols.dots("EAN13", b"4006381333932", 2) == ""
    assert symbols.dots("CODE128", b"no code set", 2) == ""
    assert symbols.dots("CODE128", b"{C\x64", 2) == ""
    assert symbols.dots("UPC-E", b"036000291452", 2) == ""
    assert symbols.dots("ITF", b"123", 2) == ""
    assert symbols.dots("PDF417", b"123", 2) == ""
