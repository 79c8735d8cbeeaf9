"""Whose numbers are card numbers: the ranges in which payment schemes issue, with the lengths of their numbers.

Strategy: one table. `SURE` rows are ranges and lengths in which a number with a fitting Luhn digit is taken for a
card's wherever it stands. `NAMED` rows are wide, old or shared with numbers of other kinds; they count only in a field
whose name says that a card number stands in it.

Source: ISO/IEC 7812-1 (structure) and what the schemes publish to merchants and acquirers: Visa (4; the 13-digit
numbers are withdrawn), Mastercard (51-55, 2221-2720 since 2017; Maestro), American Express, Discover Global Network
(own ranges, Diners Club, and those of JCB and UnionPay that it routes), JCB, UnionPay (62, 81), NSPK (Mir), NPCI
(RuPay), BKM (Troy), Elo, Hipercard, Verve, Nets (Dankort), Bancontact, girocard, NAPAS, Uzcard, Humo. Ranges are bought
and sold, and not every scheme publishes all of its own: a row may be missing here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

SHORTEST: Final = 12
LONGEST: Final = 19
SURE_FROM: Final = 14
"""No `SURE` row is shorter."""

Row = tuple[str, int, int, tuple[int, ...]]
"""Scheme, first and last six digits of a range (inclusive), lengths."""

_16_TO_19 = (16, 17, 18, 19)

SURE: Final[tuple[Row, ...]] = (
    ("Visa", 400000, 499999, (16, 18, 19)),
    ("Mastercard", 222100, 272099, (16,)),
    ("Mastercard", 510000, 559999, (16,)),
    ("American Express", 340000, 349999, (15,)),
    ("American Express", 370000, 379999, (15,)),
    ("Discover", 601100, 601199, _16_TO_19),
    ("Discover", 644000, 659999, _16_TO_19),
    ("Diners Club", 300000, 305999, (14, *_16_TO_19)),
    ("Diners Club", 309500, 309599, (14, *_16_TO_19)),
    ("Diners Club", 360000, 369999, (14, *_16_TO_19)),
    ("Diners Club", 380000, 399999, (14, *_16_TO_19)),
    ("JCB", 308800, 309499, _16_TO_19),
    ("JCB", 309600, 310299, _16_TO_19),
    ("JCB", 311200, 312099, _16_TO_19),
    ("JCB", 315800, 315999, _16_TO_19),
    ("JCB", 333700, 334999, _16_TO_19),
    ("JCB", 352800, 358999, _16_TO_19),
    ("UnionPay", 620000, 626999, _16_TO_19),
    ("UnionPay", 628200, 629999, _16_TO_19),
    ("UnionPay", 810000, 817199, _16_TO_19),
    ("Maestro", 501800, 501899, _16_TO_19),
    ("Maestro", 502000, 502099, _16_TO_19),
    ("Maestro", 503800, 503899, _16_TO_19),
    ("Maestro", 589300, 589399, _16_TO_19),
    ("Maestro", 630400, 630499, _16_TO_19),
    ("Maestro", 675900, 675999, _16_TO_19),
    ("Maestro", 676100, 676399, _16_TO_19),
    ("Maestro", 676770, 676774, _16_TO_19),
    ("Dankort", 501900, 501999, (16,)),
    ("Bancontact", 670300, 670399, _16_TO_19),
    ("girocard", 672000, 672999, _16_TO_19),
    ("Mir", 220000, 220499, _16_TO_19),
    ("RuPay", 508500, 508999, (16,)),
    ("RuPay", 606985, 608500, (16,)),
    ("RuPay", 817200, 829999, (16,)),
    ("Troy", 979200, 979299, (16,)),
    ("Elo", 504175, 504175, (16,)),
    ("Elo", 506699, 506778, (16,)),
    ("Elo", 509000, 509999, (16,)),
    ("Elo", 627780, 627780, (16,)),
    ("Elo", 636297, 636297, (16,)),
    ("Elo", 636368, 636369, (16,)),
    ("Hipercard", 606282, 606282, (16,)),
    ("Verve", 506099, 506198, (16, 18, 19)),
    ("Verve", 507865, 507964, (16, 18, 19)),
    ("NAPAS", 970400, 970499, (16, 19)),
    ("Uzcard", 860000, 860099, (16,)),
    ("Humo", 986000, 986099, (16,)),
)

NAMED: Final[tuple[Row, ...]] = (
    ("Visa", 400000, 499999, (13, 14, 15, 17)),
    ("Maestro", 500000, 509999, tuple(range(SHORTEST, LONGEST + 1))),
    ("Maestro", 560000, 589999, tuple(range(SHORTEST, LONGEST + 1))),
    ("Maestro and others", 600000, 699999, tuple(range(SHORTEST, LONGEST + 1))),
    ("UATP", 100000, 199999, (15,)),
    ("JCB", 180000, 180099, (15,)),
    ("JCB", 213100, 213199, (15,)),
)


def _by_length(rows: Iterable[Row]) -> dict[int, tuple[list[int], list[int]]]:
    """Length -> first and last numbers of its ranges, sorted, those that overlap joined."""
    ranges: dict[int, list[list[int]]] = {}
    for _, low, high, lengths in sorted(rows, key=lambda row: row[1]):
        for length in lengths:
            known = ranges.setdefault(length, [])
            if known and low <= known[-1][1] + 1:
                known[-1][1] = max(known[-1][1], high)
            else:
                known.append([low, high])
    return {length: ([low for low, _ in known], [high for _, high in known]) for length, known in ranges.items()}


_SURE = _by_length(SURE)
_ALL = _by_length((*SURE, *NAMED))


def is_issued(six: int, length: int, *, named: bool) -> bool:
    """Whether a scheme issues numbers of this length that begin with `six`; `named`: in a card's own field."""
    lows, highs = (_ALL if named else _SURE).get(length, ((), ()))
    at = bisect_right(lows, six) - 1
    return at >= 0 and six <= highs[at]
