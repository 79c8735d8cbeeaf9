"""Scans from the line to the message, rubbish from the line to quarantine, weights on request."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from pathlib import Path

import pytest

from drivers.events import Scan
from edge.bus.messages.replies import Code
from edge.bus.messages.scans import ScanMessage, ScanRejected, WeightMessage
from edge.bus.messages.statuses import DeviceStatus
from tests.edge.devices_rig import Counter, until

EAN = "4006381333931"


def scans(counter: Counter, lane: str = "lane-1") -> list[dict]:
    return [payload for topic, payload, _ in counter.published if topic == f"tg/v1/lanes/{lane}/scans"]


def rejections(counter: Counter, lane: str = "lane-1") -> list[ScanRejected]:
    topic = f"tg/v1/lanes/{lane}/scans/rejected"
    return [ScanRejected.model_validate(payload) for heard, payload, _ in counter.published if heard == topic]


def now(text: str, aim: str | None = None) -> Scan:
    """A code that a driver has read just now."""
    return Scan(text, text.encode(), aim, time.monotonic_ns())


async def test_a_scan_becomes_one_message_for_its_home_lane(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        counter.scanner.scan(EAN, "E0")
        counter.scanner.scan("https://id.gs1.org/01/09506000134352/10/ABC", "Q1")
        counter.scanner.scan("0109501101530003" + "3103000482", "e0")
        counter.scanner.scan("2812345012994")
        await until(lambda: len(scans(counter)) == 4, "four scans")
        messages = [ScanMessage.model_validate(scan) for scan in scans(counter)]
        assert [message.counter for message in messages] == [1, 2, 3, 4]
        assert len({message.scan_id for message in messages}) == 4
        assert messages[0].symbology == "]E0"
        assert messages[0].gtin == "04006381333931"
        assert messages[1].gs1 == {"01": "09506000134352", "10": "ABC"}
        assert messages[2].gs1 == {"01": "09501101530003", "3103": "000482"}
        assert messages[3].embedded is not None
        assert messages[3].embedded.price_minor == 1299
        assert all(message.captured_at.endswith("Z") for message in messages)
        assert not scans(counter, "lane-2")
        how = [how for topic, _, how in counter.published if topic.endswith("/scans")]
        assert how == [{"qos": 1, "expiry_s": 3}] * 4


async def test_a_library_that_cannot_be_loaded_holds_up_no_other_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        with monkeypatch.context() as without:
            without.setitem(sys.modules, "biip.gs1_messages", None)
            counter.scanner.scan("0109501101530003" + "3103000482", "e0")
            counter.scanner.scan(EAN)
            await until(lambda: scans(counter), "the plain code")
        (told,) = rejections(counter)
        assert (told.code, told.please) == ("garbled", "Scan it again")
        counter.scanner.scan("0109501101530003" + "3103000482", "e0")
        await until(lambda: len(scans(counter)) == 2, "the same once more")
        assert [scan["gtin"] for scan in scans(counter)] == ["04006381333931", "09501101530003"]


async def test_a_scan_that_waited_too_long_lands_in_no_basket(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        device = counter.registry.all("scanner")[0]
        old_ns = time.monotonic_ns() - 4_000_000_000
        counter.scans.scanned(device, Scan(EAN, EAN.encode(), captured_ns=old_ns))
        counter.scans.scanned(device, now(EAN))
        assert [scan["counter"] for scan in scans(counter)] == [2], "the till sees the hole"
        assert [scan["counter"] for scan in (await counter.ask("scan.recent"))["scans"]] == [2, 1]


async def test_recent_scans_are_the_lanes_own_newest_first(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        for number in range(120):
            counter.scanner.scan(f"A-{number}")
            await until(lambda wanted=number: len(scans(counter)) == wanted + 1, "the scan")
        recent = (await counter.ask("scan.recent", {"limit": 100}))["scans"]
        assert [scan["text"] for scan in recent] == [f"A-{number}" for number in reversed(range(20, 120))]
        assert len((await counter.ask("scan.recent"))["scans"]) == 10
        assert await counter.ask("scan.recent", lane="lane-2") == {"scans": []}


async def test_a_code_with_a_wrong_check_digit_is_kept_and_not_delivered(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        counter.scanner.scan("4006381333930", "E0")
        counter.scanner.scan(EAN, "E0")
        await until(lambda: scans(counter), "the good scan")
        assert [scan["text"] for scan in scans(counter)] == [EAN]
        assert [row[:3] for row in counter.quarantined] == [("scanner-1", "lane-1", "scan.rejected")]
        assert counter.quarantined[0][4] == b"]E04006381333930\r"
        await until(lambda: counter.state("scanner-1")["garbled"] == 1, "the count")
        assert [(told.code, told.device) for told in rejections(counter)] == [("check_digit", "scanner-1")]
        assert rejections(counter)[0].please.startswith("Scan it again")
        assert not rejections(counter, "lane-2")


async def test_rubbish_and_cut_off_scans_never_become_scans(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await counter.scanner.do("noise", {"hex": "00 fe 1b 80 0d"})
        await counter.scanner.do("cut_scan", {"text": EAN})
        await until(lambda: len(counter.quarantined) == 2, "two pieces of rubbish")
        counter.scanner.scan(EAN)
        await until(lambda: scans(counter), "the good scan")
        assert [scan["text"] for scan in scans(counter)] == [EAN]
        assert {row[2] for row in counter.quarantined} == {"scan.garbled"}
        assert [told.code for told in rejections(counter)] == ["not_text", "cut_off"]


async def test_a_line_that_rattles_does_not_flood_the_till(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        device = counter.registry.all("scanner")[0]
        for _ in range(100):  # all at once: no time passes in between
            counter.scans.scanned(device, Scan("4006381333930", b"", "E0"))
        assert len(counter.quarantined) == 100
        assert 5 <= len(rejections(counter)) < 100


async def test_a_scanner_unplugged_in_mid_scan_comes_back(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await counter.scanner.do("cut_scan", {"text": EAN})
        device = counter.registry.all("scanner")[0]
        assert device.driver is not None
        await until(lambda: device.driver.protocol.pending, "half a scan")
        await counter.scanner.do("cable", {"to": "pull"})
        await until(lambda: counter.state("scanner-1")["state"] == "offline", "the loss")
        assert "scanner-1" in counter.state("scanner-1")["please"]
        assert [row[3] for row in counter.quarantined] == ["cut off"]
        await counter.scanner.do("cable", {"to": "plug"})
        await until(lambda: counter.state("scanner-1")["state"] == "ready", "the return")
        counter.scanner.scan(EAN)
        await until(lambda: scans(counter), "a scan")
        await counter.store.write([])  # what waits for a commit goes with this one
        changes = await counter.facts("tillgate.device.changed.v1")
        told = [fact["state"] for fact in changes if fact["device"] == "scanner-1"]
        assert told == ["ready", "offline", "ready"]


async def test_statuses_are_retained_valid_and_published_only_when_changed(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        for _ in range(3):
            await counter.ask("scale.weigh", {})
        for device in ("scanner-1", "scale-1", "printer-1", "drawer-1"):
            seen = counter.statuses(device)
            assert all(DeviceStatus.model_validate(status).device == device for status in seen)
            assert all(one != two for one, two in itertools.pairwise(seen))
        assert all(how["retain"] for topic, _, how in counter.published if topic.endswith("/status"))


async def test_the_hot_path_survives_a_full_bus(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        device = counter.registry.all("scanner")[0]
        counter.bus_full = True
        counter.scans.scanned(device, now("A-1"))
        counter.bus_full = False
        counter.scans.scanned(device, now("A-2"))
        assert [scan["counter"] for scan in scans(counter)] == [2]
        assert [scan["text"] for scan in (await counter.ask("scan.recent"))["scans"]] == ["A-2", "A-1"]


# -- weights -----------------------------------------------------------------------------------------------------------


async def test_a_stable_weight(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        counter.scale.load("0.482")
        weight = WeightMessage.model_validate(await counter.ask("scale.weigh"))
        assert (weight.value, weight.unit, weight.stable, weight.net) == ("0.482", "kg", True, False)
        counter.scale.load("1.005", 400)
        assert (await counter.ask("scale.weigh"))["value"] == "1.005"


async def test_why_there_is_no_weight(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await counter.scale.do("motion", {"on": True})
        problem = await counter.problem("scale.weigh", deadline_s=1.5)
        assert (problem.code, problem.detail.split(":")[0]) == (Code.NOT_READY, "in_motion")
        await counter.scale.do("motion", {"on": False})
        await counter.scale.do("over", {})
        problem = await counter.problem("scale.weigh", deadline_s=1.5)
        assert (problem.code, problem.detail.split(":")[0]) == (Code.NOT_READY, "over")
        assert counter.state("scale-1")["state"] == "not_ready"
        await counter.scale.do("under", {})
        problem = await counter.problem("scale.weigh", deadline_s=1.5)
        assert (problem.code, problem.detail.split(":")[0]) == (Code.NOT_READY, "under_zero")
        counter.scale.load("0.100")
        assert (await counter.ask("scale.weigh"))["value"] == "0.100"
        assert counter.state("scale-1")["state"] == "ready"


async def test_a_silent_scale_is_not_said_to_be_connected(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await counter.scale.do("silence", {"on": True})
        problem = await counter.problem("scale.weigh", deadline_s=2)
        assert (problem.code, problem.detail.split(":")[0]) == (Code.NOT_READY, "no_answer")
        assert counter.state("scale-1")["state"] == "offline"
        await counter.scale.do("silence", {"on": False})
        assert (await counter.ask("scale.weigh"))["value"] == "0.000"
        assert counter.state("scale-1")["state"] == "ready"


async def test_lanes_that_share_a_scale_wait_for_each_other(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        counter.scale.load("0.250")
        weights = await asyncio.gather(*(counter.ask("scale.weigh", lane=lane) for lane in ("lane-1", "lane-2") * 2))
        assert [weight["value"] for weight in weights] == ["0.250"] * 4
        await counter.scale.do("motion", {"on": True})
        first = asyncio.ensure_future(counter.problem("scale.weigh", lane="lane-1", deadline_s=2))
        await asyncio.sleep(0)
        second = await counter.problem("scale.weigh", lane="lane-2", deadline_s=1)
        assert (second.code, second.detail.split(":")[0]) == (Code.NOT_READY, "busy")
        assert (await first).detail.startswith("in_motion")


async def test_zero_and_tare(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        counter.scale.load("0.020")
        assert (await counter.ask("scale.zero"))["zeroed"] is True
        assert (await counter.ask("scale.weigh"))["value"] == "0.000"
        counter.scale.load("0.320")
        assert (await counter.ask("scale.tare"))["tared"] is True
        counter.scale.load("1.320")
        weight = await counter.ask("scale.weigh")
        assert (weight["value"], weight["net"]) == ("1.000", True)
        problem = await counter.problem("scale.zero")
        assert problem.code is Code.NOT_READY


async def test_an_unplugged_scale_is_lost_and_disturbs_nobody(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        await counter.scale.do("cable", {"to": "pull"})
        await until(lambda: counter.state("scale-1")["state"] == "offline", "the loss")
        assert (await counter.problem("scale.weigh", deadline_s=2)).code is Code.DEVICE_LOST
        assert (await counter.ask("drawer.open", {"operator_id": "ann", "receipt_number": "1"}))["opened"] is True
        await counter.scale.do("cable", {"to": "plug"})
        await until(lambda: counter.state("scale-1")["state"] == "ready", "the return")
        assert (await counter.ask("scale.weigh"))["value"] == "0.000"


async def test_who_may_use_what(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        assert (await counter.problem("drawer.state", lane="lane-2")).code is Code.NOT_FOUND
        assert (await counter.problem("drawer.state", {"device": "drawer-1"}, lane="lane-2")).code is Code.NOT_YOURS
        assert (await counter.problem("drawer.state", {"device": "scale-1"})).code is Code.NOT_FOUND
        assert (await counter.problem("scale.weigh", {"device": "scale-9"})).code is Code.NOT_FOUND
        assert (await counter.problem("scale.weigh", lane="lane-3")).code is Code.NOT_FOUND


async def test_scans_keep_their_order_while_the_gs1_library_is_loaded(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        device = counter.registry.all("scanner")[0]
        counter.scans.scanned(device, now("A-1"))
        counter.scans.scanned(device, now("0109501101530003", "e0"))
        counter.scans.scanned(device, now("A-2"))
        assert [scan["text"] for scan in scans(counter)] == ["A-1"]
        await until(lambda: len(scans(counter)) == 3, "the rest")
        counter.scans.scanned(device, now("0109501101530003", "e0"))
        assert [scan["text"] for scan in scans(counter)] == ["A-1", "0109501101530003", "A-2", "0109501101530003"]
        assert [scan["counter"] for scan in scans(counter)] == [1, 2, 3, 4]
