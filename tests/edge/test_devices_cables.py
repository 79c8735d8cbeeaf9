"""Other cables than serial lines of their own: a USB HID scale and scanner, a scale in the scanner's own line."""

from __future__ import annotations

import asyncio
from pathlib import Path

from drivers.virtual.hid_scanner import VirtualHidScanner
from drivers.virtual.magellan import VirtualMagellan
from drivers.virtual.report_wire import ReportWire
from drivers.virtual.scales.usb_hid_scale import VirtualUsbHidScale
from drivers.virtual.twin import Twin
from drivers.virtual.wire import PtyWire
from edge.bus.messages.replies import Code
from edge.config import Device
from tests.edge.devices_rig import Counter, until

EAN = "4006381333931"


class Cabled(Counter):
    """A counter whose lane-3 has the devices of `extra`."""

    def __init__(self, directory: Path, twin: Twin, *extra: Device) -> None:
        super().__init__(directory)
        self.twin = twin
        self.extra = extra

    async def start(self, *arguments: object) -> None:
        await self.twin.open()
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        await self.twin.close()

    def devices(self) -> list[Device]:
        return [*super().devices(), *self.extra]

    def scanned(self) -> list[str]:
        return [payload["text"] for topic, payload, _ in self.published if topic == "tg/v1/lanes/lane-3/scans"]

    def garbled(self) -> list[tuple[str, str]]:
        return [(origin, code) for origin, _, code, _, _ in self.quarantined if code.endswith(".garbled")]


def reports(id_: str, protocol: str, twin: Twin) -> Device:
    transport = {"kind": "report-socket", "path": twin.wire.address}
    return Device(id=id_, protocol=protocol, lanes=("lane-3",), transport=transport)


async def test_a_usb_hid_scale_answers_scale_weigh(tmp_path: Path) -> None:
    twin = VirtualUsbHidScale("scale-3", ReportWire(tmp_path / "scale-3.reports"))
    async with Cabled(tmp_path, twin, reports("scale-3", "usb-hid-scale", twin)) as counter:
        await counter.ready()
        twin.load("0.482")
        weight = await counter.ask("scale.weigh", lane="lane-3")
        assert (weight["value"], weight["unit"], weight["stable"], weight["device"]) == ("0.482", "kg", True, "scale-3")
        twin.load("0.010")
        assert (await counter.ask("scale.zero", lane="lane-3"))["zeroed"] is True
        assert (await counter.problem("scale.tare", lane="lane-3")).detail.startswith("unsupported")
        await twin.do("cable", {"to": "pull"})
        await until(lambda: counter.state("scale-3")["state"] == "offline", "the loss")
        assert (await counter.problem("scale.weigh", lane="lane-3")).code is Code.DEVICE_LOST
        await twin.do("cable", {"to": "plug"})
        await until(lambda: counter.state("scale-3")["state"] == "ready", "the return")


async def test_a_hid_pos_scanner_scans_for_its_lane_and_a_keyboard_is_refused(tmp_path: Path) -> None:
    twin = VirtualHidScanner("scanner-3", ReportWire(tmp_path / "scanner-3.reports"))
    async with Cabled(tmp_path, twin, reports("scanner-3", "hid-pos-scanner", twin)) as counter:
        await counter.ready()
        twin.scan(EAN, "E0")
        twin.scan("https://example.com/01/04006381333931?17=261231&3103=000482&" + "x" * 60, "Q1")
        await until(lambda: len(counter.scanned()) == 2, "two scans")
        assert counter.scanned()[0] == EAN
    other = VirtualHidScanner("scanner-3", ReportWire(tmp_path / "other.reports"), maker="keyboard")
    async with Cabled(tmp_path, other, reports("scanner-3", "hid-pos-scanner", other)) as counter:
        await until(lambda: any(one["state"] == "faulted" for one in counter.statuses("scanner-3")), "the fault")
        assert "is a keyboard" in counter.state("scanner-3")["please"]


async def test_a_magellan_gives_scans_and_weights_to_its_lane(tmp_path: Path) -> None:
    twin = VirtualMagellan("scanner-3", PtyWire(tmp_path / "ttymagellan"))
    scanner = Device(
        id="scanner-3",
        protocol="magellan",
        lanes=("lane-3",),
        transport={"kind": "serial", "path": twin.wire.address},
        options={"unit": "kg"},
    )
    scale = Device(id="scale-3", protocol="magellan-scale", lanes=("lane-3",), options={"scanner": "scanner-3"})
    async with Cabled(tmp_path, twin, scanner, scale) as counter:
        await counter.ready()
        twin.load("1.250")
        await twin.do("motion", {"on": True})
        weighing = asyncio.ensure_future(counter.ask("scale.weigh", lane="lane-3"))
        for number in range(10):
            twin.scan(f"40063813{number:05d}")
        twin.scan(EAN)
        await until(lambda: EAN in counter.scanned(), "the scans while the scale moves")
        assert not weighing.done()
        await twin.do("motion", {"on": False})
        weight = await weighing
        assert (weight["value"], weight["unit"], weight["device"]) == ("1.250", "kg", "scale-3")
        await twin.do("noise", {"hex": b"S1448\rS08Q1\r".hex()})  # a weight of one digit, a label of no known kind
        await until(lambda: len(counter.garbled()) == 2, "both in quarantine")
        assert counter.garbled() == [("scale-3", "scale.garbled"), ("scanner-3", "scan.garbled")]
        twin.load("0")
        assert (await counter.problem("scale.weigh", lane="lane-3", deadline_s=1.0)).detail.startswith("below_minimum")
        await twin.do("over", {})
        assert (await counter.problem("scale.weigh", lane="lane-3", deadline_s=1.0)).code is Code.NOT_READY
        assert counter.state("scale-3")["state"] == "not_ready"
        assert counter.state("scanner-3")["state"] == "ready"
        await twin.do("cable", {"to": "pull"})
        await until(lambda: counter.state("scale-3")["state"] == "offline", "the loss of both")
        assert counter.state("scanner-3")["state"] == "offline"
        assert "scanner-3" in counter.state("scale-3")["please"]
        assert (await counter.problem("scale.weigh", lane="lane-3")).code is Code.DEVICE_LOST
        await twin.do("cable", {"to": "plug"})
        twin.load("0.500")
        await until(lambda: counter.state("scale-3")["state"] == "ready", "the return of both")
        assert (await counter.ask("scale.weigh", lane="lane-3"))["value"] == "0.500"
