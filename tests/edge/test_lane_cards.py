"""Lane cards: made on the command line, scanned, obeyed, remembered; and never mistaken for goods."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import zxingcpp
from PIL import Image

from edge.bus.messages.scans import ScanRejected
from edge.cli import main
from edge.devices.lane_cards import card_text, lane_of_card
from edge.devices.rejected import Rejected
from tests.edge.devices_rig import Counter, until

STORE_TOML = 'state_dir = "state"\n[store]\nid = "s1"\n[[lanes]]\nid = "lane-1"\n[[lanes]]\nid = "lane-2"\n'


def lanes_of(counter: Counter) -> list[str]:
    return counter.state("scanner-1")["lanes"]


def scans(counter: Counter, lane: str) -> list[str]:
    return [payload["text"] for topic, payload, _ in counter.published if topic == f"tg/v1/lanes/{lane}/scans"]


def rejected(counter: Counter, lane: str) -> list[str]:
    topic = f"tg/v1/lanes/{lane}/scans/rejected"
    return [ScanRejected.model_validate(told).code for heard, told, _ in counter.published if heard == topic]


def test_a_card_is_of_one_store_and_one_lane() -> None:
    assert card_text("s1", "lane-2") == "TILLGATE-LANE/lane-2/BTMPK3FP"  # as printed once: cards on paper stay valid
    assert lane_of_card(card_text("s1", "lane-2"), "s1") == "lane-2"
    assert lane_of_card(card_text("s1", None), "s1") is None
    for wrong in (
        card_text("s2", "lane-2"),
        card_text("s1", "lane-2").replace("lane-2", "lane-1"),
        card_text("s1", "lane-2")[:-1],
        card_text("s1", "lane-2").lower(),
        "TILLGATE-LANE/",
        "TILLGATE-LANE/lane-2",
        "TILLGATE-LANE/lane-2/",
        "TILLGATE-LANE///",
    ):
        with pytest.raises(Rejected) as caught:
            lane_of_card(wrong, "s1")
        assert caught.value.code == "other_store"


async def test_a_scanner_goes_to_the_lane_of_the_card_and_stays_there(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        counter.scanner.scan(card_text("s1", "lane-2"), "C0")
        await until(lambda: lanes_of(counter) == ["lane-2"], "the binding")
        counter.scanner.scan("A-1")
        await until(lambda: scans(counter, "lane-2"), "a scan at the new lane")
        assert (scans(counter, "lane-1"), scans(counter, "lane-2")) == ([], ["A-1"])
        (fact,) = await counter.until_facts("tillgate.device.bound.v1", 1)
        assert fact == {"device": "scanner-1", "lane": "lane-2", "previous": "lane-1", "home": False}

        await counter.scanner.do("cable", {"to": "pull"})
        await until(lambda: counter.state("scanner-1")["state"] == "offline", "the loss")
        await counter.scanner.do("cable", {"to": "plug"})
        await until(lambda: counter.state("scanner-1")["state"] == "ready", "the return")
        assert lanes_of(counter) == ["lane-2"]

        await counter.stop()
        await counter.start()
        await counter.ready()
        counter.scanner.scan("A-2")
        await until(lambda: len(scans(counter, "lane-2")) == 2, "a scan after the restart")

        counter.scanner.scan(card_text("s1", None))
        await until(lambda: lanes_of(counter) == ["lane-1", "lane-2"], "the home card")
        counter.scanner.scan("A-3")
        await until(lambda: scans(counter, "lane-1") == ["A-3"], "a scan at home")
        facts = await counter.until_facts("tillgate.device.bound.v1", 2)
        assert facts[1] == {"device": "scanner-1", "lane": "lane-1", "previous": "lane-2", "home": True}
        assert await counter.store.fetch_all("SELECT * FROM lane_bindings") == []
        assert not counter.quarantined


async def test_the_same_card_again_is_no_second_fact(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        for lane in ("lane-2", "lane-2", "lane-1"):
            counter.scanner.scan(card_text("s1", lane))
        await until(lambda: lanes_of(counter) == ["lane-1"], "the last card")
        await counter.until_facts("tillgate.device.bound.v1", 2)


@pytest.mark.parametrize(
    ("card", "code"),
    [(card_text("other", "lane-2"), "other_store"), (card_text("s1", "lane-9"), "no_lane")],
)
async def test_a_card_that_cannot_be_used_is_told_and_moves_nothing(tmp_path: Path, card: str, code: str) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        counter.scanner.scan(card)
        await until(lambda: rejected(counter, "lane-1") == [code], "the reason")
        counter.scanner.scan("A-1")
        await until(lambda: scans(counter, "lane-1") == ["A-1"], "a scan where it was")
        assert lanes_of(counter) == ["lane-1", "lane-2"]


async def test_a_binding_that_is_not_on_disk_is_not_made(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        counter.free_bytes = 0
        counter.scanner.scan(card_text("s1", "lane-2"))
        await until(lambda: rejected(counter, "lane-1") == ["storage_full"], "the reason")
        assert lanes_of(counter) == ["lane-1", "lane-2"]


@pytest.mark.parametrize("which", ["lane-2", "--home"])
def test_a_printed_card_is_read_by_any_scanner(tmp_path: Path, which: str) -> None:
    config, picture = tmp_path / "store.toml", tmp_path / "card.png"
    config.write_text(STORE_TOML)
    assert main(["lanes", "card", which, "--config", str(config), "--png", str(picture)]) == 0
    found = zxingcpp.read_barcodes(Image.open(picture).convert("L"))
    text = card_text("s1", None if which == "--home" else which)
    assert {(str(one.format.name), one.text) for one in found} == {("QRCode", text), ("Code128", text)}


def test_a_card_in_the_terminal_and_what_is_wrong_with_a_lane(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "store.toml"
    config.write_text(STORE_TOML)
    assert main(["lanes", "card", "lane-1", "--config", str(config)]) == 0
    shown = capsys.readouterr().out
    assert "█" in shown
    assert card_text("s1", "lane-1") in shown
    assert main(["lanes", "card", "lane-9", "--config", str(config)]) == 2
    assert "lanes: lane-1, lane-2" in capsys.readouterr().err
    assert main(["lanes", "card", "lane-1", "--config", str(config), "--png", str(tmp_path)]) == 2
    assert "cannot write" in capsys.readouterr().err


async def test_cards_of_a_burst_are_taken_in_their_order(tmp_path: Path) -> None:
    async with Counter(tmp_path) as counter:
        await counter.ready()
        device = counter.registry.all("scanner")[0]
        lanes = ["lane-2", None, "lane-2", "lane-1", None, "lane-2"]
        await asyncio.gather(*(counter.cards.take(device, card_text("s1", lane)) for lane in lanes))
        assert device.lanes == ("lane-2",)
        rows = await counter.store.fetch_all("SELECT device, lane FROM lane_bindings")
        assert [tuple(row) for row in rows] == [("scanner-1", "lane-2")]
        await counter.until_facts("tillgate.device.bound.v1", 6)
