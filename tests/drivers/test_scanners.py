"""Every scanner kind against its virtual twin: one row per kind and form, the same questions to all.

Tests of what only one kind has stand in a file named after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from drivers.catalog import build_driver, build_transport, read_device, read_transport
from drivers.driver import Driver
from drivers.errors import DeviceLost
from drivers.events import Noise, Scan
from drivers.virtual.report_wire import ReportWire
from drivers.virtual.twin import Twin
from drivers.virtual.twins import TWINS
from drivers.virtual.wire import PtyWire, UnixWire
from tests.drivers.rig import Heard, Running, running

EAN = "4006381333931"


@dataclass(frozen=True)
class Row:
    """One kind of scanner, in one of its forms."""

    kind: str
    form: str = ""
    aim: str | None = "E0"
    """What is told of the symbology when its AIM identifier is E0."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the driver."""
    twin: Mapping[str, Any] = field(default_factory=dict)
    """Of the twin."""
    ends: bool = True
    """False: nothing but silence ends a code, so that one cut off or garbled is a text like any other."""
    cut: str = EAN
    """A code that can be cut off."""

    def __str__(self) -> str:
        return f"{self.kind}-{self.form}" if self.form else self.kind


ROWS = [
    Row("serial-scanner"),
    Row("serial-scanner", "crlf", options={"suffix": "crlf"}, twin={"suffix": "crlf"}),
    Row("serial-scanner", "silence", options={"suffix": "none"}, twin={"suffix": "none"}, ends=False),
    Row("keyboard-scanner"),
    Row("keyboard-scanner", "de", options={"layout": "de"}, twin={"layout": "de"}),
    Row("keyboard-scanner", "tab", options={"suffix": "tab"}, twin={"suffix": "tab"}),
    Row("hid-pos-scanner", cut="x" * 80),
    Row("hid-pos-scanner", "zebra", options={"vendor": "other"}, twin={"maker": "zebra"}, cut="x" * 80),
    Row("magellan"),
    Row("magellan", "stx", options={"form": "stx"}, twin={"form": "stx"}),
]
rows = pytest.mark.parametrize("row", ROWS, ids=str)
ended = pytest.mark.parametrize("row", [row for row in ROWS if row.ends], ids=str)


@asynccontextmanager
async def scanner_and_twin(row: Row, folder: Path) -> AsyncIterator[tuple[Running, Twin, Heard]]:
    entry, heard = TWINS[row.kind], Heard()
    wire = UnixWire if entry.events else ReportWire if entry.reports else PtyWire
    link = "event-socket" if entry.events else "report-socket" if entry.reports else "serial"
    twin = entry.twin("scanner-1", wire(folder / "line"), **row.twin)
    await twin.open()

    def build(on_open: Callable[[], None]) -> Driver:
        transport = build_transport(read_transport(row.kind, link, {"path": str(folder / "line")}))
        return build_driver(row.kind, read_device(row.kind, row.options), transport, heard, on_open)

    try:
        async with running(build) as run:
            yield run, twin, heard
    finally:
        await twin.close()


@rows
async def test_scans_come_whole_in_order(row: Row, tmp_path: Path) -> None:
    async with scanner_and_twin(row, tmp_path) as (_, twin, heard):
        for number in range(1, 4 if row.ends else 2):
            await twin.do("scan", {"text": f"400638133393{number}", "aim": "E0"})
            scans = await heard.of(Scan, number)
            assert (scans[-1].text, scans[-1].aim) == (f"400638133393{number}", row.aim)
        assert not heard.now(Noise)


@rows
async def test_split_and_late_it_is_the_same_scan(row: Row, tmp_path: Path) -> None:
    async with scanner_and_twin(row, tmp_path) as (_, twin, heard):
        await twin.do("split", {"on": True})
        await twin.do("late", {"ms": 20})
        await twin.do("scan", {"text": "42", "aim": "E0"})
        assert [scan.text for scan in await heard.of(Scan)] == ["42"]
        assert not heard.now(Noise)


@ended
async def test_what_is_cut_off_is_no_scan(row: Row, tmp_path: Path) -> None:
    async with scanner_and_twin(row, tmp_path) as (_, twin, heard):
        await twin.do("cut_scan", {"text": row.cut})
        await heard.of(Noise)
        assert not heard.now(Scan)


@ended
async def test_what_is_garbled_is_no_scan(row: Row, tmp_path: Path) -> None:
    async with scanner_and_twin(row, tmp_path) as (_, twin, heard):
        await twin.do("garble", {"on": True})
        await twin.do("scan", {"text": EAN, "aim": "E0"})
        await twin.do("garble", {"on": False})
        scanning = asyncio.create_task(heard.of(Scan))
        while not scanning.done():  # the first ones may end what the garbled one began
            await twin.do("scan", {"text": "96385074", "aim": "E0"})
            await asyncio.wait((scanning,), timeout=0.2)
        assert {scan.text for scan in scanning.result()} == {"96385074"}


@rows
async def test_unplugged_it_is_lost(row: Row, tmp_path: Path) -> None:
    async with scanner_and_twin(row, tmp_path) as (run, twin, heard):
        await twin.do("cable", {"to": "pull"})
        assert isinstance(await run.ended(), DeviceLost)
        assert not heard.now(Scan)
