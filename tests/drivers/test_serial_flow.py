"""A serial printer that says stop: XON and XOFF are obeyed by the line, and reach nobody.

RTS/CTS cannot be tried on a pty, which has no such wires; the driver waits the same way while nothing is taken.
"""

from __future__ import annotations

import asyncio
import os
import tty
from pathlib import Path

from drivers.transports.serial import SerialOptions, SerialTransport
from tests.drivers.rig import until

XON, XOFF = b"\x11", b"\x13"


async def test_xoff_holds_the_bytes_back_until_xon(tmp_path: Path) -> None:
    printer, line = os.openpty()
    tty.setraw(line)
    os.set_blocking(printer, False)
    heard = bytearray()
    transport = SerialTransport(SerialOptions(os.ttyname(line), flow="xonxoff"))
    await transport.open(heard.extend, lambda _: None)
    taken = bytearray()
    asyncio.get_running_loop().add_reader(printer, lambda: taken.extend(os.read(printer, 4096)))

    os.write(printer, b"\x14\x00\x00\x0f" + XOFF)
    await until(lambda: bytes(heard) == b"\x14\x00\x00\x0f")
    transport.write(bytes(60_000))
    draining = asyncio.create_task(transport.drain(), name="drain")
    os.write(printer, b"\x12")  # it talks on while it takes nothing: replies still come
    await until(lambda: heard[-1:] == b"\x12")
    assert not draining.done()
    held = len(taken)
    assert held == 0

    os.write(printer, XON)
    await until(lambda: len(taken) == 60_000)
    await draining
    assert bytes(heard) == b"\x14\x00\x00\x0f\x12"
    asyncio.get_running_loop().remove_reader(printer)
    await transport.close()
    os.close(line)
    os.close(printer)
