"""Printers on USB: the transport against a virtual bus at the boundary of libusb, and /dev/usb/lpN against a pty.

What is not run here: a real host controller, the kernel's usblp and its two ioctls (a pty has neither).
"""

from __future__ import annotations

import asyncio
import os
import termios
import tty
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from drivers.catalog import build_driver, build_transport, read_device, read_transport
from drivers.errors import DeviceLost, NotReady, WrongDevice
from drivers.events import DrawerStatus, PrinterStatus
from drivers.printers.printer_driver import PrinterDriver
from drivers.transports.usb import UsbOptions, UsbTransport
from drivers.transports.usb_identity import UsbDevice
from drivers.transports.usblp import UsblpOptions, UsblpTransport, parse_device_id
from drivers.virtual.printer import VirtualPrinter
from drivers.virtual.usb_bus import VirtualUsbBus, VirtualUsbPrinter
from drivers.virtual.wire import UnixWire
from tests.drivers.rig import PATIENCE_S, Heard, running, until
from tests.drivers.test_escpos_printer import receipt


class Plugged:
    """A virtual printer on a virtual bus, and the real driver and transport on the host's side."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.twin = VirtualPrinter("printer-1", UnixWire(folder / "usb"), folder / "paper")
        self.printer = VirtualUsbPrinter(folder / "usb")
        self.bus = VirtualUsbBus(self.printer)
        self.heard = Heard()
        self.options = UsbOptions()
        self.model = "TM-T88V"

    def build(self, on_open: Callable[[], None]) -> PrinterDriver:
        options = read_device("escpos-printer", {"model": self.model})
        transport = self.transport(self.options)
        driver = build_driver("escpos-printer", options, transport, self.heard, on_open)
        assert isinstance(driver, PrinterDriver)
        return driver

    def transport(self, options: UsbOptions) -> UsbTransport:
        transport = UsbTransport(options, self.bus)
        transport.place.read = self.bus.present
        return transport

    async def is_refused(self, options: UsbOptions, why: str, error: type[Exception] = DeviceLost) -> None:
        with pytest.raises(error, match=why):
            await self.transport(options).open(lambda _: None, lambda _: None)


@pytest.fixture
async def plugged(tmp_path: Path) -> AsyncIterator[Plugged]:
    one = Plugged(tmp_path)
    await one.twin.open()
    yield one
    await one.twin.close()


async def test_a_job_is_printed_and_proved_and_nothing_is_reset(plugged: Plugged) -> None:
    """python-escpos resets the device on opening and blocks for ever on a timeout of 0."""
    async with running(plugged.build) as run:
        assert await run.driver.send(receipt(1), b"A001", PATIENCE_S) == "printed"
        assert await run.driver.send(receipt(2, lines=300), b"A002", PATIENCE_S) == "printed"
    assert plugged.twin.receipts == 2
    assert plugged.bus.calls == {}


async def test_a_printer_without_paper_holds_up_nothing_and_goes_on(plugged: Plugged) -> None:
    async with running(plugged.build) as run:
        await plugged.twin.do("paper", {"to": "out", "after_lines": 3})
        job = asyncio.create_task(run.driver.send(receipt(1, lines=2000), b"A001", PATIENCE_S), name="a long job")
        await plugged.heard.until(lambda: run.driver.status.paper == "end")
        await plugged.twin.do("paper", {"to": "ok"})
        assert await job == "printed"
    assert plugged.twin.receipts == 1


async def test_closing_in_mid_job_ends_both_threads_and_lets_go(plugged: Plugged) -> None:
    async with running(plugged.build) as run:
        await plugged.twin.do("paper", {"to": "out", "after_lines": 3})
        job = asyncio.create_task(run.driver.send(receipt(1, lines=2000), b"A001", PATIENCE_S), name="a long job")
        await plugged.heard.until(lambda: run.driver.status.paper == "end")
    with pytest.raises(DeviceLost) as caught:
        await job
    assert caught.value.started
    async with running(plugged.build) as run:  # the interface is free again
        await plugged.heard.until(lambda: run.driver.is_open)


@pytest.mark.parametrize("how", ["cable", "power"])
async def test_lost_once_and_reopened(plugged: Plugged, how: str) -> None:
    """python-escpos#437, #720, #387: cannot reopen after power-off."""
    away, back = {"cable": ("pull", "plug"), "power": ("off", "on")}[how]
    for number in (1, 2):
        async with running(plugged.build) as run:
            await run.driver.send(receipt(number), b"A001", PATIENCE_S)
            await plugged.twin.do(how, {"to": away})
            assert "check cable and power" in str(await run.ended())
        assert run.driver.status == PrinterStatus(None, None, "unknown", "unknown", b"")
        assert run.driver.drawer_status == DrawerStatus(None)
        await plugged.is_refused(UsbOptions(), "is not there|switched off")
        await plugged.twin.do(how, {"to": back})
    assert plugged.twin.receipts == 2


