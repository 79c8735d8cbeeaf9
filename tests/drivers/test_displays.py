"""Customer displays: bytes as the manuals print them, twins read from the manuals, and a line shared with a printer."""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drivers.catalog import build_display, build_drawer, build_driver, build_transport, read_device, read_transport
from drivers.displays._template import TemplateDisplay, TemplateDisplayOptions
from drivers.displays.base import Display, DisplayOptions, behind_printer
from drivers.displays.cd5220 import Cd5220Display, Cd5220DisplayOptions
from drivers.displays.code_pages import displayable, encode
from drivers.displays.display_driver import DisplayDriver
from drivers.displays.escpos_display import EscposDisplay, EscposDisplayOptions
from drivers.errors import BadOption, DeviceLost, NotReady
from drivers.events import Noise
from drivers.printers.document import Cut, Text
from drivers.printers.escpos import encode as encode_receipt
from drivers.printers.printer_driver import PrinterDriver
from drivers.printers.profiles import PROFILES
from drivers.virtual.displays.cd5220 import Cd5220Screen
from drivers.virtual.displays.display import VirtualCd5220Display, VirtualDisplay, VirtualEscposDisplay
from drivers.virtual.displays.escpos_display import EscposScreen
from drivers.virtual.displays.screen import Screen
from drivers.virtual.printer import VirtualPrinter
from drivers.virtual.wire import PtyWire, TcpWire, Wire
from tests.drivers.rig import PATIENCE_S, Heard, Running, running, until

KINDS: dict[str, tuple[type[Display], type[DisplayOptions], type[Screen], type[VirtualDisplay]]] = {
    "escpos-display": (EscposDisplay, EscposDisplayOptions, EscposScreen, VirtualEscposDisplay),
    "cd5220-display": (Cd5220Display, Cd5220DisplayOptions, Cd5220Screen, VirtualCd5220Display),
}
either = pytest.mark.parametrize("kind", KINDS)


# -- bytes -------------------------------------------------------------------------------------------------------------


def test_escpos_bytes() -> None:
    display = EscposDisplay(EscposDisplayOptions(code_page="cp858", brightness=3))
    picture = display.picture(["Milk", "2 x 0.99 \u20ac"], fresh=True)
    assert picture.data == bytes.fromhex("1b3d02 1b40 0c 1b7413 1f01 1f4300 1f5803 1f240101") + (
        b"Milk                " + bytes.fromhex("1f240102") + b"2 x 0.99 \xd5          "
    )
    assert picture.lines == ("Milk", "2 x 0.99 \u20ac")


def test_cd5220_bytes() -> None:
    display = Cd5220Display(Cd5220DisplayOptions(brightness=4, select="1b6647"))
    picture = display.picture(["TOTAL", "3.98"], fresh=True)
    assert picture.data == bytes.fromhex("0c 1b40 1b11 1b5f00 1b2a04 1b6647") + (
        b"\x1bQATOTAL               \r\x1bQB3.98                \r"
    )
    assert display.picture(["TOTAL", "3.98"]).data == b"\x1bQATOTAL               \r\x1bQB3.98                \r"


@pytest.mark.parametrize(
    ("page", "text", "shown", "data"),
    [
        ("cp437", "Caf\u00e9 5 \u00a3", "Caf\u00e9 5 \u00a3", b"Caf\x82 5 \x9c"),
        ("cp437", "5 \u20ac", "5 ?", b"5 ?"),
        ("cp858", "5 \u20ac", "5 \u20ac", b"5 \xd5"),
        ("cp1252", "5 \u20ac", "5 \u20ac", b"5 \x80"),
        ("cp866", "\u041c\u0430\u043a", "\u041c\u0430\u043a", b"\x8c\xa0\xaa"),
        ("cp852", "\u0141\u00f3d\u017a", "\u0141\u00f3d\u017a", b"\x9d\xa2d\xab"),
        ("katakana", "\u30d1\u30f3 \u725b", "\uff8a\uff9f\uff9d ?", b"\xca\xdf\xdd ?"),  # pan; the kanji has no cell
        ("ascii", "M\u00fcsli", "M?sli", b"M?sli"),
        ("cp437", "e\u0301", "\u00e9", b"\x82"),  # one character, though written as two
        ("cp437", "a\x1b@\x0cb\n", "a?@?b?", b"a?@?b?"),  # a text is never a command
    ],
)  # fmt: skip
def test_characters(page: Any, text: str, shown: str, data: bytes) -> None:
    assert displayable(text, page)[0] == shown
    assert encode(shown, page) == data


