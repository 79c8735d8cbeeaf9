"""A recording of a running device replays as what the driver heard meanwhile: that is what makes it a capture."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from drivers.capture import BadCapture, Capture, load, plain, save
from drivers.catalog import build_driver, build_transport, read_device, read_transport
from drivers.driver import Driver
from drivers.errors import NotReady
from drivers.events import PrinterStatus, Scan, Weight
from drivers.recording import Recording, record
from drivers.virtual.report_wire import ReportWire
from drivers.virtual.twin import Twin
from drivers.virtual.twins import build_at
from drivers.virtual.wire import PtyWire, Wire
from tests.drivers.rig import PATIENCE_S, Heard, running, until

FOREVER_S = 1e6
LIMIT_BYTES = 10_000


@asynccontextmanager
async def device(
    kind: str, wire: Wire, folder: Path, options: Mapping[str, Any], twin: Mapping[str, object]
) -> AsyncIterator[tuple[Any, Twin, Heard]]:
    far, heard = build_at(kind, "it", wire, folder, twin), Heard()
    await far.open()
    link = "report-socket" if isinstance(wire, ReportWire) else "serial"

    def build(on_open: Callable[[], None]) -> Driver:
        transport = build_transport(read_transport(kind, link, {"path": wire.address}))
        return build_driver(kind, read_device(kind, options), transport, heard, on_open)

    try:
        async with running(build) as run:
            yield run.driver, far, heard
    finally:
        await far.close()


async def recorded(driver: Driver, what_happens: Callable[[], Awaitable[None]]) -> Recording:
    """Record while it happens: the limit ends the recording, since more than it has come then."""
    now = asyncio.get_running_loop().time()
    recording = asyncio.create_task(record(driver, now + FOREVER_S, LIMIT_BYTES))
    await until(lambda: driver.tap is not None)
    await what_happens()
    assert driver.tap is not None
    driver.tap(bytes(LIMIT_BYTES + 1))
    done = await recording
    assert (done.ended, driver.tap) == ("full", None)
    return done


def captured(kind: str, options: Mapping[str, Any], recording: Recording, folder: Path) -> Capture:
    """As `tillgate devices record` keeps it, written and read again."""
    capture = Capture(
        kind,
        options,
        b"".join(recording.pieces),
        asked=tuple(recording.asked),
        reports=tuple(map(len, recording.pieces)) if recording.hid else (),
        hid=recording.hid,
    )
    save(capture, folder)
    assert load(folder) == capture
    return capture


async def test_a_printer_answers_the_questions_that_it_was_asked_when_it_was_asked(tmp_path: Path) -> None:
    options = {"model": "TM-U220"}
    wire = PtyWire(tmp_path / "tty")
    async with device("escpos-printer", wire, tmp_path, options, {"proof": False}) as (printer, twin, heard):
        await printer.ask(PATIENCE_S)
        await twin.do("late", {"ms": 50})
        first = asyncio.create_task(printer.ask(PATIENCE_S))  # outstanding when the recording begins
        await until(lambda: printer.protocol.expecting)
        heard.events.clear()

        async def things_happen() -> None:
            await first
            await twin.do("late", {"ms": 0})
            await twin.do("cover", {"to": "open"})
            assert (await printer.ask(PATIENCE_S)).cover_open
            await twin.do("silence", {"on": True})
            with pytest.raises(NotReady):
                await printer.ask(0.05)  # given up
            await twin.do("silence", {"on": False})
            await twin.do("cover", {"to": "closed"})
            while printer.status.cover_open is not False:  # the replies that never came are waited for at first
                with suppress(NotReady):
                    await printer.ask(0.2)

        recording = await recorded(printer, things_happen)
        events = list(heard.events)
    assert recording.asked[0] == (0, (1, 2, 3, 4))
    assert () in [numbers for _, numbers in recording.asked]
    capture = captured("escpos-printer", options, recording, tmp_path / "capture")
    assert capture.meaning() == plain(events)
    statuses = [event for event in capture.meaning() if event["event"] == "PrinterStatus"]
    assert [status["cover_open"] for status in statuses][:2] == [False, True]
    assert len(heard.now(PrinterStatus)) == len(statuses)


async def test_an_hid_device_is_kept_with_what_it_says_it_is(tmp_path: Path) -> None:
    """The places in its reports are read from its descriptor: without it, its bytes would mean something else."""
    options = {"vendor": "other"}
    wire = ReportWire(tmp_path / "reports")
    async with device("hid-pos-scanner", wire, tmp_path, options, {"maker": "datalogic"}) as (scanner, twin, heard):

        async def scans() -> None:
            await twin.do("scan", {"text": "4006381333931", "aim": "E0"})
            await twin.do("scan", {"text": "x" * 80, "aim": "C0"})
            await heard.of(Scan, 2)

        recording = await recorded(scanner, scans)
    capture = captured("hid-pos-scanner", options, recording, tmp_path / "capture")
    assert (recording.hid or {})["vendor"] == "05f9"
    assert [event["text"] for event in capture.meaning()] == ["4006381333931", "x" * 80]
    assert json.loads((tmp_path / "capture" / "protocol.json").read_text())["reports"] == 64


async def test_reports_of_different_lengths_stay_apart(tmp_path: Path) -> None:
    wire = ReportWire(tmp_path / "reports")
    async with device("usb-hid-scale", wire, tmp_path, {}, {}) as (scale, twin, heard):

        async def weighs() -> None:
            await twin.do("load", {"value": "1.48"})
            await heard.until(lambda: any(weight.value == "1.480" for weight in heard.now(Weight)))
            wire.send(b"\x05\x01\x02")  # another report, of another length
            await heard.until(
                lambda: any(event.raw == b"\x05\x01\x02" for event in heard.events if hasattr(event, "raw"))
            )
            seen = len(heard.now(Weight))
            await heard.of(Weight, seen + 1)

        before = len(heard.events)
        recording = await recorded(scale, weighs)
        events = heard.events[before:]
    assert {3, 6} <= {len(piece) for piece in recording.pieces}
    capture = captured("usb-hid-scale", {}, recording, tmp_path / "capture")
    assert capture.meaning() == plain(events)[: len(capture.meaning())]
    assert any(event == {"event": "Weight", **event} and event["value"] == "1.480" for event in capture.meaning())
    assert isinstance(json.loads((tmp_path / "capture" / "protocol.json").read_text())["reports"], list)
    spec = tmp_path / "capture" / "protocol.json"
    spec.write_text(spec.read_text().replace("3", "4", 1))
    with pytest.raises(BadCapture, match=r"bytes\.rx"):
        load(tmp_path / "capture")