def printer(product: str = "0e15", **which: str) -> UsbOptions:
    return UsbOptions(UsbDevice("04b8", product, **which))


async def test_which_printer_is_meant(plugged: Plugged) -> None:
    second = VirtualUsbPrinter(plugged.folder / "usb", serial="J4XF099999", ports=(1, 3))
    plugged.bus.plugged.append(second)
    await plugged.is_refused(UsbOptions(), "several printers .*04b8:0e15 in port 1-1.2, 04b8:0e15 in port 1-1.3")
    await plugged.is_refused(printer(), "there are several", WrongDevice)
    await plugged.is_refused(printer(serial="other"), "is not there, but serial J4XF012345 in port 1-1.2")
    await plugged.is_refused(printer("0202"), "is not there")
    for options in (printer(serial="J4XF012345"), printer(port="1-1.3")):
        transport = plugged.transport(options)
        await transport.open(lambda _: None, lambda _: None)
        await plugged.is_refused(options, "in use by another program")
        await transport.close()
        await transport.close()
    named = {"usb": {"vendor": "04b8", "product": "0e15", "port": "1-1.2"}}
    assert isinstance(build_transport(read_transport("escpos-printer", "usb", named)), UsbTransport)


async def test_both_ways_is_chosen_and_older_ones_that_call_themselves_vendor_specific(plugged: Plugged) -> None:
    plugged.bus.plugged[:] = [VirtualUsbPrinter(plugged.folder / "usb", alternates=True)]
    async with running(plugged.build) as run:
        assert await run.driver.send(receipt(1), b"A001", PATIENCE_S) == "printed"
    plugged.bus.plugged[:] = [VirtualUsbPrinter(plugged.folder / "usb", product=0x0202, vendor_class=True)]
    await plugged.is_refused(UsbOptions(), "not there")
    plugged.options = printer("0202")
    async with running(plugged.build) as run:
        assert await run.driver.send(receipt(2), b"A002", PATIENCE_S) == "printed"


async def test_what_the_port_itself_says(plugged: Plugged) -> None:
    plugged.bus.plugged[:] = [VirtualUsbPrinter(plugged.folder / "usb", port_status=lambda: 0x38)]
    transport = plugged.transport(UsbOptions())
    assert await transport.port_status() is None
    await transport.open(lambda _: None, lambda _: None)
    assert await transport.port_status() == 0x38
    await transport.close()
    assert await transport.port_status() is None


async def test_a_printer_that_says_nothing_is_asked_through_its_port(plugged: Plugged) -> None:
    port = [0x38]
    plugged.bus.plugged[:] = [VirtualUsbPrinter(plugged.folder / "usb", port_status=lambda: port[0])]
    plugged.model = "one-way"
    async with running(plugged.build) as run:
        with pytest.raises(NotReady) as caught:
            await run.driver.send(receipt(1), b"A001", PATIENCE_S)
        assert (caught.value.reason, caught.value.started) == ("paper_out", False)
        port[0] = 0x18  # which says that there is paper, or that it cannot tell
        assert await run.driver.send(receipt(1), b"A001", PATIENCE_S) == "sent"
        assert run.driver.status.paper == "unknown"
    await until(lambda: plugged.twin.receipts == 1)


