"""`tillgate devices ...` beside a running gateway and without one: what a technician types, and what comes back."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import zxingcpp
from PIL import Image

from bench.gateway import Gateway, gateway
from drivers.virtual.printer import VirtualPrinter
from drivers.virtual.scales.toledo_8217 import VirtualToledo8217
from drivers.virtual.scanner import VirtualScanner
from drivers.virtual.wire import PtyWire, TcpWire
from edge.bus import topics
from edge.bus.client import Client
from edge.bus.errors import PublishRejected
from edge.devices.lane_cards import card_text
from tests.flows.plain_till import PlainTill

CAPTURES = Path(__file__).parent.parent / "captures"


def tables(folder: Path, port: int, drawer: str = 'open_when = "high"') -> str:
    return f"""
[[lanes]]
id = "1"
[[devices]]
id = "scanner-1"
protocol = "serial-scanner"
lanes = ["1"]
transport = {{ kind = "serial", path = "{folder}/ttyscanner" }}
[[devices]]
id = "scale-1"
protocol = "toledo-8217"
lanes = ["1"]
transport = {{ kind = "serial", path = "{folder}/ttyscale" }}
[[devices]]
id = "printer-1"
protocol = "escpos-printer"
lanes = ["1"]
transport = {{ kind = "tcp", host = "127.0.0.1", port = {port} }}
options = {{ model = "TM-T88V" }}
[[devices]]
id = "drawer-1"
protocol = "printer-drawer"
lanes = ["1"]
options = {{ printer = "printer-1", {drawer} }}
"""


class Shop:
    """A gateway with a counter of virtual devices, and a technician's terminal beside it."""

    def __init__(self, folder: Path, switch: str) -> None:
        self.scanner = VirtualScanner("scanner-1", PtyWire(folder / "ttyscanner"))
        self.scale = VirtualToledo8217("scale-1", PtyWire(folder / "ttyscale"))
        self.printer = VirtualPrinter("printer-1", TcpWire(0), folder / "paper", drawer_open=switch)
        self.at: Gateway

    async def type(self, *words: str, **how: Any) -> tuple[int, str, str]:
        """`tillgate devices WORDS`; exit status, stdout, stderr."""
        return await devices(self.at.config.file, *words, **how)


async def devices(config: Path, *words: str, hand: str = "") -> tuple[int, str, str]:
    process = await terminal(config, *words)
    out, err = await asyncio.wait_for(process.communicate(hand.encode()), 60)
    return process.returncode or 0, out.decode(), err.decode()


