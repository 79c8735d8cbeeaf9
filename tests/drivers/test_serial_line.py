"""How a serial line is set, as the kernel tells it. A pty stands in for the port: it keeps the flags of a terminal."""

from __future__ import annotations

import os
import termios
from collections.abc import Iterator
from typing import Literal

import pytest

from drivers.transports.serial import SerialOptions, SerialTransport


@pytest.fixture
def port() -> Iterator[tuple[str, int]]:
    device, host = os.openpty()
    try:
        yield os.ttyname(host), host
    finally:
        os.close(device)
        os.close(host)


@pytest.mark.parametrize(("parity", "checked"), [("none", False), ("even", True), ("odd", True)])
async def test_bytes_of_a_wrong_parity_come_as_nul(
    parity: Literal["none", "even", "odd"], checked: bool, port: tuple[str, int]
) -> None:
    path, fd = port
    transport = SerialTransport(SerialOptions(path, data_bits=7, parity=parity))
    await transport.open(lambda _: None, lambda _: None)
    flags = termios.tcgetattr(fd)[0]
    await transport.close()
    assert bool(flags & termios.INPCK) == checked
    assert not flags & (termios.IGNPAR | termios.PARMRK | termios.ISTRIP)
