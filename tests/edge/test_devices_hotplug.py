"""What is plugged in is noticed by event: nobody looks again and again, and nobody waits for a backoff."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drivers.transports.place import Place, place_of
from drivers.transports.usb import UsbOptions, UsbTransport
from drivers.transports.usb_identity import UsbDevice, UsbNode, UsbPresent
from edge.devices.directories import Directories
from edge.devices.hotplug import Hotplug
from edge.supervisor import Pauses
from tests.edge.devices_rig import BOUND_S, Counter, until

NEVER = Pauses(first_s=3600, longest_s=3600)
"""With these, only an event brings a device back within the time of a test."""
UEVENT = Path("/sys/class/tty/tty0/uevent")


class Watched:
    """Directories with what they told."""

    def __init__(self, *paths: Path) -> None:
        self.told: list[str] = []
        self.directories = Directories([str(path) for path in paths], self.told.append)
        assert self.directories.start()

    async def tells(self, path: Path) -> None:
        await until(lambda: str(path) in self.told, f"word of {path}")
        self.told.clear()

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self.directories.close()


async def test_a_path_that_appears_or_is_allowed_is_told(tmp_path: Path) -> None:
    node, link = tmp_path / "ttyUSB0", tmp_path / "scale"
    with Watched(node, link) as watched:
        node.touch(mode=0o000)
        await watched.tells(node)
        node.chmod(0o660)
        await watched.tells(node)
        link.symlink_to(node)
        await watched.tells(link)
        link.unlink()
        (tmp_path / "new").symlink_to(node)
        (tmp_path / "new").rename(link)
        await watched.tells(link)
        (tmp_path / "somebody-else").touch()
        node.chmod(0o600)
        await watched.tells(node)


async def test_a_pattern_is_told_whichever_of_it_comes(tmp_path: Path) -> None:
    printers = tmp_path / "usb" / "lp*"
    with Watched(printers) as watched:
        printers.parent.mkdir()
        await watched.tells(printers)
        for number in (0, 3):
            (tmp_path / "usb" / f"lp{number}").touch()
            await watched.tells(printers)


async def test_a_directory_that_comes_and_goes_is_followed(tmp_path: Path) -> None:
    """As /dev/serial/by-id does with the first and the last adapter."""
    link = tmp_path / "serial" / "by-id" / "usb-FTDI-if00"
    with Watched(link) as watched:
        for _ in range(3):
            link.parent.mkdir(parents=True)
            link.symlink_to("/dev/null")
            await watched.tells(link)
            link.unlink()
            link.symlink_to("/dev/zero")
            await watched.tells(link)
            link.unlink()
            link.parent.rmdir()
            link.parent.parent.rmdir()
            marker = link.parent.parent
            marker.mkdir()  # and something of that name comes without it
            await watched.tells(link)
            marker.rmdir()


async def test_a_directory_replaced_by_another_is_watched_in_its_place(tmp_path: Path) -> None:
    link = tmp_path / "by-id" / "scanner"
    link.parent.mkdir()
    with Watched(link) as watched:
        link.parent.rename(tmp_path / "old")
        link.parent.mkdir()
        await watched.tells(link)
        link.touch()
        await watched.tells(link)
        (tmp_path / "old" / "scanner").touch()
        link.chmod(0o600)
        await watched.tells(link)


async def test_a_device_comes_back_when_it_is_plugged_in(tmp_path: Path) -> None:
    async with Counter(tmp_path, pauses=NEVER) as counter:
        await counter.ready()
        for _ in range(3):
            await counter.scanner.do("cable", {"to": "pull"})
            await until(lambda: counter.state("scanner-1")["state"] == "offline", "the loss")
            await counter.scanner.do("cable", {"to": "plug"})
            await until(lambda: counter.state("scanner-1")["state"] == "ready", "the return")


async def test_a_device_that_was_not_there_at_the_start_comes_when_it_is_plugged_in(tmp_path: Path) -> None:
    counter = Counter(tmp_path, pauses=NEVER)
    async with counter:
        await counter.stop()
        await counter.scale.do("cable", {"to": "pull"})
        await counter.start()
        await until(lambda: counter.registry.all("scale")[0].state == "offline", "the scale's absence")
        await counter.scale.do("cable", {"to": "plug"})
        await until(lambda: counter.state("scale-1")["state"] == "ready", "the scale")


async def test_a_wrong_device_is_tried_again_when_another_is_plugged_in(tmp_path: Path) -> None:
    async with Counter(tmp_path, pauses=NEVER) as counter:
        await counter.ready()
        await counter.scanner.do("cable", {"to": "pull"})
        await until(lambda: counter.state("scanner-1")["state"] == "offline", "the loss")
        line = Path(counter.scanner.wire.address)
        line.write_text("a file is no serial line")
        await until(lambda: counter.state("scanner-1")["state"] == "faulted", "the complaint")
        assert "is not a serial line" in counter.state("scanner-1")["please"]
        line.unlink()
        await counter.scanner.do("cable", {"to": "plug"})
        await until(lambda: counter.state("scanner-1")["state"] == "ready", "the return")


@pytest.mark.skipif(not os.access(UEVENT, os.W_OK), reason="only root can make the kernel send an event")
async def test_the_kernel_s_events_wake_who_waits_for_a_usb_device() -> None:
    hotplug = Hotplug()
    mine = hotplug.plug(Place("", UsbDevice("0403", "6001"), "tty"))
    printer = hotplug.plug(place_of(UsbTransport(UsbOptions())))
    networked = hotplug.plug(None)
    hotplug.start()
    try:
        assert mine.eventful
        assert printer.eventful
        assert not networked.eventful
        UEVENT.write_text("change")
        assert await mine.wait(BOUND_S)
        assert await printer.wait(BOUND_S)
        mine.clear()
        UEVENT.write_text("add")
        assert await mine.wait(BOUND_S)
        assert not await networked.wait(0)
    finally:
        hotplug.close()


class Bus:
    """What is plugged in, as sysfs would tell it: serial numbers in ports, with a virtual device's line behind each."""

    def __init__(self) -> None:
        self.ports: dict[str, tuple[str | None, str]] = {}

    def read(self, wish: UsbDevice, subsystem: str) -> list[UsbPresent]:
        assert subsystem == "tty"
        return [
            UsbPresent(wish.vendor, wish.product, serial, port, None, (UsbNode(path, 0),))
            for port, (serial, path) in self.ports.items()
        ]


