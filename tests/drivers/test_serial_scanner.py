"""A virtual scanner on a pty and the real driver at the other end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.catalog import build_driver, build_transport, read_device, read_transport
from drivers.driver import Driver
from drivers.errors import BadOption, DeviceLost, WrongDevice
from drivers.events import Noise, Scan
from drivers.scanners.label import FRAME_LIMIT_BYTES
from drivers.scanners.serial_scanner import SerialScanner, SerialScannerOptions
from drivers.virtual.scanner import VirtualScanner
from drivers.virtual.wire import PtyWire
from tests.drivers.rig import Heard, running, until


def scanner_at(path: Path, heard: Heard, **options: object) -> Callable[[Callable[[], None]], Driver]:
    def build(on_open: Callable[[], None]) -> Driver:
        transport = build_transport(read_transport("serial-scanner", "serial", {"path": str(path)}))
        return build_driver("serial-scanner", read_device("serial-scanner", options), transport, heard, on_open)

    return build


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ttyscanner-1"


async def test_scans_come_whole_in_order_and_stamped(path: Path) -> None:
    twin, heard = VirtualScanner("scanner-1", PtyWire(path)), Heard()
    await twin.open()
    before = time.monotonic_ns()
    async with running(scanner_at(path, heard)):
        for number in range(50):
            twin.scan(f"40063813{number:05d}", "E0")
        scans = await heard.of(Scan, 50)
    assert [scan.text for scan in scans] == [f"40063813{number:05d}" for number in range(50)]
    assert {scan.aim for scan in scans} == {"E0"}
    assert all(before < scan.captured_ns <= time.monotonic_ns() for scan in scans)
    assert scans[0].raw == b"]E04006381300000\r"
    assert not heard.now(Noise)
    await twin.close()


async def test_split_and_late_bytes_make_the_same_scan(path: Path) -> None:
    twin, heard = VirtualScanner("scanner-1", PtyWire(path), suffix="crlf"), Heard()
    await twin.open()
    async with running(scanner_at(path, heard, suffix="crlf")):
        await twin.do("split", {"on": True})
        await twin.do("late", {"ms": 20})
        await twin.do("scan", {"text": "0104006381333931\x1d10A"})
        assert (await heard.of(Scan))[0].text == "0104006381333931\x1d10A"
    await twin.close()


async def test_without_a_suffix_silence_ends_the_code(path: Path) -> None:
    twin, heard = VirtualScanner("scanner-1", PtyWire(path), suffix="none"), Heard()
    await twin.open()
    async with running(scanner_at(path, heard, suffix="none")):
        twin.scan("4006381333931")
        assert (await heard.of(Scan))[0].text == "4006381333931"
    await twin.close()


async def test_a_scan_that_stops_in_the_middle_is_noise_and_the_next_one_is_whole(path: Path) -> None:
    twin, heard = VirtualScanner("scanner-1", PtyWire(path)), Heard()
    await twin.open()
    async with running(scanner_at(path, heard)):
        await twin.do("cut_scan", {"text": "4006381333931"})
        assert (await heard.of(Noise))[0] == Noise(b"4006381", "cut off", "cut_off")
        twin.scan("5449000000996")
        assert [scan.text for scan in await heard.of(Scan)] == ["5449000000996"]
    await twin.close()


async def test_rubbish_is_noise_and_the_next_scan_is_whole(path: Path) -> None:
    twin, heard = VirtualScanner("scanner-1", PtyWire(path)), Heard()
    await twin.open()
    async with running(scanner_at(path, heard)):
        await twin.do("noise", {"hex": "00 01 07 0d"})
        await twin.do("scan", {"raw": "63 61 66 e9 0d"})
        twin.scan("4006381333931")
        assert [scan.text for scan in await heard.of(Scan)] == ["4006381333931"]
    assert [noise.reason for noise in heard.now(Noise)] == ["control characters in a code", "not UTF-8"]
    await twin.close()


async def test_a_pulled_cable_ends_the_driver_and_a_half_scan_is_not_delivered(path: Path) -> None:
    twin, heard = VirtualScanner("scanner-1", PtyWire(path)), Heard()
    await twin.open()
    async with running(scanner_at(path, heard)) as run:
        twin.scan("1")
        await heard.of(Scan)
        await twin.do("cut_scan", {"text": "4006381333931"})
        await until(lambda: run.driver.protocol.pending or bool(heard.now(Noise)))
        await twin.do("cable", {"to": "pull"})
        assert isinstance(await run.ended(), DeviceLost)
    assert [noise.reason for noise in heard.now(Noise)] == ["cut off"]
    with pytest.raises(DeviceLost, match="is not there"):
        async with running(scanner_at(path, heard)):
            pass
    await twin.do("cable", {"to": "plug"})
    async with running(scanner_at(path, heard)):
        twin.scan("2")
        assert [scan.text for scan in await heard.of(Scan, 2)] == ["1", "2"]
    await twin.close()


async def test_a_driver_can_run_again_and_hears_nothing_old(path: Path) -> None:
    twin, heard = VirtualScanner("scanner-1", PtyWire(path)), Heard()
    await twin.open()
    async with running(scanner_at(path, heard)):
        twin.scan("1")
        await heard.of(Scan)
    twin.scan("scanned while nobody listened")
    async with running(scanner_at(path, heard)):
        twin.scan("3")
        assert [scan.text for scan in await heard.of(Scan, 2)] == ["1", "3"]
    await twin.close()


async def test_one_line_is_for_one_process(path: Path) -> None:
    twin, heard = VirtualScanner("scanner-1", PtyWire(path)), Heard()
    await twin.open()
    async with running(scanner_at(path, heard)):
        with pytest.raises(DeviceLost, match="in use"):
            async with running(scanner_at(path, heard)):
                pass
    await twin.close()


async def test_a_file_that_is_no_serial_line_is_the_wrong_device(path: Path) -> None:
    path.write_text("not a line")
    with pytest.raises(WrongDevice, match="not a serial line"):
        async with running(scanner_at(path, Heard())):
            pass


def test_the_buffer_is_bounded_and_the_tail_of_rubbish_is_not_a_scan() -> None:
    protocol = SerialScanner()
    events = [*protocol.receive(b"9" * (FRAME_LIMIT_BYTES + 1)), *protocol.receive(os.urandom(64).hex().encode())]
    events += protocol.receive(b"123\r4006381333931\r")
    assert [type(event) for event in events] == [Noise, Scan]
    assert events[1].text == "4006381333931"  # type: ignore[union-attr]


def test_another_end_than_configured_is_never_delivered_and_says_what_to_set() -> None:
    protocol = SerialScanner(SerialScannerOptions(suffix="crlf"))
    assert not protocol.receive(b"4006381333931\r")
    (noise,) = protocol.idle()
    assert isinstance(noise, Noise)
    assert (noise.code, noise.reason) == ("cut_off", 'cut off; or it ends with cr: set suffix = "cr"')


def test_a_prefix_may_be_a_control_character() -> None:
    protocol = SerialScanner(SerialScannerOptions(prefix="\x02", suffix="etx"))
    (scan,) = protocol.receive(b"\x02]E04006381333931\x03")
    assert isinstance(scan, Scan)
    assert (scan.text, scan.aim) == ("4006381333931", "E0")


def test_prefix_and_identifier_are_taken_off_and_missed_when_missing() -> None:
    protocol = SerialScanner(SerialScannerOptions(prefix="~", aim="always"))
    scan, no_prefix, no_aim, empty = protocol.receive(b"~]E04006381333931\r]E01\r~1\r~]E0\r")
    assert isinstance(scan, Scan)
    assert (scan.text, scan.aim) == ("4006381333931", "E0")
    assert [event.reason for event in (no_prefix, no_aim, empty) if isinstance(event, Noise)] == [
        "the configured prefix is missing",
        "the AIM identifier is missing",
        "an empty code",
    ]


def test_configuration_errors_name_the_key_and_what_is_right() -> None:
    with pytest.raises(BadOption, match="suffix: is 'CR'; expected one of 'cr'"):
        read_device("serial-scanner", {"suffix": "CR"})
    with pytest.raises(BadOption, match="sufix: is not known here; known are suffix, prefix, aim"):
        read_device("serial-scanner", {"sufix": "cr"})
    with pytest.raises(BadOption, match="path: expected either path"):
        read_transport("serial-scanner", "serial", {})
    with pytest.raises(BadOption, match="baud: is True; expected a whole number"):
        read_transport("serial-scanner", "serial", {"path": "/dev/ttyS0", "baud": True})
    with pytest.raises(BadOption, match="a serial-scanner takes serial, tcp"):
        read_transport("serial-scanner", "evdev", {"path": "/dev/input/event0"})
    with pytest.raises(BadOption, match="expected one of serial-scanner"):
        read_device("laser", {})
