"""Text for a terminal, of what stores and people said: tables, and nothing that steers the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def printable(lines: Iterable[str]) -> str:
    """The lines, with a mark in the place of each character that a terminal would act on."""
    return "\n".join(
        "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line) for line in lines
    )


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table: each column as wide as its widest cell, `printable`."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return printable(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
