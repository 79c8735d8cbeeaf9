"""Which sequence numbers of a lane have been seen: the highest, and the gaps below it.

Strategy: pure bookkeeping, no storage. A number above highest + 1 opens a gap; a number inside a gap shrinks or splits
it; a number that was seen before changes nothing (whether it is a repeat or a conflict is not decided here).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers `first` to `last` (both inclusive) have not come; `noticed_at` is UTC, RFC 3339."""

    first: int
    last: int
    noticed_at: str


@dataclass(frozen=True, slots=True)
class GapChange:
    """`removed` is no longer a gap as it stood, `added` are; a new gap has nothing removed."""

    removed: Gap | None
    added: tuple[Gap, ...]


class LaneProgress:
    """The numbers seen from one lane, which counts from 1."""

    __slots__ = ("_firsts", "_gaps", "highest")

    def __init__(self, highest: int = 0, gaps: Iterable[Gap] = ()) -> None:
        self.highest = highest
        self._gaps = sorted(gaps, key=lambda gap: gap.first)
        self._firsts = [gap.first for gap in self._gaps]

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """The open gaps, lowest first."""
        return tuple(self._gaps)

    def seen(self, seq: int) -> bool:
        """Whether this number has come before."""
        return seq <= self.highest and self._gap_index(seq) is None

    def observe(self, seq: int, now: str) -> GapChange | None:
        """Take note of a number (>= 1); returns what changed among the gaps, or None."""
        if seq > self.highest:
            missed = Gap(self.highest + 1, seq - 1, now) if seq > self.highest + 1 else None
            self.highest = seq
            if missed is None:
                return None
            self._gaps.append(missed)
            self._firsts.append(missed.first)
            return GapChange(None, (missed,))
        index = self._gap_index(seq)
        if index is None:
            return None
        gap = self._gaps[index]
        parts = tuple(
            Gap(first, last, gap.noticed_at)
            for first, last in ((gap.first, seq - 1), (seq + 1, gap.last))
            if first <= last
        )
        self._gaps[index : index + 1] = parts
        self._firsts[index : index + 1] = [part.first for part in parts]
        return GapChange(gap, parts)

    def _gap_index(self, seq: int) -> int | None:
        index = bisect_right(self._firsts, seq) - 1
        return index if index >= 0 and seq <= self._gaps[index].last else None


def ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Numbers in any order as sorted inclusive ranges: 3, 1, 2, 7 becomes (1, 3), (7, 7)."""
    found: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found
