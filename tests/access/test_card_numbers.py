"""Card data is found however it is written, and what is no card's is left alone."""

from __future__ import annotations

import json
import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import card_numbers
from edge.card_numbers import Place

# Numbers that schemes and acquirers publish for tests; none of them is anybody's.
PUBLISHED = {
    "Visa": "4111111111111111",
    "Visa debit": "4012888888881881",
    "Mastercard": "5555555555554444",
    "Mastercard 2-series": "2223003122003222",
    "American Express": "378282246310005",
    "Discover": "6011111111111117",
    "Diners Club": "30569309025904",
    "JCB": "3530111333300000",
    "UnionPay": "6200000000000005",
    "UnionPay, 19 digits": "6205500000000000004",
    "Maestro": "6759649826438453",
    "Mir": "2200000000000004",
    "Troy": "9792030394440796",
}


def luhn_digit(digits: str) -> str:
    """The digit that makes them a card number, written from ISO/IEC 7812-1, annex B: what is missing to a ten."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value // 10 + value % 10
    return str(-total % 10)


def grouped(number: str, separator: str, size: int = 4) -> str:
    return separator.join(number[at : at + size] for at in range(0, len(number), size))


@pytest.mark.parametrize("number", PUBLISHED.values(), ids=PUBLISHED.keys())
def test_finds_the_published_test_numbers_as_text_as_number_and_as_key(number: str) -> None:
    for message in (number, int(number), [number], {"note": f"paid with {number}."}, {number: 1}, {"n": float(number)}):
        payload = orjson.dumps(message)
        if isinstance(message, dict) and isinstance(message.get("n"), float) and int(message["n"]) != int(number):
            continue  # more digits than a float holds: it is another number by then
        assert card_numbers.in_payload(payload) is not None, message
        assert number.encode() not in card_numbers.masked_payload(payload)


DISGUISES = {
    "spaces": lambda n: grouped(n, " "),
    "dashes": lambda n: grouped(n, "-"),
    "dots": lambda n: grouped(n, "."),
    "underscores": lambda n: grouped(n, "_"),
    "slashes": lambda n: grouped(n, "/"),
    "no-break spaces": lambda n: grouped(n, "\u00a0"),
    "narrow no-break spaces": lambda n: grouped(n, "\u202f"),
    "figure dashes": lambda n: grouped(n, "\u2012"),
    "zero-width spaces": lambda n: grouped(n, "\u200b"),
    "soft hyphens": lambda n: grouped(n, "\u00ad"),
    "space dash space": lambda n: grouped(n, " - "),
    "mixed": lambda n: f"{n[:4]} {n[4:8]}-{n[8:12]} {n[12:]}",
    "each digit apart": " ".join,
    "pairs": lambda n: grouped(n, " ", 2),
    "full width": lambda n: "".join(chr(0xFF10 + int(d)) for d in n),
    "Arabic-Indic": lambda n: "".join(chr(0x0660 + int(d)) for d in n),
    "Devanagari": lambda n: "".join(chr(0x0966 + int(d)) for d in n),
    "half full width": lambda n: n[:8] + "".join(chr(0xFF10 + int(d)) for d in n[8:]),
    "letters around": lambda n: f"PAN{n}EUR",
    "among other numbers": lambda n: f"2 {grouped(n, ' ')} 12/27 123",
    "in a query": lambda n: f"https://pay.example/?card={n}&x=1",
}


@pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES.keys())
def test_finds_a_number_in_every_disguise(disguise) -> None:
    for number in ("4111111111111111", "5555555555554444", "6011111111111117", "2223003122003222"):
        text = disguise(number)
        found = card_numbers.find(text)
        assert [one.kind for one in found] == ["pan"], text
        assert card_numbers.suspect(text.encode())
        assert card_numbers.suspect(json.dumps({"text": text}).encode())
        assert card_numbers.suspect(json.dumps({"text": text}, ensure_ascii=False).encode())
        assert card_numbers.find(card_numbers.masked(text)) == []


def test_groups_as_other_schemes_print_them() -> None:
    for text in ("3782 822463 10005", "3056 930902 5904", "6205 5000 0000 0000 004", "620550 0000000000004"):
        assert [one.kind for one in card_numbers.find(text)] == ["pan"], text


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        (rb'{"data":{"text":"\u0034111111111111111"}}', "data.text"),
        (rb'{"a":"{\"b\":\"4111111111111111\"}"}', "a.b"),
        (rb'{"a":"{\"b\":[\"\\u0034111111111111111\"]}"}', "a.b.0"),
        (rb'{"a":"[[[4111111111111111]]]"}', "a.0.0.0"),
        (b'{"a":4.111111111111111e15}', "a"),
        (b'{"a":4111111111111111.0}', "a"),
        (b'{"a":{"4111111111111111":1}}', "a.key 411111******1111"),
        (b'{"lines":[{},{"text":"4111 1111 1111 1111"}]}', "lines.1.text"),
        (rb'{"a":"4111\t1111\t1111\t1111"}', "a"),
    ],
)
def test_opens_escapes_numbers_and_json_in_strings(payload: bytes, path: str) -> None:
    assert card_numbers.in_payload(payload) == Place("pan", path)
    assert b"4111111111111111" not in card_numbers.masked_payload(payload)
    assert card_numbers.in_payload(card_numbers.masked_payload(payload)) is None


def test_a_deeply_nested_message_is_walked_without_recursion() -> None:
    payload = b"[" * 1000 + b"4111111111111111" + b"]" * 1000
    assert card_numbers.in_payload(payload) is not None
    assert b"4111111111111111" not in card_numbers.masked_payload(payload)


def test_finds_tracks_and_verification_values() -> None:
    first = "%B4111111111111111^DOE/JOHN^27121010000000000000000000000000?"
    second = ";4111111111111111=27121010000000000000?"
    loyalty_like = ";9826300012345678=27121010000000000000?"
    assert [one.kind for one in card_numbers.find(first + second)] == ["track1", "track2"]
    assert card_numbers.masked(f"swiped {first}{second}!") == "swiped [track1][track2]!"
    assert [one.kind for one in card_numbers.find(loyalty_like)] == ["track2"]
    assert [one.kind for one in card_numbers.find("5413330089010434D2712201xxx")] == ["track2"]
    assert card_numbers.masked("CVV: 123, CVC2=4567") == "CVV: [cvv], CVC2=[cvv]"
    for message in ({"cvv": "123"}, {"CVC2": 123}, {"card_security_code": "1234"}, {"pin_block": "04A1B2C3D4E5F607"}):
        place = card_numbers.in_payload(orjson.dumps(message))
        assert place is not None, message
        assert place.kind == "cvv"
        assert list(orjson.loads(card_numbers.masked_payload(orjson.dumps(message))).values()) == ["[cvv]"]
    assert card_numbers.in_json({"cvv": "not given"}) is None
    assert card_numbers.in_json({"track_2": "9826300012345678"}) == Place("track2", "track_2")


def test_short_numbers_count_only_in_a_cards_own_field() -> None:
    old_visa = "4222222222222"
    assert card_numbers.in_json({"member": old_visa}) is None
    for message in ({"pan": old_visa}, {"card": {"number": old_visa}}, {"Card-Number": int(old_visa)}):
        assert card_numbers.in_payload(orjson.dumps(message)) is not None, message
    assert card_numbers.masked_json({"pan": old_visa}) == {"pan": "*********2222"}


NO_CARDS = {
    "masked": {"masked": "411111******1111", "also": "4111 11XX XXXX 1111"},
    "gtin-13": {"item": "4006381333931", "text": "4006381333931"},
    "gtin-14 in a goods field": {"item": "36011111111119"},
    "sscc": {"text": "(00)340123450000000017"},
    "element string": {"text": "]C1010401234567890110ABC1721111121411111"},
    "telephone": {"member": "+49 1512 3456789", "also": "0049 1512 3456789", "plain": "4915123456789"},
    "iban": {
        "iban": "DE89 3704 0044 0532 0130 00",
        "packed": "DE89370400440532013000",
        "fr": "FR1420041010050500013M02606",
    },
    "uuid": {"id": "41111111-1111-4111-8111-111111111111"},
    "sha-256": {"digest": "a4111111111111111f" + "ab" * 23},
    "receipt by store, day and counter": {"business_day_date": "2026-05-04", "receipt_number": "4711202605040006"},
    "receipt in groups": {"receipt_number": "4711-20260504-0006"},
    "time in nanoseconds": {"at": 1_764_028_800_000_000_000, "date": "20261125020304"},
    "coordinates": {"lat": 52.520006599999997, "lon": 13.404953999999998, "third": 0.4111111111111111},
    "zeros": {"receipt_number": "0000000000000000"},
    "bar code of no scheme": {"text": "9826300012345674"},
    "booleans and nothing": {"a": True, "b": None, "c": [], "d": {}},
}


@pytest.mark.parametrize("message", NO_CARDS.values(), ids=NO_CARDS.keys())
def test_leaves_what_is_no_card_number_alone(message) -> None:
    payload = orjson.dumps(message)
    assert card_numbers.in_payload(payload) is None
    assert card_numbers.masked_payload(payload) == payload


def test_a_masked_number_shows_six_and_four_and_keeps_its_shape() -> None:
    assert card_numbers.masked("4111-1111-1111-1111") == "4111-11**-****-1111"
    assert card_numbers.masked("x 378282246310005 y") == "x 378282*****0005 y"
    assert card_numbers.masked_payload(b"\xff\xfe 4111111111111111") == "\xff\xfe 411111******1111".encode()
    assert list(card_numbers.redacted(["a\n", "4111111111111111\n"])) == ["a\n", "411111******1111\n"]


def test_a_key_that_came_twice_hides_nothing() -> None:
    payload = b'{"text":"4111111111111111","text":"sorry"}'
    assert b"4111111111111111" not in card_numbers.masked_payload(payload)


numbers = st.builds(
    lambda start, rest: start + rest + luhn_digit(start + rest),
    st.sampled_from(["4", "51", "2221", "6011", "6225", "3530"]),
    st.text("0123456789", min_size=15, max_size=15),
).map(lambda long: long[:15] + luhn_digit(long[:15]))
texts = st.text(st.sampled_from("0123456789 .-=^;%?BDx\u00a0\uff14\u0664"), max_size=80)


@given(texts)
def test_masking_is_done_once_and_changes_only_what_was_found(text: str) -> None:
    once = card_numbers.masked(text)
    assert card_numbers.masked(once) == once
    assert card_numbers.find(once) == []
    if not card_numbers.find(text):
        assert once == text


@given(texts, numbers, texts)
def test_of_a_number_no_more_than_ten_digits_are_left(before: str, number: str, after: str) -> None:
    text = f"{before}x{number}x{after}"
    once = card_numbers.masked(text)
    assert number not in once
    assert not re.search(rf"{number[:7]}|{number[-5:]}(?=x)", once.partition("x")[2][:16])
    assert card_numbers.suspect(text.encode())


@given(
    st.recursive(
        st.none() | st.booleans() | texts | numbers | st.integers(0, 10**20) | st.floats(allow_nan=False),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=12,
    )
)
def test_what_is_masked_as_json_holds_no_card_data_and_the_sieve_lets_none_through(message) -> None:
    try:
        payload = orjson.dumps(message)
    except TypeError:
        return  # an integer beyond 64 bits
    place = card_numbers.in_json(message)
    if place is not None:
        assert card_numbers.suspect(payload)
    kept = card_numbers.masked_payload(payload)
    assert card_numbers.find(kept.decode()) == []


@pytest.mark.parametrize(
    "piece",
    ["4", "4 ", "4111", "4111 ", "4111-1111-", "1.", "9-9", "B4^", "4111111111111111", "4111111111111111 ", ";4=",
     "4D4", "cvv ", "DE89 ", "f1", '{"a":', "[", '"[', "\\u0034", "\uff14", "0123456789abcdef"],
)  # fmt: skip
def test_the_work_grows_no_faster_than_the_text(piece: str) -> None:
    """Counted in lines of Python that run, not in time: ten times the text, at most fifteen times the lines."""
    import sys

    def lines_for(length: int) -> int:
        text = (piece * (length // len(piece) + 1))[:length]
        ran = 0

        def trace(*_):
            nonlocal ran
            ran += 1
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            card_numbers.masked(text)
            card_numbers.in_payload(text.encode())
            card_numbers.in_payload(orjson.dumps({"text": text}))
        finally:
            sys.settrace(before)
        return ran

    assert lines_for(6_000) < 15 * lines_for(600) + 1_000


def test_of_what_shops_number_next_to_nothing_is_taken_for_a_card(capsys: pytest.CaptureFixture[str]) -> None:
    """The benchmark, run small, and what docs/till.md promises by it."""
    import sys
    from unittest.mock import patch

    from bench import cards

    with patch.object(sys, "argv", ["bench", "--json", "--numbers", "300"]):
        assert cards.main() == 0
    report = json.loads(capsys.readouterr().out)
    figures = report["figures"]
    allowed = ("receipt: 16 digits of any kind", "customer card, in a scheme's range", "GTIN-14, printed")
    refused = {name: value for name, value in figures.items() if "refused" in name and value}
    assert not [name for name in refused if not name.startswith(allowed)], refused
    missed = [name for name, count in figures.items() if name.startswith("disguise") and count < len(cards.PUBLISHED)]
    assert [name.split(":")[0] for name in missed] == [
        "disguise, a line broken in the middle", "disguise, in a longer number", "disguise, base64"
    ]  # fmt: skip
    assert figures["card numbers by chance: missed_per_million"] < 1_000


def test_a_lane_that_sends_only_what_takes_long_to_look_at_has_fewer_messages() -> None:
    from edge.services.limits import LaneBudget

    budget = LaneBudget(200, 10)
    assert budget.wait_ms("1") == 0
    budget.charge("1", 0.0005)
    assert budget.wait_ms("1") == 0
    budget.charge("1", 0.1)
    assert budget.wait_ms("1") > 1_000, "a tenth of a second at a twentieth of the processor"
    assert budget.wait_ms("2") == 0
    budget.charge("nobody", 1.0)


def test_what_is_cut_off_is_masked_behind_its_escapes() -> None:
    escaped = b'{"text":"\\u0034\\u0031\\u0031\\u0031111111111111'
    assert card_numbers.masked_payload(escaped) == b'{"text":"411111******1111'


def test_the_sieve_lets_no_named_field_through() -> None:
    fields = card_numbers._CARD_FIELDS | card_numbers._CVV_FIELDS | card_numbers._TRACK_FIELDS
    for field in fields:
        for written in (field, field.upper(), "_".join(field)):
            assert card_numbers.suspect(orjson.dumps({written: "123"})), written
