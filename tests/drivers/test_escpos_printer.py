"""A virtual printer on TCP or a pty and the real driver at the other end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from drivers.catalog import build_drawer, build_driver, build_transport, read_device, read_transport
from drivers.errors import DeviceLost, NotReady
from drivers.events import DrawerStatus, Noise, PrinterStatus, PrintProof
from drivers.printers.document import Cut, Element, Row, Text
from drivers.printers.escpos import encode
from drivers.printers.printer_driver import PrinterDriver
from drivers.printers.profiles import PROFILES
from drivers.virtual.printer import VirtualPrinter
from drivers.virtual.wire import PtyWire, TcpWire
from tests.drivers.rig import PATIENCE_S, Heard, Running, running, until


def receipt(number: int, lines: int = 3) -> bytes:
    items: list[Element] = [Row(f"Item {line} of {number}", "1.20") for line in range(lines)]
    return encode([Text(f"Sale {number}", bold=True), *items, Cut()], PROFILES["TM-T88V"]).data


@dataclass
class Bench:
    twin: VirtualPrinter
    heard: Heard
    build: Callable[[Callable[[], None]], PrinterDriver]
    paper: Path

    @asynccontextmanager
    async def printer(self) -> AsyncIterator[tuple[PrinterDriver, Running]]:
        async with running(self.build) as run:
            yield run.driver, run


@pytest.fixture
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    spec = dict(getattr(request, "param", {}))
    model, line = spec.pop("model", "TM-T88V"), spec.pop("line", "tcp")
    wire = PtyWire(tmp_path / "ttyprinter-1") if line == "serial" else TcpWire(0)
    twin, heard = VirtualPrinter("printer-1", wire, tmp_path / "paper", **spec), Heard()
    await twin.open()

    def build(on_open: Callable[[], None]) -> PrinterDriver:
        where: dict[str, object] = {"path": wire.address}
        if isinstance(wire, TcpWire):
            where = {"host": "127.0.0.1", "port": wire.port}
        transport = build_transport(read_transport("escpos-printer", line, where))
        options = read_device("escpos-printer", {"model": model})
        driver = build_driver("escpos-printer", options, transport, heard, on_open)
        assert isinstance(driver, PrinterDriver)
        return driver

    yield Bench(twin, heard, build, tmp_path / "paper")
    await twin.close()


on_both_lines = pytest.mark.parametrize("bench", [{"line": "tcp"}, {"line": "serial"}], indirect=True)


@on_both_lines
async def test_a_job_is_printed_and_proved(bench: Bench) -> None:
    async with bench.printer() as (printer, _):
        assert await printer.send(receipt(1), b"A001", PATIENCE_S) == "printed"
        assert await printer.send(receipt(2, lines=200), b"A002", PATIENCE_S) == "printed"
        assert printer.status.reason is None
        assert (printer.status.online, printer.status.paper, printer.status.error) == (True, "ok", None)
    papers = [json.loads(line) for line in (bench.paper / "paper.jsonl").read_text().splitlines()]
    assert [paper["number"] for paper in papers] == [1, 2]
    assert papers[0]["text"].splitlines()[:2] == ["Sale 1", "Item 0 of 1" + " " * 27 + "1.20"]
    assert (bench.paper / "0002.txt").read_text().count("Item") == 200
    assert bench.twin.state()["unknown_commands"] == 0
    assert [proof.token for proof in bench.heard.now(PrintProof)] == [b"A001", b"A002"]
    assert not bench.heard.now(Noise)


@pytest.mark.parametrize("bench", [{"model": "TM-T88III", "proof": False}, {"model": "one-way"}], indirect=True)
async def test_a_printer_that_cannot_prove_it_has_sent(bench: Bench) -> None:
    async with bench.printer() as (printer, _):
        assert await printer.send(receipt(1), b"A001", PATIENCE_S) == "sent"
    await until(lambda: bench.twin.receipts == 1)


async def test_split_and_late_replies_prove_as_well(bench: Bench) -> None:
    async with bench.printer() as (printer, _):
        await bench.twin.do("split", {"on": True})
        await bench.twin.do("late", {"ms": 200})
        assert await printer.send(receipt(1), b"A001", PATIENCE_S) == "printed"
    assert not bench.heard.now(Noise)


async def test_no_paper_before_the_job_nothing_starts(bench: Bench) -> None:
    async with bench.printer() as (printer, _):
        await bench.twin.do("paper", {"to": "out"})
        await bench.heard.until(lambda: printer.status.paper == "end")
        with pytest.raises(NotReady, match="new roll") as caught:
            await printer.send(receipt(1), b"A001", PATIENCE_S)
        assert (caught.value.reason, caught.value.started) == ("paper_out", False)
        await bench.twin.do("paper", {"to": "ok"})
        assert await printer.send(receipt(1), b"A001", PATIENCE_S) == "printed"
    assert bench.twin.receipts == 1


@pytest.mark.parametrize(
    "bench", [{"line": "tcp"}, {"line": "serial"}, {"model": "TM-T88III", "proof": False}], indirect=True
)
@pytest.mark.parametrize("lines", [8, 2000])
@pytest.mark.parametrize(("what", "wrong", "right"), [("paper", "out", "ok"), ("cover", "open", "closed")])
async def test_help_in_mid_job_and_the_job_goes_on(bench: Bench, what: str, wrong: str, right: str, lines: int) -> None:
    """A job that fits into the printer's buffer, and one that does not: it stays under way, and comes out once."""
    async with bench.printer() as (printer, _):
        await bench.twin.do(what, {"to": wrong, "after_lines": 2})
        job = asyncio.create_task(printer.send(receipt(1, lines), b"A001", 1.0), name="a job")
        await bench.heard.until(lambda: printer.status.reason is not None)
        await asyncio.wait((job,), timeout=1.5)  # longer than a printer may take without a word: this one has said why
        assert not job.done()
        await bench.twin.do(what, {"to": right})
        assert await job == ("printed" if printer.profile.proves_printing else "sent")
        await until(lambda: bench.twin.receipts == 1)
    assert (bench.paper / "0001.txt").read_text().count("Item") == lines


