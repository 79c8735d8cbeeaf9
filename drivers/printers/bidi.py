"""The order in which mixed left-to-right and right-to-left text stands on a line.

Unicode Standard Annex 9 (bidirectional algorithm), revision 50: paragraph level P2-P3, weak types W1-W7, neutral types
N0-N2, implicit levels I1-I2, reordering L1-L2. Left out: explicit embeddings and isolates (dropped before they get
here: they would let a text show another than it holds) and brackets other than ( ) [ ] { }.
"""

from __future__ import annotations

from dataclasses import dataclass
from unicodedata import bidirectional

_RIGHT = frozenset(("R", "AL"))
_OPENING, _CLOSING = "([{", ")]}"
_NEUTRAL = frozenset(("B", "S", "WS", "ON", "BN", "ES", "ET", "CS"))


@dataclass(frozen=True, slots=True)
class Run:
    """Characters in reading order that stand in one direction; runs themselves come from left to right."""

    text: str
    right_to_left: bool


def has_right_to_left(text: str) -> bool:
    """Whether any character of `text` is written from right to left."""
    return not text.isascii() and any(bidirectional(one) in ("R", "AL", "AN") for one in text)


def base_level(text: str) -> int:
    """1 when the first letter that has a direction is written from right to left, else 0 (P2, P3)."""
    for one in text:
        kind = bidirectional(one)
        if kind == "L":
            return 0
        if kind in _RIGHT:
            return 1
    return 0


def visual_runs(text: str, base: int | None = None) -> list[Run]:
    """`text` (one line) as runs from left to right; `base` is the paragraph's level, `base_level(text)` when None."""
    if not has_right_to_left(text) and not base:
        return [Run(text, False)] if text else []
    levels = _levels(text, base_level(text) if base is None else base)
    runs: list[tuple[int, str]] = []
    for level, one in zip(levels, text, strict=True):
        if runs and runs[-1][0] == level:
            runs[-1] = (level, runs[-1][1] + one)
        else:
            runs.append((level, one))
    for level in range(max(levels, default=0), 0, -1):  # L2
        at = 0
        while at < len(runs):
            end = at
            while end < len(runs) and runs[end][0] >= level:
                end += 1
            runs[at:end] = reversed(runs[at:end])
            at = end + 1
    return [Run(part, bool(level & 1)) for level, part in runs]


def _levels(text: str, base: int) -> list[int]:
    original = [bidirectional(one) or "L" for one in text]
    embedding = "R" if base & 1 else "L"
    kinds = _weak(list(original), embedding)
    _brackets(text, kinds, embedding)
    _neutral(kinds, embedding)
    if base & 1:
        levels = [base if kind == "R" else base + 1 for kind in kinds]
    else:
        levels = [{"L": base, "R": base + 1}.get(kind, base + 2) for kind in kinds]
    for at in range(len(text) - 1, -1, -1):  # L1: white space at the end of the line
        if original[at] not in ("WS", "B", "S", "BN"):
            break
        levels[at] = base
    return levels


def _weak(kinds: list[str], embedding: str) -> list[str]:
    strong = previous = embedding
    for at, kind in enumerate(kinds):  # W1, W2, W3
        if kind == "NSM":
            kind = previous
        if kind in ("L", "R", "AL"):
            strong = kind
        elif kind == "EN" and strong == "AL":
            kind = "AN"
        previous = kinds[at] = kind
    kinds = ["R" if kind == "AL" else kind for kind in kinds]
    for at in range(1, len(kinds) - 1):  # W4
        before, after = kinds[at - 1], kinds[at + 1]
        if before == after and (before == "EN" or (before == "AN" and kinds[at] == "CS")) and kinds[at] in ("ES", "CS"):
            kinds[at] = before
    at = 0
    while at < len(kinds):  # W5
        end = at
        while end < len(kinds) and kinds[end] == "ET":
            end += 1
        if end > at and ("EN" in (kinds[at - 1 : at] + kinds[end : end + 1])):
            kinds[at:end] = ["EN"] * (end - at)
        at = end + 1
    strong = embedding
    for at, kind in enumerate(kinds):  # W7
        if kind in ("L", "R"):
            strong = kind
        elif kind == "EN" and strong == "L":
            kinds[at] = "L"
    return kinds


def _brackets(text: str, kinds: list[str], embedding: str) -> None:
    """N0: both brackets of a pair take the direction of what they hold."""
    for opening, closing in _pairs(text):
        inside = {_side(kind) for kind in kinds[opening + 1 : closing]} - {""}
        if not inside:
            continue
        side = embedding
        if embedding not in inside:
            before = next((one for kind in reversed(kinds[:opening]) if (one := _side(kind))), embedding)
            if before in inside:
                side = before
        kinds[opening] = kinds[closing] = side


def _pairs(text: str) -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    opened: list[tuple[str, int]] = []
    for at, one in enumerate(text):
        if one in _OPENING:
            opened.append((_CLOSING[_OPENING.index(one)], at))
        elif one in _CLOSING:
            for depth in range(len(opened) - 1, -1, -1):
                if opened[depth][0] == one:
                    pairs.append((opened[depth][1], at))
                    del opened[depth:]
                    break
    return sorted(pairs)


def _side(kind: str) -> str:
    """The direction of a strong kind, numbers among them (N0, N1); empty for neutral ones."""
    return "L" if kind == "L" else "R" if kind in ("R", "EN", "AN") else ""


def _neutral(kinds: list[str], embedding: str) -> None:
    at, before = 0, embedding
    while at < len(kinds):  # W6 (separators have become neutral here), N1, N2
        if kinds[at] not in _NEUTRAL:
            before = "L" if kinds[at] == "L" else "R"
            at += 1
            continue
        end = at
        while end < len(kinds) and kinds[end] in _NEUTRAL:
            end += 1
        after = embedding if end == len(kinds) else ("L" if kinds[end] == "L" else "R")
        kinds[at:end] = [before if before == after else embedding] * (end - at)
        at = end
