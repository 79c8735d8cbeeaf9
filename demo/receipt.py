"""The demo's receipts: the document that is sent to the printer, and how one is recognised again on paper.

A receipt counts as printed when its last line is on the paper: the number between stars. Half a receipt has no last
line. Whether it is an original or a copy is told by the line DUPLICATE above its first line.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.bus.messages.facts import SaleLine

DUPLICATE = "DUPLICATE"
_FIRST_LINE = re.compile(r"^\s*No\. (\d+-\d+)\b")
_LAST_LINE = re.compile(r"^\s*\*(\d+-\d+)\*\s*$")


def document(store: str, lane: str, number: str, lines: Sequence[SaleLine], total_minor: int, paid: str) -> list[Any]:
    """The receipt as the bus takes it."""
    body: list[dict[str, Any]] = []
    for line in lines:
        body.append({"kind": "row", "left": line.text, "right": money(line.amount_minor)})
        if line.weight is not None:
            price = f"   {line.weight.value} {line.weight.unit} x {money(line.unit_price_minor)}/kg"
            body.append({"kind": "text", "text": price})
        elif line.quantity != "1":
            body.append({"kind": "text", "text": f"   {line.quantity} x {money(line.unit_price_minor)}"})
    return [
        {"kind": "text", "text": store, "align": "center", "bold": True, "width": 2, "height": 2},
        {"kind": "text", "text": f"No. {number}   {lane}"},
        {"kind": "rule"},
        *body,
        {"kind": "rule"},
        {"kind": "row", "left": "TOTAL EUR", "right": money(total_minor), "bold": True},
        {"kind": "text", "text": paid},
        {"kind": "barcode", "symbology": "CODE128", "data": number},
        {"kind": "text", "text": f"*{number}*", "align": "center"},
        {"kind": "cut"},
    ]


def money(minor: int) -> str:
    """Cents as people write them."""
    return f"{minor // 100}.{minor % 100:02d}"


@dataclass(slots=True)
class OnPaper:
    """How often each receipt number is on the paper, whole."""

    originals: Counter[str] = field(default_factory=Counter)
    duplicates: Counter[str] = field(default_factory=Counter)

    def has(self, number: str) -> bool:
        """Whether the customer can be given this one."""
        return bool(self.originals[number] or self.duplicates[number])


def read_paper(file: Path) -> OnPaper:
    """What is on the paper that `file` (a virtual printer's paper.jsonl) records."""
    found = OnPaper()
    if not file.exists():
        return found
    with file.open(encoding="utf-8") as strips:
        for strip in strips:
            _read_strip(json.loads(strip)["text"], found)
    return found


def _read_strip(text: str, found: OnPaper) -> None:
    heading: str | None = None  # what stands below DUPLICATE: the name of the job that is repeated
    is_copy = False
    for line in text.splitlines():
        if DUPLICATE in line:
            heading = ""
        elif first := _FIRST_LINE.match(line):
            is_copy, heading = heading is not None and first[1] in heading, None
        elif heading is not None:
            heading += line
        elif last := _LAST_LINE.match(line):
            (found.duplicates if is_copy else found.originals)[last[1]] += 1