async def terminal(config: Path, *words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge.cli", "devices", *words, "--config", str(config),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip


async def line_with(process: asyncio.subprocess.Process, what: str) -> str:
    """The next line that holds `what`."""
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while line := (await process.stdout.readline()).decode():
            if what in line:
                return line
    assert process.stderr is not None
    raise AssertionError(f"{what!r} was not said; instead: {(await process.stderr.read()).decode()}")


@asynccontextmanager
async def open_shop(folder: Path, switch: str | None = None) -> AsyncIterator[Shop]:
    """`switch`: the level of the open drawer's contact, where the configuration does not say it."""
    shop = Shop(folder, switch or "high")
    twins = (shop.scanner, shop.scale, shop.printer)
    for twin in twins:
        await twin.open()
    try:
        assert isinstance(shop.printer.wire, TcpWire)
        (folder / "gateway").mkdir()
        written = tables(folder, shop.printer.wire.port, *(["pin = 2"] if switch else []))
        async with gateway(written, folder=folder / "gateway") as shop.at:
            yield shop
    finally:
        for twin in twins:
            await twin.close()


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as opened:
        yield opened


async def test_list_and_show(shop: Shop) -> None:
    async with asyncio.timeout(30):
        while True:
            code, out, _ = await shop.type("list", "--json")
            states = {row["device"]: row["state"] for row in json.loads(out)["devices"]}
            if set(states.values()) == {"ready"}:
                break
    assert (code, sorted(states)) == (0, ["drawer-1", "printer-1", "scale-1", "scanner-1"])
    _, text, _ = await shop.type("list")
    assert "on printer-1" in text
    await shop.printer.do("paper", {"to": "out"})
    async with asyncio.timeout(30):
        while "Put in a new roll" not in text:
            code, text, _ = await shop.type("list")
    assert code == 1
    _, shown, _ = await shop.type("show", "scale-1", "--json")
    found = json.loads(shown)
    assert found["transport"]["parity"] == "even", "defaults are shown too"
    assert found["status"]["state"] == "ready"
    code, _, err = await shop.type("show", "scale-9")
    assert (code, "scale-1" in err) == (2, True)


async def test_every_category_can_be_tried(shop: Shop) -> None:
    code, out, err = await shop.type("test", "printer-1")
    assert code == 0, err
    assert '"state": "printed"' in out
    assert "quick brown fox" in (await shop.printer.do("receipt", {}))["text"]
    shop.scale.load("0.482")
    code, out, err = await shop.type("test", "scale-1")
    assert code == 0, err
    assert '"value": "0.482"' in out
    code, out, err = await shop.type("test", "drawer-1")
    assert code == 0, err
    assert out.startswith("drawer-1 works")
    assert '"opened": true' in out
    process = await terminal(shop.at.config.file, "test", "scanner-1")
    await line_with(process, "scan something")
    scanning = asyncio.create_task(line_with(process, "scanner-1 works"))
    while not scanning.done():
        shop.scanner.scan("4006381333931")
        await asyncio.wait((scanning,), timeout=0.2)
    assert "4006381333931" in scanning.result()
    assert await process.wait() == 0


async def test_what_does_not_work_says_why(shop: Shop) -> None:
    await shop.scale.do("motion", {"on": True})
    code, _, err = await shop.type("test", "scale-1", "--seconds", "2")
    assert (code, "in_motion" in err) == (1, True)
    code, _, err = await shop.type("test", "scanner-1", "--seconds", "1")
    assert (code, "scanned nothing" in err) == (1, True)
    code, _, err = await shop.type("identify", "scale-1")
    assert (code, "press on it" in err) == (1, True)


async def test_a_lane_card_is_printed_and_scanned(shop: Shop) -> None:
    words = (sys.executable, "-m", "edge.cli", "lanes", "card", "--config", str(shop.at.config.file))
    pipe = asyncio.subprocess.PIPE
    for lane, printer, code, said in (
        ("1", "printer-1", 0, "Lane 1 is printed"),
        ("1", "scale-1", 1, "name a receipt printer"),
        ("1", "nothing", 1, "there are"),
    ):
        process = await asyncio.create_subprocess_exec(*words, lane, "--printer", printer, stdout=pipe, stderr=pipe)
        out, err = await process.communicate()
        assert (process.returncode, said in (out + err).decode()) == (code, True), (out, err)
    text = card_text(shop.at.config.store.id, "1")
    assert "Lane 1" in (await shop.printer.do("receipt", {}))["text"]
    drawn = Image.open((await shop.printer.do("picture", {}))["path"]).convert("L")
    found = {(str(code.format), code.text) for code in zxingcpp.read_barcodes(drawn)}
    assert found == {("QR Code", text), ("Code 128", text)}


async def test_identify(shop: Shop) -> None:
    code, _, err = await shop.type("identify", "printer-1")
    assert code == 0, err
    assert "I am printer-1" in (await shop.printer.do("receipt", {}))["text"]
    process = await terminal(shop.at.config.file, "identify", "--seconds", "60")
    await line_with(process, "listening")
    listening = asyncio.create_task(line_with(process, "scanner-1: scanned"))
    while not listening.done():
        shop.scanner.scan("4006381333931")
        await asyncio.wait((listening,), timeout=0.2)
    assert "4006381333931" in listening.result()
    pressing = asyncio.create_task(line_with(process, "scale-1: shows"))
    for grams in range(100, 10_000):
        shop.scale.load(f"{grams / 1000:.3f}")
        await asyncio.wait((pressing,), timeout=0.3)
        if pressing.done():
            break
    assert " kg" in pressing.result() or "in_motion" in pressing.result()
    await shop.printer.do("cover", {"to": "open"})
    assert "cover_open True" in await line_with(process, "printer-1: not_ready")
    process.terminate()
    await process.wait()


async def test_record_beside_the_gateway_and_replay(shop: Shop, tmp_path: Path) -> None:
    process = await terminal(shop.at.config.file, "record", "scanner-1", str(tmp_path / "odd"), "--seconds", "3")
    await line_with(process, "listening")
    till = PlainTill(shop.at.address, "1")
    async with till.client:
        await till.client.wait_connected()
        for _ in range(40):
            shop.scanner.scan("4006381333931", aim="E0")
            await asyncio.sleep(0.1)
        out, err = await process.communicate()
        assert process.returncode == 0, err
        assert (await till.heard.get())[1]["text"] == "4006381333931", "the scanner goes on working"
    assert b'"text": "4006381333931"' in out
    folder = tmp_path / "odd"
    assert (folder / "bytes.rx").read_bytes().count(b"]E04006381333931\r") > 5
    assert "scanner-1" in (folder / "README").read_text()
    code, out_text, _ = await shop.type("replay", str(folder))
    assert code == 0
    assert json.loads(out_text.splitlines()[0])["aim"] == "E0"
    code, _, err_text = await shop.type("record", "scanner-1", str(folder), "--seconds", "1")
    assert code == 2, "a capture is never overwritten, and silence makes none"
    (folder / "expected.jsonl").write_text('{"event": "Scan", "text": "1", "aim": null}\n')
    code, _, err_text = await shop.type("replay", str(folder))
    assert (code, "expected and not there" in err_text) == (1, True)


async def test_a_printer_is_recorded_with_what_it_was_asked(shop: Shop, tmp_path: Path) -> None:
    folder = tmp_path / "prints"
    process = await terminal(shop.at.config.file, "record", "printer-1", str(folder), "--seconds", "6")
    await line_with(process, "listening")
    recording = asyncio.create_task(process.communicate())
    while not recording.done():
        await shop.type("test", "printer-1")
        await shop.printer.do("cover", {"to": "open"})
        await shop.printer.do("cover", {"to": "closed"})
    out, err = recording.result()
    assert process.returncode == 0, err
    assert b'"cover_open": true' in out
    assert json.loads((folder / "protocol.json").read_text())["asked"]
    code, _, err_text = await shop.type("replay", str(folder))
    assert code == 0, err_text


async def test_a_lease_is_listed(shop: Shop) -> None:
    till = PlainTill(shop.at.address, "1")
    async with till.client:
        await till.client.wait_connected()
        assert (await till.request("device.claim", "r1", device="scale-1"))["ok"]
        _, out, _ = await shop.type("list")
        assert "1 (leased: 1)" in next(line for line in out.splitlines() if line.startswith("scale-1"))


async def test_nobody_but_the_box_itself_may_ask(shop: Shop) -> None:
    till = Client(shop.at.address, client_id="nosy", username="1", clean_start=True)
    async with till:
        await till.wait_connected()
        request = b'{"id": "x", "parameters": {"device": "printer-1"}}'
        with pytest.raises(PublishRejected, match="not authorized"):
            await till.publish(topics.technician_request("device.test"), request)


async def test_without_a_gateway(tmp_path: Path) -> None:
    config = tmp_path / "store.toml"
    config.write_text(f'state_dir = "state"\n[store]\nid = "S1"\n{tables(tmp_path, 1)}')
    code, out, err = await devices(config, "list")
    assert (code, "scale-1" in out, "is it running" in err) == (2, True, True)
    code, out, err = await devices(config, "replay", str(CAPTURES / "toledo-8217" / "magellan-8500-kg"))
    assert code == 0, err
    code, out, err = await devices(config, "replay", str(tmp_path))
    assert (code, "four files" in err) == (2, True)
    code, out, err = await devices(config, "simulate", "drawer-1")
    assert (code, "simulate that" in err) == (2, True)
    (tmp_path / "ttyscale").write_text("something real")
    code, out, err = await devices(config, "simulate", "scale-1")
    assert (code, "unplug the real device" in err) == (2, True)


async def test_simulate_then_record_without_a_gateway(tmp_path: Path) -> None:
    config = tmp_path / "store.toml"
    config.write_text(f'state_dir = "state"\n[store]\nid = "S1"\n{tables(tmp_path, 1)}')
    twin = await terminal(config, "simulate", "scanner-1")
    assert twin.stdin is not None
    assert str(tmp_path / "ttyscanner") in await line_with(twin, "scanner-1 is at")
    recording = await terminal(config, "record", "scanner-1", str(tmp_path / "new"), "--seconds", "3")
    await line_with(recording, "listening to the device itself")
    while recording.returncode is None and not (tmp_path / "new").exists():
        twin.stdin.write(b"scan text=96385074\n")
        assert "sent" in await line_with(twin, "{")
        await asyncio.sleep(0.1)
    out, err = await recording.communicate()
    assert recording.returncode == 0, err
    assert b"96385074" in out
    twin.stdin.write(b"help\n")
    assert "pulls the cable" in await line_with(twin, "cable to=pull")
    twin.stdin.write(b"sing\n")
    assert "cannot do 'sing'" in await line_with(twin, "no:")
    twin.stdin.close()
    assert await twin.wait() == 0
    assert not (tmp_path / "ttyscanner").exists()


async def test_simulate_in_the_background_and_from_a_file(tmp_path: Path) -> None:
    config, deeds = tmp_path / "store.toml", tmp_path / "deeds"
    config.write_text(f'state_dir = "state"\n[store]\nid = "S1"\n{tables(tmp_path, 1)}')
    words = (sys.executable, "-m", "edge.cli", "devices", "simulate", "scale-1", "--config", str(config))
    pipe = asyncio.subprocess.PIPE
    twin = await asyncio.create_subprocess_exec(
        *words, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    await line_with(twin, "Nobody is at a keyboard")
    assert (tmp_path / "ttyscale").exists()
    twin.terminate()
    assert (await twin.communicate())[1] == b""
    assert twin.returncode == 0
    deeds.write_text("load kg=0.482\nstate\n")
    with deeds.open("rb") as script:
        twin = await asyncio.create_subprocess_exec(*words, stdin=script, stdout=pipe, stderr=pipe)
        out, err = await twin.communicate()
    assert (twin.returncode, err) == (0, b"")
    assert b"0.482" in out


async def test_a_capture_is_played_to_the_gateway(tmp_path: Path) -> None:
    (tmp_path / "gateway").mkdir()
    async with gateway(tables(tmp_path, 1), folder=tmp_path / "gateway") as at:
        till = PlainTill(at.address, "1")
        async with till.client:
            await till.client.wait_connected()
            folder = CAPTURES / "serial-scanner" / "generic-crlf-aim"
            playing = asyncio.create_task(devices(at.config.file, "replay", str(folder), "--as", "scanner-1"))
            async with asyncio.timeout(30):
                _, scan = await till.heard.get()
            assert scan["device"] == "scanner-1"
            code, out, err = await playing
            assert code == 0, err
            assert "played as scanner-1" in out


@pytest.mark.parametrize(
    ("switch", "answers", "found"),
    [
        ("high", [], "drawer-1: open when high"),
        ("low", [], "drawer-1: open when low"),
        ("none", ["yes"], "has no contact that tells"),
        ("none", ["no"], "nothing learnt"),
    ],
)
async def test_a_drawer_is_calibrated_by_hand(tmp_path: Path, switch: str, answers: list[str], found: str) -> None:
    async with open_shop(tmp_path, switch=switch) as shop:
        code, out, _ = await shop.type("test", "drawer-1")
        assert (code, "cannot tell whether it did it, so look" in out) == (0, True)
        await shop.printer.do("drawer", {"to": "closed"})
        assert (
            "calibrate drawer-1" in json.loads((await shop.type("show", "drawer-1", "--json"))[1])["status"]["please"]
        )
        process = await terminal(shop.at.config.file, "calibrate", "drawer-1")
        assert process.stdin is not None
        assert process.stdout is not None
        async with asyncio.timeout(30):
            assert b"Close drawer-1" in await process.stdout.readuntil(b"press Enter ")
            process.stdin.write(b"\n")
            assert b"Close it again" in await process.stdout.readuntil(b"press Enter ")
            assert shop.printer.state()["drawer_open"]
            await shop.printer.do("drawer", {"to": "closed"})
            process.stdin.write(b"\n")
            for answer in answers:
                assert b"Did drawer-1 spring open?" in await process.stdout.readuntil(b"(yes, no) ")
                process.stdin.write(f"{answer}\n".encode())
            out, err = await process.communicate()
        assert (process.returncode, err) == (0, b"")
        assert found in out.decode()
        state = json.loads((await shop.type("show", "drawer-1", "--json"))[1])["status"]
        assert ("calibrate" in state["please"]) == (found == "nothing learnt")
        assert state["detail"] == ({"open": None} if switch == "none" else {"open": False})


async def test_a_calibration_that_is_broken_off_says_how_to_begin_again(shop: Shop) -> None:
    code, _, err = await shop.type("calibrate", "drawer-1")  # nobody at the keyboard: its input is at its end
    assert (code, "give the command again" in err) == (1, True)
    code, _, err = await shop.type("calibrate", "scale-1")
    assert (code, "no drawer" in err) == (1, True)