async def test_cover_and_errors_have_their_reasons(bench: Bench) -> None:
    async with bench.printer() as (printer, _):
        for action, wrong, right, reason in (
            ("cover", "open", "closed", "cover_open"),
            ("error", "cutter", "none", "printer_error_cutter"),
            ("error", "unrecoverable", "none", "printer_error_unrecoverable"),
        ):
            await bench.twin.do(action, {"to": wrong})
            with pytest.raises(NotReady) as caught:
                await printer.send(receipt(1), b"A001", PATIENCE_S)
            assert (caught.value.reason, caught.value.started) == (reason, False)
            await bench.twin.do(action, {"to": right})
        await bench.twin.do("paper", {"to": "near_end"})
        assert await printer.send(receipt(1), b"A001", PATIENCE_S) == "printed"
        await bench.heard.until(lambda: printer.status.paper == "near_end")


@on_both_lines
async def test_power_cycled_in_mid_job_the_job_is_unknown_and_the_next_one_prints(bench: Bench) -> None:
    async with bench.printer() as (printer, run):
        assert await printer.send(receipt(1), b"A001", PATIENCE_S) == "printed"
        await bench.twin.do("power", {"to": "cycle", "after_bytes": 200})
        with pytest.raises((DeviceLost, NotReady)) as caught:
            await printer.send(receipt(2, lines=50), b"A002", 2.0)
        assert caught.value.started  # type: ignore[attr-defined]
        if isinstance(bench.twin.wire, TcpWire):
            assert isinstance(await run.ended(), DeviceLost)
    await until(lambda: bench.twin.state()["power"] == "on")
    async with bench.printer() as (printer, _):
        assert await printer.send(receipt(3), b"A003", PATIENCE_S) == "printed"
    assert bench.twin.receipts == 2
    assert "Sale 3" in (bench.paper / "0002.txt").read_text()


