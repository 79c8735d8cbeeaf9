"""What a scanned text is taken for."""

from __future__ import annotations

import pytest
from biip.checksums import gs1_price_weight_check_digit, gs1_standard_check_digit
from hypothesis import given
from hypothesis import strategies as st

from edge.config import VariableMeasure
from edge.devices import codes
from edge.money import minor_digits
from tests.edge.devices_rig import MEASURES


def read(text: str, aim: str | None = None) -> codes.Reading:
    return codes.read(text, aim, MEASURES, 2)


@pytest.mark.parametrize(
    ("text", "aim", "symbology", "gtin"),
    [
        ("4006381333931", "E0", "]E0", "04006381333931"),
        ("4006381333931", None, "]E0", "04006381333931"),
        ("96385074", "E4", "]E4", "00000096385074"),
        ("96385074", None, "]E4", "00000096385074"),
        ("036000291452", None, "]E0", "00036000291452"),
        ("036000291452", "E0", "]E0", "00036000291452"),
        ("0036000291452", "E0", "]E0", "00036000291452"),
        ("04252614", "E0", "]E0", "00042100005264"),  # UPC-E of UPC-A 042100005264
        ("15400141288763", "I1", "]I1", "15400141288763"),
        ("4006381333930", None, None, None),  # no identifier, and the digit does not fit: any other number
        ("A-4711", None, None, None),
        ("A-4711", "A0", "]A0", None),
        ("12345", "C0", "]C0", None),
        ("https://shop.example/cart", "Q1", "]Q1", None),
    ],
)
def test_plain_codes(text: str, aim: str | None, symbology: str | None, gtin: str | None) -> None:
    assert read(text, aim) == codes.Reading(symbology, gtin=gtin)


@pytest.mark.parametrize(
    ("text", "aim", "why"),
    [
        ("4006381333930", "E0", "check digit"),
        ("400638133393", "E0", "check digit"),
        ("96385073", "E4", "check digit"),
        ("40063813339", "E0", "8, 12 or 13 digits"),
        ("400638133393X", "E0", "8, 12 or 13 digits"),
        ("٤٠٠٦٣٨١٣٣٣٩٣١", "E0", "8, 12 or 13 digits"),
        ("2912345678901", "E0", "check digit"),
        ("0109501101530004", "C1", "check digit"),
        ("0109501101", "C1", "element strings"),
        ("not GS1 at all", "d2", "element strings"),
    ],
)
def test_a_code_that_contradicts_itself_is_rejected(text: str, aim: str, why: str) -> None:
    with pytest.raises(codes.Rejected, match=why):
        read(text, aim)


def test_gs1_element_strings() -> None:
    reading = read("0109501101530003" + "3103000482" + "10ABC\x1d" + "17261231", "e0")
    assert reading.gtin == "09501101530003"
    assert reading.gs1 == {"01": "09501101530003", "3103": "000482", "10": "ABC", "17": "261231"}


def test_a_digital_link_is_read_with_and_without_its_symbology() -> None:
    for aim in (None, "Q1", "Q3"):
        reading = read("https://id.gs1.org/01/09506000134352/10/ABC", aim)
        assert reading.gtin == "09506000134352"
        assert reading.gs1 == {"01": "09506000134352", "10": "ABC"}


def check(digits: str) -> str:
    return digits + str(gs1_standard_check_digit(digits))


def test_a_price_inside() -> None:
    reading = read(check("281234501299"), "E0")
    assert reading.embedded == {"item": "2812345", "price_minor": 1299}
    assert reading.gtin is None


def test_a_weight_inside_with_its_verifier_digit() -> None:
    verifier = gs1_price_weight_check_digit("00482")
    reading = read(check(f"291234{verifier}00482"))
    assert reading.embedded == {"item": "291234", "weight": "0.482", "unit": "kg"}
    with pytest.raises(codes.Rejected, match="verifier"):
        read(check(f"291234{(verifier + 1) % 10}00482"))


def test_a_upc_with_a_price_inside() -> None:
    table = (VariableMeasure(prefix="02", item_digits=5, value="price", value_digits=5, decimals=2),)
    assert codes.read(check("21234500399"), None, table, 2).embedded == {"item": "0212345", "price_minor": 399}


def test_prices_of_currencies_with_other_decimals() -> None:
    code = check("281234501299")
    assert codes.read(code, None, MEASURES, 3).embedded == {"item": "2812345", "price_minor": 12990}
    with pytest.raises(codes.Rejected, match="decimals"):
        codes.read(code, None, MEASURES, 0)
    assert [minor_digits(currency) for currency in ("EUR", "JPY", "KWD")] == [2, 0, 3]


@given(st.from_regex(r"[0-9]{4,5}", fullmatch=True).filter(str.isascii))
def test_verifier_digits_are_those_of_gs1(value: str) -> None:
    assert codes.price_verifier(value) == str(gs1_price_weight_check_digit(value))


@given(st.from_regex(r"[0-9]{7,13}", fullmatch=True).filter(str.isascii))
def test_check_digits_are_those_of_gs1(digits: str) -> None:
    fitting = [last for last in "0123456789" if codes.check_digit_fits(digits + last)]
    assert fitting == [str(gs1_standard_check_digit(digits))]


@given(
    st.text(max_size=40) | st.text("0123456789\x1d", max_size=60),
    st.sampled_from([None, "E0", "E4", "C1", "d2", "e0", "Q3", "J1", "Q1", "I1", "A0"]),
)
def test_no_text_is_anything_but_read_or_rejected(text: str, aim: str | None) -> None:
    try:
        reading = read(text, aim)
    except codes.Rejected:
        return
    assert reading.gtin is None or len(reading.gtin) == 14
