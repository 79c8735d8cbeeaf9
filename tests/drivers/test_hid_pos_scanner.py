"""A virtual HID POS scanner on a report socket and the real driver at the other end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drivers.catalog import build_driver, build_transport, read_device, read_transport
from drivers.driver import Driver
from drivers.errors import DeviceLost, WrongDevice
from drivers.events import Noise, Scan
from drivers.hid import HidDevice, parse
from drivers.scanners.hid_pos import HidPosScanner
from drivers.scanners.label import FRAME_LIMIT_BYTES
from drivers.virtual.hid_scanner import VirtualHidScanner
from drivers.virtual.report_wire import ReportWire
from tests.drivers.rig import Heard, Running, running, until
from tests.drivers.test_hid import BARE_SCANNER

LONG = "https://example.com/01/04006381333931/10/LOT7/21/0000000042?17=261231&3103=000482&" + "x" * 150


def scanner_at(path: Path, heard: Heard, **options: object) -> Callable[[Callable[[], None]], Driver]:
    def build(on_open: Callable[[], None]) -> Driver:
        transport = build_transport(read_transport("hid-pos-scanner", "report-socket", {"path": str(path)}))
        return build_driver("hid-pos-scanner", read_device("hid-pos-scanner", options), transport, heard, on_open)

    return build


@asynccontextmanager
async def scanner_and_twin(path: Path, **options: Any) -> AsyncIterator[tuple[Running, VirtualHidScanner, Heard]]:
    twin, heard = VirtualHidScanner("scanner-1", ReportWire(path), **options), Heard()
    await twin.open()
    try:
        async with running(scanner_at(path, heard)) as run:
            await until(lambda: twin.state()["reports"])
            yield run, twin, heard
    finally:
        await twin.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scanner-1.reports"


@pytest.mark.parametrize("maker", ["honeywell", "zebra", "datalogic"])
async def test_scans_come_whole_with_their_identifier(path: Path, maker: str) -> None:
    async with scanner_and_twin(path, maker=maker) as (_, twin, heard):
        await twin.do("scan", {"text": "4006381333931", "aim": "E0"})
        twin.scan("010400638133393110LOT7\x1d21AB", "C1")
        twin.scan(LONG, "Q1")
        twin.scan("x" * 56, "Q1")
        twin.scan("x" * 57, "Q1")
        scans = await heard.of(Scan, 5)
    assert [(scan.text, scan.aim) for scan in scans] == [
        ("4006381333931", "E0"),
        ("010400638133393110LOT7\x1d21AB", "C1"),
        (LONG, "Q1"),
        ("x" * 56, "Q1"),
        ("x" * 57, "Q1"),
    ]
    assert len(scans[0].raw) == 64
    assert scans[0].captured_ns
    assert not heard.now(Noise)


async def test_a_honeywell_is_told_to_report_each_time_it_is_plugged_in(path: Path) -> None:
    async with scanner_and_twin(path) as (run, twin, heard):
        await twin.do("cable", {"to": "pull"})
        assert isinstance(await run.ended(), DeviceLost)
        with pytest.raises(DeviceLost, match="cannot be reached"):
            async with running(scanner_at(path, heard)):
                pass
        await twin.do("cable", {"to": "plug"})
        async with running(scanner_at(path, heard)):
            await until(lambda: twin.state()["reports"])
            twin.scan("4006381333931", "E0")
            assert (await heard.of(Scan))[0].text == "4006381333931"


async def test_one_that_is_a_keyboard_is_the_wrong_device(path: Path) -> None:
    twin = VirtualHidScanner("scanner-1", ReportWire(path), maker="keyboard")
    await twin.open()
    with pytest.raises(
        WrongDevice, match=r"is a keyboard \(0c2e:0b61\), where a HID POS bar code scanner is configured"
    ):
        async with running(scanner_at(path, Heard())):
            pass
    await twin.close()


@pytest.mark.parametrize(
    ("introduction", "error", "what"),
    [
        (b"D\x2e\x0c\x81\x0b\x27\xff", WrongDevice, "makes no sense: cut off"),
        (b"I\x02", DeviceLost, "does not say who it is"),
    ],
)
async def test_who_does_not_say_what_it_is_is_not_believed(
    path: Path, introduction: bytes, error: type[Exception], what: str
) -> None:
    twin = VirtualHidScanner("scanner-1", wire := ReportWire(path))
    wire.introduction = introduction
    await twin.open()
    with pytest.raises(error, match=what):
        async with running(scanner_at(path, Heard())):
            pass
    await twin.close()


async def test_a_last_part_that_never_comes_is_noise_and_the_next_scan_is_whole(path: Path) -> None:
    async with scanner_and_twin(path) as (_, twin, heard):
        await twin.do("cut_scan", {"text": LONG, "aim": "Q1"})
        (noise,) = await heard.of(Noise)
        assert noise.reason == "cut off"
        assert len(noise.raw) % 64 == 0
        twin.scan("5449000000996", "E0")
        assert [scan.text for scan in await heard.of(Scan)] == ["5449000000996"]


async def test_another_code_in_the_middle_of_one_does_not_join_it(path: Path) -> None:
    async with scanner_and_twin(path) as (_, twin, heard):
        await twin.do("cut_scan", {"text": LONG, "aim": "Q1"})
        twin.scan("5449000000996", "E0")
        assert [scan.text for scan in await heard.of(Scan)] == ["5449000000996"]
        assert [noise.reason for noise in heard.now(Noise)] == ["cut off"]


async def test_split_late_garbled_and_silent(path: Path) -> None:
    async with scanner_and_twin(path) as (_, twin, heard):
        await twin.do("split", {"on": True})
        await twin.do("late", {"ms": 20})
        twin.scan(LONG, "Q1")
        assert (await heard.of(Scan))[0].text == LONG
        await twin.do("split", {"on": False})
        await twin.do("late", {"ms": 0})
        await twin.do("silence", {"on": True})
        twin.scan("1", "C0")
        await twin.do("silence", {"on": False})
        await twin.do("garble", {"on": True})
        twin.scan("2", "C0")
        await twin.do("garble", {"on": False})
        await twin.do("noise", {})
        twin.scan("3", "C0")
        assert [scan.text for scan in await heard.of(Scan, 2)] == [LONG, "3"]
        assert {noise.reason for noise in heard.now(Noise)} == {"not a report of scanned data"}


async def test_a_pulled_cable_in_the_middle_of_a_code_delivers_nothing(path: Path) -> None:
    async with scanner_and_twin(path) as (run, twin, heard):
        await twin.do("cut_scan", {"text": LONG, "aim": "Q1"})
        await until(lambda: run.driver.protocol.pending or bool(heard.now(Noise)))
        await twin.do("cable", {"to": "pull"})
        assert isinstance(await run.ended(), DeviceLost)
        assert [noise.reason for noise in heard.now(Noise)] == ["cut off"]
        assert not heard.now(Scan)


def test_reports_without_a_number_are_read_where_the_descriptor_says() -> None:
    protocol = HidPosScanner()
    assert protocol.describe(HidDevice(0x05E0, 0x1300, parse(BARE_SCANNER))) == ()
    (scan,) = protocol.receive(b"\x0d]E04006381333931".ljust(61, b"\0"))
    assert isinstance(scan, Scan)
    assert (scan.text, scan.aim) == ("4006381333931", "E0")
    (plain,) = protocol.receive(b"\x03\0\0\0abc".ljust(61, b"\0"))
    assert isinstance(plain, Scan)
    assert (plain.text, plain.aim) == ("abc", None)


def test_a_code_without_end_is_given_up_and_its_tail_is_no_code() -> None:
    twin = VirtualHidScanner("scanner-1", ReportWire(Path("nowhere")))
    reports = twin.reports("7" * (FRAME_LIMIT_BYTES + 500), "Q1")
    protocol = HidPosScanner()
    events = [event for report in reports for event in protocol.receive(report)]
    events += protocol.receive(twin.reports("4006381333931", "E0")[0])
    assert [type(event) for event in events] == [Noise, Scan]
    assert isinstance(events[0], Noise)
    assert events[0].reason == f"longer than {FRAME_LIMIT_BYTES} bytes"
    assert not protocol.pending
