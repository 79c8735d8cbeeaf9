"""What a scanned text is taken for."""

from __future__ import annotations

import typing
from decimal import Decimal

import pytest
from biip import ParseConfig, ParseError
from biip.checksums import gs1_price_weight_check_digit, gs1_standard_check_digit
from biip.gtin import Gtin
from biip.rcn import Rcn, RcnRegion
from hypothesis import given
from hypothesis import strategies as st

from edge.config import Scanning, VariableMeasure
from edge.devices import codes
from edge.devices.rejected import CODES, Rejected
from edge.devices.variable_measure import COUNTRIES, verifier_digit
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
        ("https://[shop.example/01/09506000134352", "Q1", "]Q1", None),
    ],
)
def test_plain_codes(text: str, aim: str | None, symbology: str | None, gtin: str | None) -> None:
    assert read(text, aim) == codes.Reading(symbology, gtin=gtin)


@pytest.mark.parametrize(
    ("text", "aim", "code", "why"),
    [
        ("4006381333930", "E0", "check_digit", "check digit"),
        ("400638133393", "E0", "check_digit", "check digit"),
        ("96385073", "E4", "check_digit", "check digit"),
        ("04252614", "E4", "check_digit", "check digit"),  # a UPC-E is no EAN-8
        ("15400141288764", "I1", "check_digit", "check digit"),
        ("400638133393112", "E0", "wrong_length", "8, 12 or 13 digits"),
        ("40063813339", "E0", "wrong_length", "8, 12 or 13 digits"),
        ("400638133393X", "E0", "wrong_length", "8, 12 or 13 digits"),
        ("٤٠٠٦٣٨١٣٣٣٩٣١", "E0", "wrong_length", "8, 12 or 13 digits"),
        ("4006381333931123", "E3", "wrong_length", "2 or 5 more"),
        ("400638133393012", "E3", "check_digit", "check digit"),
        ("2912345678901", "E0", "check_digit", "check digit"),
        ("0109501101530004", "C1", "check_digit", "check digit"),
        ("https://id.gs1.org/01/09506000134353", "Q1", "check_digit", "check digit"),
        ("0109501101", "C1", "not_gs1", "element strings"),
        ("not GS1 at all", "d2", "not_gs1", "element strings"),
        ("0109501101530003" + "3924012345", "e0", "price_precision", "coin"),
    ],
)
def test_a_code_that_contradicts_itself_is_rejected(text: str, aim: str, code: str, why: str) -> None:
    with pytest.raises(Rejected, match=why) as caught:
        read(text, aim)
    assert caught.value.code == code
    assert code in CODES


@pytest.mark.parametrize(
    ("text", "gtin", "add_on"),
    [
        ("977147396801205", "09771473968012", "05"),  # EAN-13 and the issue of a periodical
        ("978020137962451995", "09780201379624", "51995"),  # EAN-13 and the price of a book
        ("03600029145212", "00036000291452", "12"),  # UPC-A
        ("0425261499", "00042100005264", "99"),  # UPC-E
    ],
)
def test_an_add_on_symbol_stands_by_itself(text: str, gtin: str, add_on: str) -> None:
    assert read(text, "E3") == codes.Reading("]E3", gtin=gtin, add_on=add_on)


def test_eight_digits_that_may_be_either_are_neither() -> None:
    both = [f"0{n:07}" for n in range(0, 100_000, 7)]
    both = [text for text in both if codes.check_digit_fits(text) and read(text, "E0").gtin != text.rjust(14, "0")]
    assert both
    assert all(read(text) == codes.Reading(None) for text in both)
    assert all(read(text, "E4").gtin == text.rjust(14, "0") for text in both)
    assert read("04252614") == codes.Reading("]E0", gtin="00042100005264")


def test_every_aim_letter_that_stores_meet_has_a_name_and_passes() -> None:
    expected = {"A": "code_39", "C": "code_128", "F": "codabar", "L": "pdf417", "M": "msi", "Q": "qr", "z": "aztec"}
    assert expected.items() <= codes.SYMBOLOGIES.items()
    for letter in codes.SYMBOLOGIES:
        if letter not in "EeJ":
            assert read("A-4711", f"{letter}0") == codes.Reading(f"]{letter}0")


def test_gs1_element_strings() -> None:
    reading = read("0109501101530003" + "3103000482" + "10ABC\x1d" + "17261231", "e0")
    assert reading.gtin == "09501101530003"
    assert reading.gs1 == {"01": "09501101530003", "3103": "000482", "10": "ABC", "17": "261231"}
    assert reading.embedded == {"item": "09501101530003", "weight": "0.482", "unit": "kg"}