def test_what_was_replaced_is_told() -> None:
    picture = EscposDisplay(EscposDisplayOptions()).picture(["\u725b\u4e73 1L", "ok"])
    assert (picture.lines, picture.replaced) == (("?? 1L", "ok"), "\u725b\u4e73")


@either
def test_no_text_gets_out_of_its_cells(kind: str) -> None:
    """Whatever is shown, the screen afterwards is what `picture` says, and nothing a printer would obey is inside."""
    make, options, screen_of, _ = KINDS[kind]
    chance = random.Random(kind)
    screen = screen_of(20, 2, "cp437")
    for _ in range(300):
        lines = ["".join(chr(chance.choice((chance.randrange(0x300), 0x1B, 0x10, 0x20AC))) for _ in range(25))] * 2
        picture = make(options(brightness=chance.choice((1, 2, 3, 4, None)))).picture(
            lines, fresh=chance.random() < 0.5
        )
        screen.feed(picture.data)
        assert tuple(screen.lines()) == picture.lines
        assert screen.unknown_commands == 0
        for after in (b"\x04", b"\x05", b"\x14"):
            assert b"\x10" + after not in picture.data


@either
def test_other_sizes(kind: str) -> None:
    make, options, screen_of, _ = KINDS[kind]
    display, screen = make(options(columns=16, rows=4)), screen_of(16, 4, "cp437")
    screen.feed(display.picture(["1" * 20, "2", "3", "4444444444444444"], fresh=True).data)
    assert screen.lines() == ["1" * 16, "2", "3", "4" * 16]


@either
def test_a_screen_takes_bytes_split_anywhere(kind: str) -> None:
    make, options, screen_of, _ = KINDS[kind]
    screen = screen_of(20, 2, "cp437")
    for byte in make(options(brightness=2)).picture(["Hello", "World"], fresh=True).data:
        screen.feed(bytes((byte,)))
    assert (screen.lines(), screen.brightness, screen.unknown_commands) == (["Hello", "World"], 2, 0)


def test_twins_obey_commands_that_we_do_not_send() -> None:
    epson = EscposScreen(20, 2, "cp437")
    epson.feed(b"ab\x1f\x24\x05\x02X\x0d12\x1f\x02" + b"\x1f\x42Z")  # vertical scroll: the last cell moves all up
    assert epson.lines() == ["12  X              Z", ""]
    epson.feed(b"\x1b\x3d\x01hidden\x1f\x24\x01\x01\x1b\x3d\x02seen")
    assert "hidden" not in "".join(epson.lines())
    assert "seen" in "".join(epson.lines())
    partner = Cd5220Screen(20, 2, "cp437")
    partner.feed(b"\x1bQAupper\rignored\x1b\x2a\x01\x1bQBlower\r")
    assert (partner.lines(), partner.brightness) == (["upper", "lower"], 4)
    partner.feed(b"\x0c\x1b\x2a\x01\x1b\x6c\x03\x02free")
    assert (partner.lines(), partner.brightness) == (["", "  free"], 1)


def test_the_template_paints() -> None:
    display = TemplateDisplay(TemplateDisplayOptions())
    assert display.picture(["a"], fresh=True).data == b"\x0c\x1f\x00a" + b" " * 19 + b"\x1f\x14" + b" " * 20


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"columns": 8}, "columns"),
        ({"rows": 1}, "rows"),
        ({"brightness": 5}, "brightness"),
        ({"code_page": "utf-8"}, "code_page"),
        ({"idle": "Welcome"}, "idle"),
        ({"idle": ["a", "b", "c"]}, "idle"),
        ({"idle": [1]}, "idle"),
        ({"idle_after_s": -1}, "idle_after_s"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], key: str) -> None:
    with pytest.raises(BadOption) as caught:
        read_device("escpos-display", options)
    assert caught.value.key == key
    assert read_device("escpos-display", {"idle": ["Welcome", "to us"]}).idle == ("Welcome", "to us")


