"""Two identical keyboard scanners at once: every scan at its own lane, once, whole, in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from drivers.capture import load
from drivers.virtual.keyboard import VirtualKeyboard
from drivers.virtual.wire import UnixWire
from edge.config import Device
from edge.config import Scanning as ScanningConfig
from edge.devices.lane_cards import LANE_CARDS_SCHEMA, LaneCards
from edge.devices.leases import LEASES_SCHEMA, Leases
from edge.devices.places import PLACES_SCHEMA, Places
from edge.devices.registry import Registry
from edge.devices.scanning import Scanning
from edge.journal.clock import Clock
from edge.journal.store import Store
from edge.services.facts import Reporter
from tests.edge.devices_rig import until

SCANS_EACH = 5_000
CAPTURES = Path(__file__).parent.parent / "captures" / "keyboard-scanner"


class Counters:
    """Two lanes with a keyboard scanner each, the two of one make; what each lane was sent."""

    def __init__(self, directory: Path, store: Store, clock: Clock) -> None:
        self.twins = {
            lane: VirtualKeyboard(f"scanner-{lane}", UnixWire(directory / f"{lane}.events")) for lane in ("1", "2")
        }
        self.scans: dict[str, list[dict[str, Any]]] = {"1": [], "2": []}
        self.rejected: dict[str, list[str]] = {"1": [], "2": []}
        self.quarantined: list[tuple[str, str | None, str]] = []
        devices = [
            Device(
                id=twin.name,
                protocol="keyboard-scanner",
                lanes=(lane,),
                transport={"kind": "event-socket", "path": twin.wire.address},
            )
            for lane, twin in self.twins.items()
        ]
        report = Reporter(store, "s1")
        leases, places = Leases(store, clock, report), Places(store)
        self.registry = Registry(devices, self.publish, report, self.quarantine, leases, places)
        cards = LaneCards("s1", self.twins, self.registry, store, report)
        self.scanning = Scanning(ScanningConfig(), "EUR", self.registry, self.publish, self.quarantine, cards)

    def publish(self, topic: str, payload: bytes, **_: Any) -> None:
        _, _, part, *rest = topic.split("/")
        if part == "lanes" and rest[1:] == ["scans"]:
            self.scans[rest[0]].append(orjson.loads(payload))
        elif part == "lanes":
            self.rejected[rest[0]].append(orjson.loads(payload)["code"])

    def quarantine(self, origin: str, lane: str | None, code: str, reason: str, payload: bytes) -> None:
        self.quarantined.append((origin, lane, reason))

    def texts(self, lane: str) -> list[str]:
        return [scan["text"] for scan in self.scans[lane]]


@asynccontextmanager
async def counters(directory: Path) -> AsyncIterator[Counters]:
    clock = Clock()
    schemas = [("lane-cards-1", LANE_CARDS_SCHEMA), ("leases-1", LEASES_SCHEMA), ("places-1", PLACES_SCHEMA)]
    store = await Store.open(directory / "store.db", "s1", clock=clock, schemas=schemas)
    two = Counters(directory, store, clock)
    for twin in two.twins.values():
        await twin.open()
    running = asyncio.create_task(two.registry.run(), name="devices")
    await until(lambda: all(device.state == "ready" for device in two.registry.all()), "two scanners")
    try:
        yield two
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        for twin in two.twins.values():
            await twin.close()
        await store.close()


async def test_ten_thousand_interleaved_scans_and_none_lost_or_mixed(tmp_path: Path) -> None:
    chance = random.Random(8)
    async with counters(tmp_path) as two:
        wanted = {
            lane: [f"{lane}-{chance.randrange(10**6):06}/{'Ab' if number % 3 else 'x'}" for number in range(SCANS_EACH)]
            for lane in two.twins
        }
        begun = dict.fromkeys(two.twins, b"")
        for number in range(SCANS_EACH):
            for lane, twin in two.twins.items():
                # What is typed arrives in pieces that end anywhere, also within a code and within a record.
                typed = begun[lane] + twin.frame(wanted[lane][number])
                cut = chance.randrange(len(typed)) if number < SCANS_EACH - 1 else len(typed)
                twin.wire.send(typed[:cut])
                begun[lane] = typed[cut:]
            if number % 50 == 0:
                await asyncio.sleep(0)
        for lane in two.twins:
            await until(lambda lane=lane: len(two.scans[lane]) >= SCANS_EACH, f"the scans of lane {lane}")
        for lane, twin in two.twins.items():
            assert two.texts(lane) == wanted[lane]
            assert [scan["counter"] for scan in two.scans[lane]] == list(range(1, SCANS_EACH + 1))
            assert {scan["device"] for scan in two.scans[lane]} == {twin.name}
        ids = {scan["scan_id"] for scans in two.scans.values() for scan in scans}
        assert len(ids) == 2 * SCANS_EACH
        assert not two.quarantined


async def test_recorded_streams_of_two_scanners_with_losses(tmp_path: Path) -> None:
    captures = {"1": load(CAPTURES / "us-lost-events"), "2": load(CAPTURES / "us-hid-keyboard")}
    async with counters(tmp_path) as two:
        pieces = {lane: captures[lane].pieces() for lane in two.twins}
        for place in range(max(map(len, pieces.values()))):
            for lane, twin in two.twins.items():
                twin.wire.send(b"".join(pieces[lane][place : place + 1]))
        for lane, capture in captures.items():
            scans = [table["text"] for table in capture.expected if table["event"] == "Scan"]
            await until(lambda lane=lane, scans=scans: len(two.scans[lane]) >= len(scans), f"lane {lane}")
            assert two.texts(lane) == scans
            noise = [table["reason"] for table in capture.expected if table["event"] == "Noise"]
            assert [reason for _, at, reason in two.quarantined if at == lane] == noise
            codes = [table["code"] for table in capture.expected if table["event"] == "Noise"]
            assert two.rejected[lane] == codes


async def test_a_scanner_unplugged_in_mid_scan_does_not_disturb_the_other(tmp_path: Path) -> None:
    async with counters(tmp_path) as two:
        one, other = two.twins.values()
        await one.do("cut_scan", {"text": "4006381333931"})
        device = two.registry.all("scanner")[0]
        assert device.driver is not None
        await until(lambda: device.driver.protocol.pending, "half a scan")
        await one.do("cable", {"to": "pull"})
        await until(lambda: device.state == "offline", "the loss")
        other.scan("5449000000996")
        await until(lambda: two.scans["2"], "the other's scan")
        assert two.rejected == {"1": ["cut_off"], "2": []}
        await one.do("cable", {"to": "plug"})
        await until(lambda: device.state == "ready", "the return")
        one.scan("4006381333931")
        await until(lambda: two.scans["1"], "a scan")
        assert (two.texts("1"), two.texts("2")) == (["4006381333931"], ["5449000000996"])
