"""Virtual HID devices plugged into the kernel, and the real hidraw transport at the other end.

Only where the kernel lets itself be given devices (/dev/uhid, module uhid): a virtual machine, not a container.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from drivers.catalog import build_driver, build_transport, read_device, read_transport
from drivers.errors import DeviceLost, WrongDevice
from drivers.events import Scan
from drivers.virtual.hid_scanner import VirtualHidScanner
from drivers.virtual.scales.usb_hid_scale import VirtualUsbHidScale
from tests.drivers.rig import PATIENCE_S, Heard, running, until
from tests.drivers.uhid_wire import UHID, UhidWire

pytestmark = pytest.mark.skipif(not UHID.exists(), reason="this kernel has no uhid")


def driver_at(kind: str, path: str, heard: Heard) -> Callable[[Callable[[], None]], Any]:
    def build(on_open: Callable[[], None]) -> Any:
        transport = build_transport(read_transport(kind, "hidraw", {"path": path}))
        return build_driver(kind, read_device(kind, {}), transport, heard, on_open)

    return build


@pytest.mark.parametrize("maker", ["honeywell", "zebra", "datalogic"])
async def test_a_scanner_scans_is_unplugged_and_scans_again(maker: str) -> None:
    wire, heard = UhidWire(), Heard()
    twin = VirtualHidScanner("scanner-1", wire, maker=maker)
    await twin.open()
    async with running(driver_at("hid-pos-scanner", wire.address, heard)) as run:
        await until(lambda: twin.state()["reports"])
        twin.scan("4006381333931", "E0")
        twin.scan("x" * 130, "Q1")
        await heard.of(Scan, 2)
        await twin.do("cable", {"to": "pull"})
        assert isinstance(await run.ended(), DeviceLost)
    await twin.do("cable", {"to": "plug"})
    async with running(driver_at("hid-pos-scanner", wire.address, heard)):
        await until(lambda: twin.state()["reports"])
        twin.scan("96385074", "E4")
        scans = await heard.of(Scan, 3)
    assert [(scan.text, scan.aim) for scan in scans] == [("4006381333931", "E0"), ("x" * 130, "Q1"), ("96385074", "E4")]
    await twin.close()


async def test_a_scanner_that_is_a_keyboard_is_refused() -> None:
    twin = VirtualHidScanner("scanner-1", wire := UhidWire(), maker="keyboard")
    await twin.open()
    with pytest.raises(WrongDevice, match="is a keyboard"):
        async with running(driver_at("hid-pos-scanner", wire.address, Heard())):
            pass
    await twin.close()


async def test_a_scale_weighs_and_is_zeroed_by_its_control_report() -> None:
    twin = VirtualUsbHidScale("scale-1", wire := UhidWire())
    await twin.open()
    async with running(driver_at("usb-hid-scale", wire.address, Heard())) as run:
        twin.load("0.010")
        assert (await run.driver.weigh(PATIENCE_S)).value == "0.010"
        assert (await run.driver.zero(PATIENCE_S)).centre_of_zero
        twin.load("0.492")
        assert (await run.driver.weigh(PATIENCE_S)).value == "0.482"
    await twin.close()
