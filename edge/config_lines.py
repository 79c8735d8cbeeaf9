"""Which line of a TOML text a key stands on.

Strategy: the standard library reads TOML but forgets the lines. A complaint needs only a place to look, so this scans
for table headers and ``key =`` at the start of lines, skipping the inside of multi-line strings, and falls back to the
innermost table that it did find.
"""

from __future__ import annotations

import re

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?")
_KEY = re.compile(r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"))*)\s*=""")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")

Place = tuple[str | int, ...]


def line_of(text: str, place: Place) -> int | None:
    """The line (from 1) of the key at `place`, or of the nearest table around it; None when neither is there."""
    lines = index(text)
    for length in range(len(place), 0, -1):
        if place[:length] in lines:
            return lines[place[:length]]
    return None


def index(text: str) -> dict[Place, int]:
    """Every table and key of the text that starts a line, with its line number."""
    lines: dict[Place, int] = {}
    counts: dict[Place, int] = {}
    table: Place = ()
    inside: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if inside:
            inside = None if inside in line else inside
            continue
        if header := _HEADER.match(line):
            table = _resolve(_parts(header[2]), counts, header[1] == "[[")
            lines.setdefault(table, number)
            continue
        if key := _KEY.match(line):
            lines.setdefault(table + _parts(key[1]), number)
        for quotes in ('"""', "'''"):
            if line.count(quotes) % 2:
                inside = quotes
    return lines


def _parts(dotted: str) -> Place:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _resolve(parts: Place, counts: dict[Place, int], is_array: bool) -> Place:
    """A header's place with array positions put in: the second ``[[devices]]`` is ``("devices", 1)``."""
    out: Place = ()
    for depth, part in enumerate(parts):
        out += (part,)
        if is_array and depth == len(parts) - 1:
            counts[out] = counts.get(out, -1) + 1
        if out in counts:
            out += (counts[out],)
    return out
