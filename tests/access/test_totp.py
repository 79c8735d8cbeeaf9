"""One-time codes and recovery codes: the RFCs' values, no code twice, wrong clocks."""

from __future__ import annotations

import pytest

from edge.access import recovery, totp
from tests.access.people_rig import app_code

SECRET = b"12345678901234567890"
NOW_S = 1_780_000_000.0
NOW = int(NOW_S) // 30


@pytest.mark.parametrize(
    ("time_s", "expected"),
    [
        (59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)  # fmt: skip
def test_codes_are_those_of_rfc_6238(time_s: int, expected: str) -> None:
    """Appendix B, the last six of its eight digits."""
    assert totp.code(SECRET, time_s // 30) == expected


def test_codes_are_those_of_rfc_4226() -> None:
    """Appendix D."""
    expected = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]
    assert [totp.code(SECRET, count) for count in range(10)] == expected


def test_an_app_that_reads_the_qr_code_shows_the_same() -> None:
    uri = totp.uri(SECRET, "S1", "anna")
    assert uri.startswith("otpauth://totp/Tillgate%20S1%3Aanna?secret=")
    assert app_code(uri, NOW_S) == totp.code(SECRET, NOW)


@pytest.mark.parametrize(("step", "good"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_half_a_minute_of_difference_is_let_pass(step: int, good: bool) -> None:
    found = totp.accepted(SECRET, totp.code(SECRET, NOW + step), NOW_S, 0)
    assert found == (NOW + step if good else None)


def test_no_code_is_good_twice_nor_one_before_it() -> None:
    used = totp.accepted(SECRET, totp.code(SECRET, NOW), NOW_S, 0)
    assert used == NOW
    assert totp.accepted(SECRET, totp.code(SECRET, NOW), NOW_S, used) is None
    assert totp.accepted(SECRET, totp.code(SECRET, NOW - 1), NOW_S, used) is None
    assert totp.accepted(SECRET, totp.code(SECRET, NOW + 1), NOW_S, used) == NOW + 1


def pair(step: int) -> str:
    return f"{totp.code(SECRET, step)} {totp.code(SECRET, step + 1)}"


def test_two_codes_in_a_row_do_when_a_clock_is_wrong() -> None:
    away = NOW - 20 * 24 * 120  # twenty days
    assert totp.accepted(SECRET, totp.code(SECRET, away), NOW_S, 0, trusted=False) is None
    assert totp.accepted(SECRET, pair(away), NOW_S, 0, trusted=False) == away + 1
    assert totp.accepted(SECRET, pair(away), NOW_S, away, trusted=False) is None, "its first code was used"
    assert totp.accepted(SECRET, pair(away), NOW_S, away + 1, trusted=False) is None
    assert (
        totp.accepted(SECRET, f"{totp.code(SECRET, away)}{totp.code(SECRET, away + 2)}", NOW_S, 0, trusted=False)
        is None
    )
    assert totp.accepted(SECRET, pair(NOW - 40 * 24 * 120), NOW_S, 0, trusted=False) is None, "too far"


def test_with_a_clock_to_be_believed_only_a_few_minutes_are_let_pass() -> None:
    assert totp.accepted(SECRET, pair(NOW - 10), NOW_S, 0) == NOW - 9
    assert totp.accepted(SECRET, pair(NOW - 1000), NOW_S, 0) is None


@pytest.mark.parametrize(
    "given", ["", "12345", "1234567", "abcdef", "\u0661\u0662\u0663\u0664\u0665\u0666", "-12345", "1" * 500]
)
def test_what_is_no_code_is_none(given: str) -> None:
    assert totp.accepted(SECRET, given, NOW_S, 0) is None


def test_each_recovery_code_is_good_once_however_it_is_typed() -> None:
    codes, kept = recovery.new()
    assert len(set(codes)) == recovery.COUNT
    assert not any(code.replace("-", "").encode().hex() in "".join(kept.hashes) for code in codes)
    left = kept.without(codes[3].lower().replace("-", " ").replace("0", "o").replace("1", "l"))
    assert left is not None
    assert len(left.hashes) == recovery.COUNT - 1
    assert left.without(codes[3]) is None
    assert left.without("0000-0000-0000-0000") is None
    assert recovery.looks_like_one(codes[0])
    assert not recovery.looks_like_one("123456")
