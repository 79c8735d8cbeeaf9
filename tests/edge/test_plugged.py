"""`tillgate devices list --plugged`: every line that it prints can be pasted, and finds the device that it is of."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

from drivers.transports.usb_identity import UsbDevice, UsbPresent, find
from edge.commands.plugged import lines
from edge.config import load
from tests.drivers.test_usb_identity import ftdi, ids, plugged, walk

STORE = """[store]
id = "S1"
[[lanes]]
id = "1"
[[devices]]
id = "scale-1"
protocol = "toledo-8217"
lanes = ["1"]
transport = { kind = "serial", usb = { vendor = "0403", product = "6001", serial = "AL00ITFV" } }
"""


class Bus:
    """What is plugged in, by the kind of node."""

    def __init__(self) -> None:
        honeywell = ids("0c2e", "0b61", "18103B0AD5")
        cable = ids("067b", "2305")
        (printer,) = plugged(walk("1-3", "bus/usb/001/007", ids("04b8", "0202", "J4LG008211")))
        (hub,) = plugged(walk("1-4", "bus/usb/001/002", ids("05e3", "0608")))
        self.nodes: dict[str, list[UsbPresent]] = {
            "usb": [hub, replace(printer, prints=True)],
            "tty": plugged(
                ftdi("1-1.1", "ttyUSB0", "AL00ITFV"),
                walk("1-1.2", "ttyUSB1", cable),
                walk("1-1.3", "ttyUSB2", cable),
                *(walk("1-1.4", f"ttyUSB{3 + line}", ids("10c4", "ea71", "0043"), line) for line in range(2)),
            ),
            "input": plugged(
                walk("1-2", "input/event3", honeywell),
                walk("1-2", "input/event4", honeywell, 1),
                keyboards=("/dev/input/event3",),
            ),
            "hidraw": plugged(walk("1-2", "hidraw0", honeywell), walk("1-5", "hidraw1", ids("0922", "8009"))),
        }

    def read(self, wish: UsbDevice | None, subsystem: str) -> list[UsbPresent]:
        assert wish is None
        return self.nodes[subsystem]


def test_every_line_finds_its_device(tmp_path: Path) -> None:
    file = tmp_path / "store.toml"
    file.write_text(STORE)
    bus = Bus()
    printed = lines(load(file), bus.read)
    heads, tables = printed[0::2], [tomllib.loads(line.strip())["transport"] for line in printed[1::2]]
    subsystems = {"usb": "usb", "serial": "tty", "evdev": "input", "hidraw": "hidraw"}
    paths = [find(UsbDevice(**one["usb"]), bus.nodes[subsystems[one["kind"]]]).path for one in tables]
    assert paths == [
        "/dev/bus/usb/001/007",
        *(f"/dev/ttyUSB{number}" for number in range(5)),
        "/dev/input/event3",
        "/dev/hidraw1",
    ], "neither a hub, nor the node beside a keyboard, nor the raw side of one"
    assert [head for head in heads if head.endswith("(scale-1)")] == [heads[1]]
    for table in tables:  # what is printed can be pasted
        protocol = {"usb": "escpos-printer", "evdev": "keyboard-scanner", "hidraw": "usb-hid-scale"}
        row = STORE.partition("[[devices]]")[0] + "[[devices]]\nid = 'it'\nlanes = ['1']\n"
        text = printed[1::2][tables.index(table)].strip()
        file.write_text(f"{row}protocol = '{protocol.get(table['kind'], 'toledo-8217')}'\n{text}\n")
        assert load(file).devices[0].transport == table


def test_nothing_plugged_in(tmp_path: Path) -> None:
    file = tmp_path / "store.toml"
    file.write_text(STORE)
    assert lines(load(file), lambda wish, subsystem: []) == []


def test_before_there_is_a_configuration() -> None:
    printed = lines(None, Bus().read)
    assert len(printed) == 16
    assert not any("scale-1" in line for line in printed)