class UsbCounter(Counter):
    """The scanner is named by what it is, and found on `bus`."""

    bus = Bus()

    def devices(self):
        usb = {"vendor": "0c2e", "product": "0b61", "serial": "18103B0AD5"}
        rows = super().devices()
        rows[0] = rows[0].model_copy(update={"transport": {"kind": "serial", "usb": usb}})
        return rows

    async def start(self, *args):
        await super().start(*args)
        driver = self.registry.all("scanner")[0].driver
        assert driver is not None
        place = place_of(driver.transport)
        assert place is not None
        place.read = self.bus.read


async def test_a_swapped_device_is_used_and_recorded_once(tmp_path: Path) -> None:
    counter = UsbCounter(tmp_path)
    counter.bus = bus = Bus()
    bus.ports = {"1-1.3": ("18103B0AD5", counter.scanner.wire.address)}
    async with counter:
        await counter.ready()
        await counter.scanner.do("cable", {"to": "pull"})
        bus.ports = {}
        await until(lambda: counter.state("scanner-1")["state"] == "offline", "the loss")
        await until(lambda: "plug it in" in (counter.state("scanner-1")["detail"].get("why") or ""), "the reason")
        bus.ports = {"1-1.4": ("NEW0000001", counter.scanner.wire.address)}
        await counter.scanner.do("cable", {"to": "plug"})
        await until(lambda: "correct the serial" in counter.state("scanner-1")["detail"]["why"], "a refusal to guess")
        bus.ports = {"1-1.3": ("NEW0000001", counter.scanner.wire.address)}
        await until(lambda: counter.state("scanner-1")["state"] == "ready", "the replacement")
        swapped = {
            "device": "scanner-1",
            "category": "scanner",
            "port": "1-1.3",
            "serial_before": "18103B0AD5",
            "serial_now": "NEW0000001",
        }
        assert await counter.until_facts("tillgate.device.swapped.v1", 1) == [swapped]

        await counter.stop()
        await counter.start()
        await counter.ready()
        assert await counter.until_facts("tillgate.device.swapped.v1", 1) == [swapped], "it was no news after a restart"

        await counter.stop()
        bus.ports = {"1-1.4": ("18103B0AD5", counter.scanner.wire.address)}
        await counter.start()
        await counter.ready()
        facts = await counter.until_facts("tillgate.device.swapped.v1", 2)
        assert facts[1] == {**swapped, "port": "1-1.4", "serial_before": "NEW0000001", "serial_now": "18103B0AD5"}