def test_gs1_pounds_and_a_price() -> None:
    reading = read("0190012345678908" + "3202000175" + "3922599\x1d" + "15261231", "e0")
    assert reading.embedded == {"item": "90012345678908", "weight": "1.75", "unit": "lb", "price_minor": 599}
    assert read("0109501101530003" + "17261231", "e0").embedded is None


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
    with pytest.raises(Rejected, match="verifier"):
        read(check(f"291234{(verifier + 1) % 10}00482"))


def test_a_upc_with_a_price_inside() -> None:
    table = (VariableMeasure(prefix="02", item_digits=5, value="price", value_digits=5, decimals=2),)
    assert codes.read(check("21234500399"), None, table, 2).embedded == {"item": "0212345", "price_minor": 399}


@pytest.mark.parametrize("verified", [True, False])
def test_a_upc_of_number_system_2(verified: bool) -> None:
    digits = {"item_digits": 5, "value_digits": 4, "verifier": True}
    if not verified:
        digits = {"item_digits": 5, "value_digits": 5}
    table = (VariableMeasure(prefix="02", value="price", decimals=2, **digits),)
    price = f"{gs1_price_weight_check_digit('0399')}0399" if verified else "00399"
    code = check(f"212345{price}")
    for text, aim in ((code, None), (code, "E0"), ("0" + code, "E0")):
        assert codes.read(text, aim, table, 2).embedded == {"item": "0212345", "price_minor": 399}
    if verified:
        wrong = check(f"212345{(int(price[0]) + 1) % 10}0399")
        with pytest.raises(Rejected) as caught:
            codes.read(wrong, "E0", table, 2)
        assert caught.value.code == "verifier_digit"


def test_a_weight_in_pounds() -> None:
    table = (VariableMeasure(prefix="23", item_digits=5, value="weight", unit="lb", value_digits=5, decimals=2),)
    assert codes.read(check("231234500175"), "E0", table, 2).embedded == {
        "item": "2312345",
        "weight": "1.75",
        "unit": "lb",
    }


@pytest.mark.parametrize(
    ("country", "text", "embedded"),
    [
        # printed in "Das Konzept der SAN-4", GS1 Germany
        ("de", "2330714002396", {"item": "233071", "price_minor": 239}),
        ("de", "2630719000121", {"item": "263071", "count": 12}),
        ("de", "2930711068700", {"item": "293071", "weight": "6.870", "unit": "kg"}),
    ],
)
def test_examples_of_national_guidelines(country: str, text: str, embedded: dict) -> None:
    assert codes.read(text, "E0", COUNTRIES[country], 2).embedded == embedded


@given(
    st.sampled_from(sorted(COUNTRIES)),
    st.from_regex(r"2[0-9]{11}", fullmatch=True).filter(str.isascii),
)
def test_countries_read_as_another_library_does(country: str, digits: str) -> None:
    code = check(digits)
    rules = COUNTRIES[country]
    if country == "gb":
        rules = tuple(row for row in rules if row.prefix != "28")  # a prefix newer than that library's table
    try:
        ours = codes.read(code, "E0", rules, 2).embedded
    except Rejected:
        with pytest.raises(ParseError, match="check digit"):
            Gtin.parse(code, config=ParseConfig(rcn_region=RcnRegion(country), rcn_verify_variable_measure=True))
        return
    rcn = Gtin.parse(code, config=ParseConfig(rcn_region=RcnRegion(country), rcn_verify_variable_measure=True))
    assert isinstance(rcn, Rcn)
    ours = ours or {}
    price = Decimal(ours["price_minor"]) / 100 if "price_minor" in ours else None
    weight = Decimal(ours["weight"]) if "weight" in ours else None
    assert (price, weight, ours.get("count")) == (rcn.price, rcn.weight, rcn.count)


def test_the_configuration_knows_every_country() -> None:
    assert set(typing.get_args(typing.get_args(Scanning.model_fields["country"].annotation)[0])) == set(COUNTRIES)


def test_prices_of_currencies_with_other_decimals() -> None:
    code = check("281234501299")
    assert codes.read(code, None, MEASURES, 3).embedded == {"item": "2812345", "price_minor": 12990}
    with pytest.raises(Rejected, match="coin"):
        codes.read(code, None, MEASURES, 0)
    assert [minor_digits(currency) for currency in ("EUR", "JPY", "KWD")] == [2, 0, 3]


@given(st.from_regex(r"[0-9]{4,5}", fullmatch=True).filter(str.isascii))
def test_verifier_digits_are_those_of_gs1(value: str) -> None:
    assert verifier_digit(value) == str(gs1_price_weight_check_digit(value))


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
    except Rejected:
        return
    assert reading.gtin is None or len(reading.gtin) == 14
