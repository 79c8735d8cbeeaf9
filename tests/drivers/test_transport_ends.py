"""How links end: once, and never in the middle of the next one."""

from __future__ import annotations

import asyncio
from array import array
from pathlib import Path

import pytest

from drivers.catalog import build_transport, read_transport
from drivers.errors import DeviceLost
from drivers.transports.base import Transport
from drivers.transports.usb import UsbOptions, UsbTransport
from drivers.virtual.usb_bus import VirtualUsbBus, VirtualUsbPrinter
from drivers.virtual.wire import PtyWire, TcpWire, UnixWire, Wire
from tests.drivers.rig import PATIENCE_S, until


async def _line(folder: Path, kind: str) -> tuple[Wire, Transport, list[bytes]]:
    wire: Wire = TcpWire(0) if kind == "tcp" else UnixWire(folder / "keys")
    said: list[bytes] = []
    await wire.open(said.append)
    if isinstance(wire, TcpWire):
        options = read_transport("serial-scanner", "tcp", {"host": "127.0.0.1", "port": wire.port})
    else:
        options = read_transport("keyboard-scanner", "event-socket", {"path": wire.address})
    return wire, build_transport(options), said


@pytest.mark.parametrize("kind", ["tcp", "event-socket"])
async def test_a_socket_that_is_opened_again_at_once_stays_open(tmp_path: Path, kind: str) -> None:
    wire, transport, said = await _line(tmp_path, kind)
    lost: list[DeviceLost] = []
    heard = bytearray()
    for _ in range(20):
        await transport.open(heard.extend, lost.append)
        await transport.close()
    await transport.open(heard.extend, lost.append)
    transport.write(b"W")
    await transport.drain()
    await until(lambda: said == [b"W"])
    wire.send(b"still here")
    await until(lambda: bytes(heard) == b"still here")
    assert lost == []
    await wire.close()
    await until(lambda: len(lost) == 1)
    await transport.close()
    assert len(lost) == 1


class Breaks(VirtualUsbBus):
    """A libusb of another age: it raises what nobody foresaw."""

    def bulk_read(self, dev_handle: object, ep: int, intf: int, buff: array[int], timeout: int) -> int:
        raise NotImplementedError("bulk_read")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_thread_that_meets_a_bug_ends_the_link_and_closing_does_not_wait_for_it(tmp_path: Path) -> None:
    wire = UnixWire(tmp_path / "usb")
    await wire.open(lambda _: None)
    bus = Breaks(VirtualUsbPrinter(tmp_path / "usb"))
    transport = UsbTransport(UsbOptions(), bus)
    lost: list[DeviceLost] = []
    async with asyncio.timeout(PATIENCE_S):
        await transport.open(lambda _: None, lost.append)
        await until(lambda: len(lost) == 1)
        await transport.close()
    assert "opened again by itself" in str(lost[0])
    await wire.close()


async def test_a_serial_port_whose_opening_was_given_up_is_free_again(tmp_path: Path) -> None:
    wire = PtyWire(tmp_path / "tty")
    await wire.open(lambda _: None)
    transport = build_transport(read_transport("serial-scanner", "serial", {"path": wire.address}))
    for turns in range(6):  # given up at once, and a little later
        opening = asyncio.create_task(transport.open(lambda _: None, lambda _: None), name="opening")
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait((opening,))
        await transport.close()

    async def opened() -> bool:
        try:
            await transport.open(lambda _: None, lambda _: None)
        except DeviceLost:  # "in use": the one that was given up is being closed
            return False
        return True

    async with asyncio.timeout(PATIENCE_S):
        while not await opened():
            await asyncio.sleep(0.01)
    await transport.close()
    await wire.close()