def test_the_makers_own_command_is_hexadecimal() -> None:
    with pytest.raises(BadOption, match="hexadecimal"):
        read_device("cd5220-display", {"select": "ESC t"})


# -- a display on its own line -----------------------------------------------------------------------------------------


@asynccontextmanager
async def on_a_line(
    kind: str, wire: Wire, **line: Any
) -> AsyncIterator[tuple[VirtualDisplay, DisplayDriver, Running, Heard]]:
    twin, heard = KINDS[kind][3]("display-1", wire), Heard()
    await twin.open()
    name = "tcp" if isinstance(wire, TcpWire) else "serial"
    where = {"host": "127.0.0.1", "port": wire.port} if isinstance(wire, TcpWire) else {"path": wire.address, **line}

    def build(on_open: Callable[[], None]) -> DisplayDriver:
        transport = build_transport(read_transport(kind, name, where))
        driver = build_driver(kind, read_device(kind, {}), transport, heard, on_open)
        assert isinstance(driver, DisplayDriver)
        return driver

    try:
        async with running(build) as run:
            yield twin, run.driver, run, heard
    finally:
        await twin.close()


@either
@pytest.mark.parametrize("line", ["serial", "tcp"])
async def test_a_picture_is_shown(kind: str, line: str, tmp_path: Path) -> None:
    wire = TcpWire(0) if line == "tcp" else PtyWire(tmp_path / "tty")
    async with on_a_line(kind, wire) as (twin, driver, _, _):
        assert await driver.show(driver.display.picture(["TOTAL", "3.98"], fresh=True).data)
        await until(lambda: twin.screen.lines() == ["TOTAL", "3.98"])
        answer = await twin.do("picture", {})
        assert base64.b64decode(answer["png"]).startswith(b"\x89PNG")
        assert twin.state()["cursor"] is None


async def test_of_many_pictures_the_newest_is_shown_and_few_are_sent(tmp_path: Path) -> None:
    async with on_a_line("cd5220-display", PtyWire(tmp_path / "tty"), baud=1200) as (twin, driver, _, _):
        pictures = [driver.display.picture([f"picture {number}"]).data for number in range(50)]
        shown = await asyncio.gather(*(driver.show(data) for data in pictures))
        assert shown[-1]
        assert sum(shown) <= 2
        await until(lambda: twin.screen.lines()[0] == "picture 49")
        assert twin.screen.bytes_received == sum(shown) * len(pictures[0])


async def test_unplugged_in_the_middle_of_a_picture(tmp_path: Path) -> None:
    async with on_a_line("escpos-display", PtyWire(tmp_path / "tty"), baud=300) as (twin, driver, run, _):
        data = driver.display.picture(["first"]).data
        showing = [asyncio.ensure_future(driver.show(data))]
        await until(lambda: twin.screen.bytes_received > 0)
        showing.append(asyncio.ensure_future(driver.show(data)))
        await twin.do("cable", {"to": "pull"})
        for one in showing:
            with pytest.raises(DeviceLost):
                await asyncio.wait_for(one, PATIENCE_S)
        assert isinstance(await run.ended(), DeviceLost)
        with pytest.raises(DeviceLost):
            await driver.show(data)


async def test_what_a_display_says_is_noise(tmp_path: Path) -> None:
    async with on_a_line("escpos-display", PtyWire(tmp_path / "tty")) as (twin, _, _, heard):
        await twin.do("noise", {"hex": "575f"})
        (noise,) = await heard.of(Noise)
        assert noise.raw == b"W_"


# -- a display behind a printer ----------------------------------------------------------------------------------------


