"""Right-to-left text stands where Unicode's bidirectional algorithm puts it."""

from __future__ import annotations

import pytest

from drivers.printers.bidi import base_level, visual_runs


def seen(text: str, base: int | None = None) -> str:
    """The characters from left to right, as on paper (brackets not mirrored)."""
    return "".join(run.text[::-1] if run.right_to_left else run.text for run in visual_runs(text, base))


@pytest.mark.parametrize(
    ("text", "paper"),
    [
        ("", ""),
        ("Milk 1.29", "Milk 1.29"),
        ("אבג", "גבא"),
        ("אבג abc", "abc גבא"),
        ("abc אבג", "abc גבא"),
        ("abc אבג 12 דה", "abc הד 12 גבא"),
        ("אב 12.50", "12.50 בא"),
        ("אב 3%", "3% בא"),
        ("אב (abc) ג", "ג )abc( בא"),
        ("abc (אב) 12", "abc (בא) 12"),
        ("abc [אב] ג", "abc [בא] ג"),
        ("اب ١٢", "١٢ با"),
        ("اب 12+3", "3+12 با"),
        ("اب 12,3", "12,3 با"),
        ("אב  ", "  בא"),
        ("abc אב ", "abc בא "),
        ("a\u0301 \u05d0\u05b8", "a\u0301 \u05b8\u05d0"),
    ],
)
def test_order(text: str, paper: str) -> None:
    assert seen(text) == paper


def test_the_paragraph_decides_and_may_be_told() -> None:
    assert (base_level("12 אב"), base_level("12 ab"), base_level("12")) == (1, 0, 0)
    assert seen("abc 12", 1) == "abc 12"
    assert seen("abc!", 1) == "!abc"
