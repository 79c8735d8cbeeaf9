"""A virtual label printer and the real driver at the other end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from drivers.catalog import build_drawer, build_driver, build_transport, carriers, read_device, read_transport
from drivers.drawers.pulse import PrinterDrawerOptions
from drivers.errors import DeviceLost, NotReady
from drivers.events import Noise, PrinterStatus
from drivers.printers import zpl_driver
from drivers.printers.zpl_driver import ZplDriver
from drivers.printers.zpl_status import ZplStatus
from drivers.virtual.wire import TcpWire
from drivers.virtual.zpl_printer import VirtualZplPrinter
from tests.drivers.rig import PATIENCE_S, Heard, Running, running

LABEL = "^XA^FO50,50^A0N,40,40^FDBananas^FS^BY2^BEN,80,Y,N^FD4006381333931^FS^XZ"


@dataclass
class Bench:
    twin: VirtualZplPrinter
    heard: Heard
    printer: ZplDriver
    run: Running


@pytest.fixture
async def bench(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bench]:
    monkeypatch.setattr(zpl_driver, "LOOK_EVERY_S", 0.01)
    wire, heard = TcpWire(0), Heard()
    twin = VirtualZplPrinter("labels-1", wire, tmp_path / "labels", **getattr(request, "param", {}))
    await twin.open()

    def build(on_open: Callable[[], None]) -> ZplDriver:
        where = {"host": "127.0.0.1", "port": wire.port}
        transport = build_transport(read_transport("zpl-printer", "tcp", where))
        driver = build_driver("zpl-printer", read_device("zpl-printer", {}), transport, heard, on_open)
        assert isinstance(driver, ZplDriver)
        return driver

    async with running(build) as run:
        yield Bench(twin, heard, run.driver, run)
    await twin.close()


async def test_labels_are_sent_and_never_called_printed(bench: Bench) -> None:
    assert await bench.printer.send(LABEL.encode(), b"A001", PATIENCE_S) == "sent"
    assert await bench.printer.send((LABEL * 3).encode(), None, PATIENCE_S) == "sent"
    assert bench.twin.labels == [LABEL] * 4
    assert bench.printer.status == PrinterStatus(True, False, "ok", None, b"")
    assert not bench.heard.now(Noise)


@pytest.mark.parametrize("bench", [{"step_by_step": True}], indirect=True)
async def test_a_job_ends_when_the_last_label_of_its_batch_has_left(bench: Bench) -> None:
    job = LABEL.replace("^XZ", "^PQ5^XZ").encode()
    assert await bench.printer.send(job, None, PATIENCE_S) == "sent"
    assert len(bench.twin.labels) == 5


@pytest.mark.parametrize(
    ("action", "to", "reason"),
    [
        ("paper", "out", "paper_out"),
        ("head", "open", "cover_open"),
        ("ribbon", "out", "printer_error_ribbon"),
        ("pause", "on", "printer_offline"),
    ],
)
async def test_a_printer_that_cannot_print_gets_not_one_byte(bench: Bench, action: str, to: str, reason: str) -> None:
    await bench.twin.do(action, {"to": to})
    with pytest.raises(NotReady) as caught:
        await bench.printer.send(LABEL.encode(), None, PATIENCE_S)
    assert (caught.value.reason, caught.value.started) == (reason, False)
    assert not bench.twin.labels
    assert bench.twin.state()["labels_waiting"] == 0


@pytest.mark.parametrize("bench", [{"mute_when_stuck": True}], indirect=True)
async def test_silence_is_unknown_and_not_paper_out(bench: Bench) -> None:
    await bench.printer.ask()
    await bench.twin.do("paper", {"to": "out"})
    with pytest.raises(NotReady) as caught:
        await bench.printer.ask(0.2)
    assert caught.value.reason == "no_answer"
    with pytest.raises(NotReady) as caught:
        await bench.printer.send(LABEL.encode(), None, PATIENCE_S)
    assert (caught.value.reason, caught.value.started) == ("no_answer", False)


async def test_a_cable_that_is_pulled_and_everything_in_single_bytes(bench: Bench) -> None:
    await bench.twin.do("split", {"on": True})
    assert await bench.printer.send(LABEL.encode(), None, PATIENCE_S) == "sent"
    await bench.twin.do("cable", {"to": "pull"})
    assert isinstance(await bench.run.ended(), DeviceLost)
    assert bench.printer.status == PrinterStatus(None, None, "unknown", "unknown", b"")


async def test_nothing_hangs_on_a_label_printer(bench: Bench) -> None:
    with pytest.raises(NotReady, match="no drawer"):
        await bench.printer.kick(build_drawer(PrinterDrawerOptions("labels-1")))
    with pytest.raises(NotReady, match="no display"):
        await bench.printer.pass_through(b"x")
    assert "zpl-printer" not in carriers("printer-drawer") + carriers("printer-display")


def test_a_reply_that_breaks_off_is_never_taken_with_the_next() -> None:
    first = b"\x02030,0,0,0812,000,0,0,0,000,0,0,0\x03\r\n"
    rest = b"\x02000,0,0,0,0,2,4,0,00000000,1,000\x03\r\n\x021234,0\x03\r\n"
    paper_out = first.replace(b"030,0", b"030,1")
    protocol = ZplStatus()
    protocol.asking()
    noise, status = protocol.receive(first + paper_out + rest)
    assert isinstance(noise, Noise)
    assert isinstance(status, PrinterStatus)
    assert status.paper == "end"
    assert not protocol.expecting
    assert [event.raw for event in protocol.receive(b"\x02" + b"9" * 100) if isinstance(event, Noise)] == [
        b"\x02" + b"9" * 80
    ]
    assert [event.raw for event in protocol.receive(first) if isinstance(event, Noise)] == [b"9" * 20]
    assert [type(event) for event in protocol.idle()] == [Noise]