# -- /dev/usb/lpN ------------------------------------------------------------------------------------------------------


class Line:
    """A pty where /dev/usb/lpN would be. In canonical mode EOT makes a read return 0 bytes, as an empty packet does."""

    def __init__(self, path: Path) -> None:
        self.printer, self.host = os.openpty()
        tty.setraw(self.host)
        path.symlink_to(os.ttyname(self.host))

    def cook(self) -> None:
        settings = termios.tcgetattr(self.host)
        settings[3] |= termios.ICANON
        termios.tcsetattr(self.host, termios.TCSANOW, settings)

    def unplug(self) -> None:
        os.close(self.host)
        os.close(self.printer)


async def test_usblp_carries_both_ways_and_an_empty_packet_is_no_end(tmp_path: Path) -> None:
    line, heard, lost = Line(tmp_path / "lp0"), bytearray(), list[DeviceLost]()
    line.cook()
    transport = UsblpTransport(UsblpOptions(str(tmp_path / "lp*")))
    await transport.open(heard.extend, lost.append)
    os.write(line.printer, b"\x04\x04")
    os.write(line.printer, b"\x14\x00\x00\x0f\n")
    await until(lambda: bytes(heard) == b"\x14\x00\x00\x0f\n")
    transport.write(b"\x1b@")
    await transport.drain()
    assert os.read(line.printer, 100) == b"\x1b@"
    assert await transport.port_status() is None  # a pty has no port status: that is unknown, not "no paper"
    line.unplug()
    transport.write(b"x")  # a pty that has hung up reads as empty; usblp says ENODEV there, and to this too
    await until(lambda: len(lost) == 1)
    with pytest.raises(DeviceLost):
        await transport.drain()
    await transport.close()
    assert len(lost) == 1


async def test_usblp_drains_more_than_the_line_takes_at_once(tmp_path: Path) -> None:
    line = Line(tmp_path / "lp0")
    transport = UsblpTransport(UsblpOptions(str(tmp_path / "lp0")))
    await transport.open(lambda _: None, lambda _: None)
    data, taken = bytes(range(256)) * 256, bytearray()
    transport.write(data)
    draining = asyncio.create_task(transport.drain(), name="drain")
    while not draining.done() or len(taken) < len(data):
        taken += await asyncio.to_thread(os.read, line.printer, 4096)
    assert bytes(taken) == data
    await transport.close()
    line.unplug()


async def test_usblp_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(DeviceLost, match="plug the printer in"):
        await UsblpTransport(UsblpOptions(str(tmp_path / "lp0"))).open(lambda _: None, lambda _: None)
    line = Line(tmp_path / "lp0")
    options = read_transport("escpos-printer", "usblp", {"path": str(tmp_path / "lp0"), "device_id": "MDL:TM-T88V"})
    with pytest.raises(DeviceLost, match="a printer without a device id, not MDL:TM-T88V"):
        await build_transport(options).open(lambda _: None, lambda _: None)
    line.unplug()


def test_device_ids_are_read_to_their_length() -> None:
    """The example is the one in the kernel's usblp.c, shortened."""
    text = "MFG:HEWLETT-PACKARD;MDL:DESKJET 970C;CMD:MLC,PCL,PML;CLASS:PRINTER;SERN:US970CSEPROF;"
    raw = (len(text) + 2).to_bytes(2, "big") + text.encode()
    assert parse_device_id(raw + bytes(1024 - len(raw))) == text
    assert parse_device_id(raw[:20]) == text[:18]
    assert parse_device_id(bytes(1024)) == ""