async def test_a_dead_serial_printer_is_no_answer_and_nothing_starts(tmp_path: Path, bench: Bench) -> None:
    async with bench.printer() as (printer, _):
        await bench.twin.do("silence", {"on": True})
        with pytest.raises(NotReady) as caught:
            await printer.send(receipt(1), b"A001", PATIENCE_S)
        assert (caught.value.reason, caught.value.started) == ("no_answer", False)


@pytest.mark.parametrize("bench", [{"line": "serial"}], indirect=True)
async def test_a_printer_that_takes_no_more_bytes_does_not_hold_up_anything(bench: Bench) -> None:
    async with bench.printer() as (printer, run):
        await bench.heard.until(lambda: any(len(status.raw) == 4 for status in bench.heard.now(PrinterStatus)))
        await bench.twin.do("pace", {"bytes_per_s": 1})
        with pytest.raises(NotReady) as caught:
            await printer.send(receipt(1, lines=2000), b"A001", 1.0)
        assert (caught.value.reason, caught.value.started) == ("not_drained", True)
        assert isinstance(await run.ended(), DeviceLost)  # the rest must not follow the next opening


async def test_a_printer_that_nobody_helps_is_not_waited_for_for_ever(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drivers.printers.printer_driver.STUCK_S", 1.0)
    async with bench.printer() as (printer, _):
        await bench.twin.do("paper", {"to": "out", "after_lines": 2})
        with pytest.raises(NotReady) as caught:
            await printer.send(receipt(1), b"A001", PATIENCE_S)
        assert (caught.value.reason, caught.value.started) == ("paper_out", True)
        await bench.twin.do("paper", {"to": "ok"})  # and still it comes out, and proves itself
        assert [proof.token for proof in await bench.heard.of(PrintProof)] == [b"A001"]
    assert bench.twin.receipts == 1


@pytest.mark.parametrize("bench", [{"line": "serial"}], indirect=True)
async def test_switched_off_and_on_while_it_waits_for_paper_it_has_forgotten_the_job(bench: Bench) -> None:
    """The serial line tells nothing of it: the printer is asked, is well again, and never proves the job."""
    async with bench.printer() as (printer, _):
        await bench.twin.do("paper", {"to": "out", "after_lines": 2})
        job = asyncio.create_task(printer.send(receipt(1), b"A001", 1.0), name="a job")
        await bench.heard.until(lambda: printer.status.paper == "end")
        await bench.twin.do("power", {"to": "off"})
        await bench.twin.do("paper", {"to": "ok"})
        await bench.twin.do("power", {"to": "on"})
        with pytest.raises(NotReady) as caught:
            await job
        assert caught.value.started
        assert await printer.send(receipt(2), b"A002", PATIENCE_S) == "printed"
    assert (bench.paper / "0001.txt").read_text().count("Sale 1") == 1  # its first lines, above the next receipt
    assert bench.twin.receipts == 1


@on_both_lines
async def test_a_slow_printer_has_the_time_that_its_job_needs(bench: Bench) -> None:
    """60 KB at 9600 baud take a minute, here three seconds: the limit counts from the last bytes it took."""
    band = b"\x1d\x76\x30\x00\x40\x00\x80\x00" + b"\xaa" * (64 * 128)
    async with bench.printer() as (printer, _):
        await bench.twin.do("pace", {"bytes_per_s": 20_000})
        assert await printer.send(b"Begin\n" + 7 * band + b"End\n\x1dV\x00", b"A001", 1.0) == "printed"
    assert bench.twin.receipts == 1
    assert bench.twin.state()["unknown_commands"] == 0


@on_both_lines
async def test_the_first_job_after_a_power_cycle_is_printed(bench: Bench) -> None:
    """escpos-php#57: it vanished; python-escpos#437, #720, #387: the printer could not be opened again."""
    for number in (1, 2):
        async with bench.printer() as (printer, run):
            assert await printer.send(receipt(number), b"A001", PATIENCE_S) == "printed"
            await bench.twin.do("power", {"to": "off"})
            if isinstance(bench.twin.wire, TcpWire):
                assert isinstance(await run.ended(), DeviceLost)
                await bench.twin.do("power", {"to": "on"})
                continue
            with pytest.raises(NotReady) as caught:  # a serial line does not tell that nobody is there
                await printer.send(receipt(number), b"A002", PATIENCE_S)
            assert (caught.value.reason, caught.value.started) == ("no_answer", False)
            await bench.twin.do("power", {"to": "on"})
            assert await printer.send(receipt(number), b"A003", PATIENCE_S) == "printed"
    assert bench.twin.receipts == (2 if isinstance(bench.twin.wire, TcpWire) else 4)


@pytest.mark.parametrize(
    "bench", [{"line": line, "model": "TM-T88III", "proof": False} for line in ("tcp", "serial")], indirect=True
)
async def test_without_proof_a_power_cycle_in_mid_job_is_no_success(bench: Bench) -> None:
    """odoo#208611, esc_pos_printer#198: success was assumed because every byte had left."""
    async with bench.printer() as (printer, _):
        await bench.heard.until(lambda: printer.status.paper == "ok")
        await bench.twin.do("power", {"to": "cycle", "after_bytes": 200})
        with pytest.raises((DeviceLost, NotReady)) as caught:
            await printer.send(receipt(1, lines=50), b"A001", 1.0)
        assert caught.value.started  # type: ignore[attr-defined]
    assert bench.twin.receipts == 0


async def test_a_pulled_cable_in_mid_job_says_that_it_had_started(bench: Bench) -> None:
    async with bench.printer() as (printer, run):
        await bench.twin.do("paper", {"to": "out", "after_lines": 1})
        job = asyncio.create_task(printer.send(receipt(1), b"A001", PATIENCE_S), name="a job")
        await bench.heard.until(lambda: printer.status.paper == "end")
        await bench.twin.do("cable", {"to": "pull"})
        with pytest.raises(DeviceLost) as caught:
            await job
        assert caught.value.started
        assert isinstance(await run.ended(), DeviceLost)
        with pytest.raises(DeviceLost) as again:
            await printer.send(receipt(2), b"A002", PATIENCE_S)
        assert not again.value.started
    assert printer.status == PrinterStatus(None, None, "unknown", "unknown", b"")
    assert printer.drawer_status == DrawerStatus(None)


@pytest.mark.parametrize(
    ("options", "queued", "real_time"),
    [
        ({"pin": 2, "pulse_ms": 100}, "1b70003232", "1014010001"),
        ({"pin": 5, "pulse_ms": 510}, "1b7001ffff", "1014010106"),
        ({"pin": 2, "pulse_ms": 200, "language": "star"}, "1b07141407", "1c"),
        ({"pin": 5, "language": "star"}, "1a", "19"),
    ],
)
def test_pulses_as_the_manuals_print_them(options: dict[str, object], queued: str, real_time: str) -> None:
    drawer = build_drawer(read_device("printer-drawer", {"printer": "printer-1", **options}))
    assert drawer.queued_pulse() == bytes.fromhex(queued)
    assert drawer.real_time_pulse() == bytes.fromhex(real_time)


@pytest.mark.parametrize(
    "bench", [{"drawer_open": "high"}, {"drawer_open": "low"}, {"drawer_pins": "5"}], indirect=True
)
async def test_the_drawer_opens_and_tells(bench: Bench, request: pytest.FixtureRequest) -> None:
    spec = request.node.callspec.params["bench"]
    options = {"open_when": spec.get("drawer_open", "high"), "pin": int(spec.get("drawer_pins", "2"))}
    drawer = build_drawer(read_device("printer-drawer", {"printer": "printer-1", **options}))
    wrong = build_drawer(read_device("printer-drawer", {"printer": "printer-1", **options, "pin": 7 - options["pin"]}))
    async with bench.printer() as (printer, _):
        await bench.heard.until(lambda: drawer.is_open(printer.drawer_status) is False)
        await printer.kick(wrong, PATIENCE_S)
        await printer.kick(drawer, PATIENCE_S)
        await bench.heard.until(lambda: drawer.is_open(printer.drawer_status) is True)
        await bench.twin.do("drawer", {"to": "closed"})
        await bench.heard.until(lambda: drawer.is_open(printer.drawer_status) is False)
        await bench.twin.do("drawer", {"to": "open"})  # by hand, with a key
        await bench.heard.until(lambda: drawer.is_open(printer.drawer_status) is True)
    assert bench.twin.kicks == 2


async def test_the_drawer_opens_though_there_is_no_paper(bench: Bench) -> None:
    drawer = build_drawer(read_device("printer-drawer", {"printer": "printer-1", "open_when": "high"}))
    async with bench.printer() as (printer, _):
        await bench.twin.do("paper", {"to": "out"})
        await printer.kick(drawer, PATIENCE_S)
        await bench.heard.until(lambda: drawer.is_open(printer.drawer_status) is True)


async def test_an_uncalibrated_drawer_is_neither_open_nor_closed(bench: Bench) -> None:
    drawer = build_drawer(read_device("printer-drawer", {"printer": "printer-1"}))
    assert drawer.is_open(DrawerStatus(True)) is None
    assert (
        build_drawer(read_device("printer-drawer", {"printer": "p", "open_when": "low"})).is_open(DrawerStatus(None))
        is None
    )


async def test_rubbish_from_a_printer_is_noise(bench: Bench) -> None:
    async with bench.printer() as (printer, _):
        await bench.twin.do("noise", {"hex": "80 37 72 40 00 10 90"})
        assert len(await bench.heard.of(Noise, 3)) >= 3
        assert await printer.send(receipt(1), b"A001", PATIENCE_S) == "printed"


async def test_initialising_in_a_raw_job_does_not_switch_status_off(bench: Bench) -> None:
    async with bench.printer() as (printer, _):
        assert await printer.send(b"\x1b@raw\n\x1dV\x00", b"A001", PATIENCE_S) == "printed"
        await bench.twin.do("cover", {"to": "open"})
        await bench.heard.until(lambda: printer.status.cover_open is True)


async def test_a_restarted_twin_goes_on_counting(bench: Bench, tmp_path: Path) -> None:
    async with bench.printer() as (printer, _):
        await printer.send(receipt(1), b"A001", PATIENCE_S)
    again = VirtualPrinter("printer-1", TcpWire(0), tmp_path / "paper")
    await again.open()
    assert again.receipts == 1
    await again.close()


async def test_a_token_is_four_printable_characters(bench: Bench) -> None:
    async with bench.printer() as (printer, _):
        with pytest.raises(ValueError, match="4 printable ASCII bytes"):
            await printer.send(receipt(1), b"\x00\x01\x02\x03", PATIENCE_S)
        assert await printer.send(receipt(1), b"A001", PATIENCE_S) == "printed"


@pytest.mark.parametrize(
    "broken",
    [b"\x1d!", b"\x1d\x6b\x04ABC", b"\x1d\x76\x30\x00\x40\x00\xf4\x01" + bytes(1000)],
    ids=["a short command", "a barcode", "a picture of 32,000 bytes"],
)
async def test_a_job_that_broke_off_does_not_swallow_the_next_one(bench: Bench, broken: bytes) -> None:
    assert isinstance(bench.twin.wire, TcpWire)
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.twin.wire.port)
    writer.write(b"\x10\x04\x01" + broken)
    assert await reader.readexactly(1) == b"\x12"
    writer.close()
    async with bench.printer() as (printer, _):
        assert await printer.send(receipt(1), b"A001", PATIENCE_S) == "printed"
    assert (bench.paper / "0001.txt").read_text().endswith("Item 2 of 1" + " " * 27 + "1.20\n")
    assert "Sale 1" in (bench.paper / "0001.txt").read_text()
