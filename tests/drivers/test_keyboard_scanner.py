"""A virtual keyboard scanner on an event socket and the real driver at the other end."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.catalog import build_driver, build_transport, read_device, read_transport
from drivers.driver import Driver
from drivers.errors import BadOption, DeviceLost, WrongDevice
from drivers.events import Noise, Scan
from drivers.scanners.keyboard import KeyboardScanner, KeyboardScannerOptions
from drivers.virtual.key_rows import KEYBOARDS
from drivers.virtual.keyboard import VirtualKeyboard
from drivers.virtual.twin import BadRequest
from drivers.virtual.wire import UnixWire
from tests.drivers.rig import Heard, running


def keyboard_at(
    path: Path, heard: Heard, transport: str = "event-socket", **options: str
) -> Callable[[Callable[[], None]], Driver]:
    def build(on_open: Callable[[], None]) -> Driver:
        line = build_transport(read_transport("keyboard-scanner", transport, {"path": str(path)}))
        return build_driver("keyboard-scanner", read_device("keyboard-scanner", options), line, heard, on_open)

    return build


@pytest.fixture
async def twin(tmp_path: Path) -> VirtualKeyboard:
    keyboard = VirtualKeyboard("keyboard-1", UnixWire(tmp_path / "keyboard-1.events"))
    await keyboard.open()
    return keyboard


async def test_every_printable_character_and_gs_is_typed_and_read(twin: VirtualKeyboard) -> None:
    text = "".join(map(chr, range(0x21, 0x7F))) + " \x1d~"
    heard = Heard()
    async with running(keyboard_at(Path(twin.wire.address), heard)):
        await twin.do("scan", {"text": text})
        twin.scan("4006381333931", "E0")
        scans = await heard.of(Scan, 2)
    assert [(scan.text, scan.aim) for scan in scans] == [(text, None), ("4006381333931", "E0")]
    assert all(scan.captured_ns for scan in scans)
    await twin.close()


@pytest.mark.parametrize("alt", [False, True], ids=["keys", "alt"])
@pytest.mark.parametrize("layout", KEYBOARDS)
async def test_every_character_of_a_national_keyboard(layout: str, alt: bool, tmp_path: Path) -> None:
    """The twin types by the printed chart, the driver reads by libxkbcommon: two authors."""
    twin, heard = VirtualKeyboard("k", UnixWire(tmp_path / "k.events"), layout=layout, alt=alt), Heard()
    await twin.open()
    keyboard = KEYBOARDS[layout]
    texts = ["".join([*keyboard.strokes, *keyboard.dead, "\x1d."]), "(01)09501101530003\x1d10-A/b"]
    if alt:
        texts.append("".join(map(chr, range(0x20, 0x7F))) + "€ß\x1d")
    async with running(keyboard_at(Path(twin.wire.address), heard, layout=layout)):
        for text in texts:
            twin.scan(text)
        twin.scan("4006381333931", "E0")
        scans = await heard.of(Scan, len(texts) + 1)
    assert [(scan.text, scan.aim) for scan in scans] == [*((text, None) for text in texts), ("4006381333931", "E0")]
    assert not heard.now(Noise)
    await twin.close()


async def test_a_prefix_and_tab(tmp_path: Path) -> None:
    twin, heard = VirtualKeyboard("k", UnixWire(tmp_path / "k.events"), suffix="tab", prefix="~"), Heard()
    await twin.open()
    async with running(keyboard_at(Path(twin.wire.address), heard, suffix="tab", prefix="~")):
        twin.scan("4006381333931", "E0")
        assert [(scan.text, scan.aim) for scan in await heard.of(Scan)] == [("4006381333931", "E0")]
    await twin.close()


def test_what_never_ends_is_bounded_and_told_once() -> None:
    record = struct.Struct("llHHi")
    down, up, a_key = (record.pack(0, 0, 1, *stroke) for stroke in ((42, 1), (42, 0), (30, 1)))
    enter = record.pack(0, 0, 1, 28, 1)
    f1_key = record.pack(0, 0, 1, 59, 1)
    for endless, code in ((a_key, "too_long"), (down + up, "too_long"), (f1_key, "keys_not_understood")):
        protocol = KeyboardScanner()
        assert not protocol.receive(a_key + endless * 300_000)
        (noise,) = protocol.receive(a_key + enter)
        assert isinstance(noise, Noise)
        assert len(noise.raw) < 300_000
        assert noise.code == code
        assert [event.text for event in protocol.receive(a_key + enter) if isinstance(event, Scan)] == ["a"]


async def test_without_an_end_key_a_pause_ends_the_code(twin: VirtualKeyboard) -> None:
    heard = Heard()
    async with running(keyboard_at(Path(twin.wire.address), heard, suffix="none")):
        await twin.do("cut_scan", {"text": "40063813339314006381333931"})
        assert [scan.text for scan in await heard.of(Scan)] == ["4006381333931"]
        await twin.do("cut_scan", {"text": "5449000000996549000000996"})
        assert len(await heard.of(Scan, 2)) == 2
    assert not heard.now(Noise)
    await twin.close()


def test_a_tilde_that_is_dead_on_windows_is_never_a_tilde_and_a_space() -> None:
    record = struct.Struct("llHHi")
    altgr_2, space, n, digit_1 = ((100, 3), (57,), (49,), (42, 2))

    def struck(*keys: tuple[int, ...]) -> bytes:
        return b"".join(
            record.pack(0, 0, 1, code, value)
            for key in keys
            for value, codes in ((1, key), (0, key[::-1]))
            for code in codes
        )

    french = KeyboardScanner(KeyboardScannerOptions(layout="fr"))
    for keys, text in (((altgr_2, space), "~"), ((altgr_2, n), "ñ"), ((altgr_2, digit_1), None), ((altgr_2,), None)):
        (event,) = french.receive(struck(*keys, (28,)))
        assert getattr(event, "text", None) == text
    plain = KeyboardScanner(KeyboardScannerOptions(layout="fr", variant="oss"))
    assert [event.text for event in plain.receive(struck(altgr_2, n, (28,))) if isinstance(event, Scan)] == ["~n"]


def test_a_layout_that_cannot_be_had_is_refused_with_what_to_do() -> None:
    for layout, variant in (("xx", ""), ("de,us", ""), ("", ""), ("de", "nonsense")):
        with pytest.raises(BadOption, match="xkb-data"):
            read_device("keyboard-scanner", {"layout": layout, "variant": variant})
    assert read_device("keyboard-scanner", {"layout": "de", "variant": "nodeadkeys"}).layout == "de"


def test_a_loss_without_an_end_is_over_when_the_line_falls_silent() -> None:
    protocol = KeyboardScanner()
    keys = VirtualKeyboard("k", UnixWire(Path("unused")))
    lost = struct.pack("llHHi", 0, 0, 0, 3, 0)
    typed, code = keys._typed("12"), keys._typed("34") + keys._key(28)
    assert [noise.code for noise in protocol.receive(typed + lost + typed)] == ["lost_events"]
    assert protocol.pending
    assert not protocol.idle()
    assert not protocol.pending
    assert [scan.text for scan in protocol.receive(code)] == ["34"]


async def test_lost_events_discard_the_scan_and_only_that_one(twin: VirtualKeyboard) -> None:
    heard = Heard()
    async with running(keyboard_at(Path(twin.wire.address), heard)):
        await twin.do("lose_events", {"text": "4006381333931"})
        twin.scan("5449000000996")
        assert [scan.text for scan in await heard.of(Scan)] == ["5449000000996"]
    assert [noise.reason for noise in heard.now(Noise)] == ["key events were lost in the kernel"]
    await twin.close()


async def test_split_records_and_a_scan_that_stops(twin: VirtualKeyboard) -> None:
    heard = Heard()
    async with running(keyboard_at(Path(twin.wire.address), heard)):
        await twin.do("split", {"on": True})
        twin.scan("Ab1")
        assert [scan.text for scan in await heard.of(Scan)] == ["Ab1"]
        await twin.do("split", {"on": False})
        await twin.do("cut_scan", {"text": "4006381333931"})
        assert [noise.reason for noise in await heard.of(Noise)] == ["cut off"]
    await twin.close()


async def test_unplugged_and_plugged_in_again(twin: VirtualKeyboard) -> None:
    heard, path = Heard(), Path(twin.wire.address)
    async with running(keyboard_at(path, heard)) as run:
        twin.scan("1")
        await heard.of(Scan)
        await twin.do("cable", {"to": "pull"})
        assert isinstance(await run.ended(), DeviceLost)
    with pytest.raises(DeviceLost, match="cannot be reached"):
        async with running(keyboard_at(path, heard)):
            pass
    await twin.do("cable", {"to": "plug"})
    async with running(keyboard_at(path, heard)):
        twin.scan("2")
        assert [scan.text for scan in await heard.of(Scan, 2)] == ["1", "2"]
    await twin.close()


async def test_the_twin_refuses_what_no_key_types(twin: VirtualKeyboard) -> None:
    with pytest.raises(BadRequest, match="no key types 'é'"):
        await twin.do("scan", {"text": "café"})
    with pytest.raises(BadRequest, match="it can"):
        await twin.do("print", {})
    await twin.close()


async def test_evdev_tells_an_absent_node_from_a_wrong_one(tmp_path: Path) -> None:
    with pytest.raises(DeviceLost, match="is not there"):
        async with running(keyboard_at(tmp_path / "event0", Heard(), "evdev")):
            pass
    (tmp_path / "event0").write_bytes(struct.pack("llHHi", 0, 0, 1, 2, 1))
    with pytest.raises(WrongDevice, match="is not an input device"):
        async with running(keyboard_at(tmp_path / "event0", Heard(), "evdev")):
            pass
