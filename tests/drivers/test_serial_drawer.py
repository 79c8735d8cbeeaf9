"""A drawer on a serial port of its own, against its twin over a pty; and at the counter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drivers.catalog import build_drawer, build_driver, build_transport, read_device, read_transport
from drivers.drawers.serial_drawer import SerialDrawer, SerialDrawerDriver
from drivers.errors import BadOption, DeviceLost, NotReady
from drivers.events import DrawerStatus, Noise
from drivers.virtual.serial_drawer import VirtualSerialDrawer
from drivers.virtual.wire import PtyWire
from tests.drivers.rig import Heard, Running, running, until

TELLS = {"status": "nul-while-open", "quiet_ms": 1000}


@asynccontextmanager
async def bench(
    tmp_path: Path, options: dict[str, Any], **twin_options: Any
) -> AsyncIterator[tuple[VirtualSerialDrawer, SerialDrawerDriver, SerialDrawer, Heard, Running]]:
    twin, heard = VirtualSerialDrawer("drawer-1", PtyWire(tmp_path / "tty"), **twin_options), Heard()
    await twin.open()
    chosen = read_device("serial-drawer", options)
    opener = build_drawer(chosen)
    assert isinstance(opener, SerialDrawer)

    def build(on_open: Callable[[], None]) -> SerialDrawerDriver:
        transport = build_transport(read_transport("serial-drawer", "serial", {"path": twin.wire.address}))
        driver = build_driver("serial-drawer", chosen, transport, heard, on_open)
        assert isinstance(driver, SerialDrawerDriver)
        return driver

    try:
        async with running(build) as run:
            yield twin, run.driver, opener, heard, run
    finally:
        await twin.close()


async def test_it_opens_and_tells(tmp_path: Path) -> None:
    async with bench(tmp_path, TELLS) as (twin, driver, opener, heard, _):
        await driver.kick(opener)
        await heard.of(DrawerStatus)
        assert twin.is_open
        await twin.do("drawer", {"to": "closed"})
        opened, closed = await heard.of(DrawerStatus, 2)
        assert (opener.is_open(opened), opener.is_open(closed)) == (True, False)
        assert heard.now(Noise) == []


async def test_a_sequence_of_its_own_and_no_status(tmp_path: Path) -> None:
    async with bench(tmp_path, {"opens": "1b70"}, opens="1b70", status=False) as (twin, driver, opener, heard, _):
        await driver.kick(opener)
        await until(lambda: twin.kicks == 1)
        assert opener.open_when is None
        assert opener.is_open(DrawerStatus(True)) is None
        twin.wire.send(b"\x00")
        (noise,) = await heard.of(Noise)  # nobody said that NULs mean anything here
        assert noise.raw == b"\x00"


async def test_what_is_no_status_is_noise(tmp_path: Path) -> None:
    async with bench(tmp_path, TELLS) as (twin, _, _, heard, _):
        await twin.do("noise", {"hex": "ff80"})
        (noise,) = await heard.of(Noise)
        assert (noise.raw, heard.now(DrawerStatus)) == (b"\xff\x80", [])


async def test_the_box_unplugged(tmp_path: Path) -> None:
    async with bench(tmp_path, TELLS) as (twin, driver, opener, _, run):
        await twin.do("cable", {"to": "pull"})
        assert isinstance(await run.ended(), DeviceLost)
        with pytest.raises(DeviceLost):
            await driver.kick(opener)


async def test_a_box_that_takes_nothing_does_not_open_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.drawers.serial_drawer.KICK_WITHIN_S", 0.2)
    async with bench(tmp_path, TELLS | {"opens": "07" * 200_000}) as (twin, driver, opener, _, run):
        twin.wire.pause()
        with pytest.raises(NotReady) as caught:
            await driver.kick(opener)
        assert caught.value.reason == "not_drained"
        assert isinstance(await run.ended(), DeviceLost)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"opens": ""}, "opens"),
        ({"opens": "BEL"}, "opens"),
        ({"quiet_ms": 5}, "quiet_ms"),
        ({"status": "cts"}, "status"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], key: str) -> None:
    with pytest.raises(BadOption) as caught:
        read_device("serial-drawer", options)
    assert caught.value.key == key