@asynccontextmanager
async def behind(
    commands: str, tmp_path: Path, model: str = "TM-T88V"
) -> AsyncIterator[tuple[VirtualPrinter, PrinterDriver, Display, Any]]:
    """A printer with a display on its connector; the last is what opens the printer's link once more."""
    wire = TcpWire(0)
    twin, heard = VirtualPrinter("printer-1", wire, tmp_path / "paper", display=commands), Heard()
    await twin.open()
    display = build_display(read_device("printer-display", {"printer": "printer-1", "commands": commands}))

    def build(on_open: Callable[[], None]) -> PrinterDriver:
        transport = build_transport(read_transport("escpos-printer", "tcp", {"host": "127.0.0.1", "port": wire.port}))
        driver = build_driver(
            "escpos-printer", read_device("escpos-printer", {"model": model}), transport, heard, on_open
        )
        assert isinstance(driver, PrinterDriver)
        return driver

    try:
        async with running(build) as run:
            yield twin, run.driver, display, lambda: running(build)
    finally:
        await twin.close()


def receipt(number: int) -> bytes:
    return encode_receipt([Text(f"Sale {number}"), Cut()], PROFILES["TM-T88V"]).data


@pytest.mark.parametrize("commands", ["escpos", "cd5220"])
async def test_receipts_pulses_and_pictures_share_one_line(commands: str, tmp_path: Path) -> None:
    drawer = build_drawer(read_device("printer-drawer", {"printer": "printer-1"}))
    rounds = 100
    async with behind(commands, tmp_path) as (twin, printer, display, _):
        assert twin.screen is not None
        for number in range(rounds):
            lines = (f"Item {number}", f"{number}.99")
            data = behind_printer(display.picture(lines, fresh=number % 10 == 0).data)
            token = f"{number:04d}".encode()
            outcome, *_ = await asyncio.gather(
                printer.send(receipt(number), token, PATIENCE_S), printer.kick(drawer), printer.pass_through(data)
            )
            assert outcome == "printed"
            await until(lambda lines=lines: tuple(twin.screen.lines()) == lines)  # type: ignore[misc]
        await until(lambda: twin.kicks == rounds)
        texts = sorted((tmp_path / "paper").glob("*.txt"))
        assert [file.read_text("utf-8").split() for file in texts] == [["Sale", str(n)] for n in range(rounds)]
        assert twin.state()["unknown_commands"] == twin.screen.unknown_commands == 0


async def test_a_printer_that_is_stuck_gets_no_picture(tmp_path: Path) -> None:
    async with behind("escpos", tmp_path) as (twin, printer, display, _):
        await twin.do("paper", {"to": "out"})
        await until(lambda: printer.status.reason == "paper_out")
        with pytest.raises(NotReady) as caught:
            await printer.pass_through(behind_printer(display.picture(["late"]).data))
        assert caught.value.reason == "paper_out"
        await twin.do("paper", {"to": "ok"})
        await until(lambda: printer.status.reason is None)
        await printer.pass_through(behind_printer(display.picture(["in time"]).data))
        await until(lambda: twin.screen is not None and twin.screen.lines()[0] == "in time")


@pytest.mark.parametrize("model", ["TM-T88V", "one-way"])
@pytest.mark.parametrize("broken_after", [1, 2, 3, 9, 30])
async def test_a_picture_that_broke_off_leaves_the_printer_printing(
    broken_after: int, model: str, tmp_path: Path
) -> None:
    async with behind("escpos", tmp_path, model) as (twin, printer, display, again):
        cut = behind_printer(display.picture(["never whole"]).data)[:broken_after]
        await printer.pass_through(cut)
        assert printer._gone is not None
        printer._lost(DeviceLost("the cable, in the middle of a picture"))
        await until(lambda: not printer.is_open)
        async with again() as run:
            assert await run.driver.send(receipt(7), b"A007", PATIENCE_S) in ("printed", "sent")
            await run.driver.pass_through(behind_printer(display.picture(["whole"], fresh=True).data))
            await until(lambda: twin.screen is not None and twin.screen.lines()[0] == "whole")
        (file,) = (tmp_path / "paper").glob("*.txt")
        assert file.read_text("utf-8").split()[:2] == ["Sale", "7"]


async def test_more_than_one_piece_is_refused(tmp_path: Path) -> None:
    async with behind("escpos", tmp_path) as (_, printer, _, _):
        with pytest.raises(ValueError, match="2049 bytes"):
            await printer.pass_through(bytes(2049))
