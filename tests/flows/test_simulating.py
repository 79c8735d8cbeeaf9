"""`tillgate devices simulate`: every kind of device can be simulated where the configuration looks for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from drivers.catalog import DEVICES, build_drawer, build_driver, build_transport, read_device, read_transport
from drivers.driver import Driver
from drivers.events import DrawerStatus, Scan
from drivers.virtual.by_hand import ACTIONS, explained, read_line
from drivers.virtual.twin import Twin
from drivers.virtual.twins import TWINS
from edge.commands.simulating import CannotBeThere, placed, transport_to
from edge.config import Device, StoreConfig, load
from tests.drivers.rig import PATIENCE_S, Heard, running, until

NEEDED = {"toledo-8213": 'unit = "kg"', "digi-ds-425": 'unit = "kg"', "cas-10": 'unit = "kg"'}
PLACES = {
    "serial": 'kind = "serial", path = "{0}/tty"',
    "event-socket": 'kind = "event-socket", path = "{0}/events"',
    "report-socket": 'kind = "report-socket", path = "{0}/reports"',
}


def store(folder: Path, devices: str) -> StoreConfig:
    file = folder / "store.toml"
    file.write_text(f'state_dir = "state"\n[store]\nid = "S1"\n[[lanes]]\nid = "1"\n{devices}')
    return load(file)


def table(kind: str, transport: str, options: str = "", name: str = "it") -> str:
    return (
        f'[[devices]]\nid = "{name}"\nprotocol = "{kind}"\nlanes = ["1"]\n'
        + (f"transport = {{ {transport} }}\n" if transport else "")
        + f"options = {{ {options} }}\n"
    )


def configured(folder: Path, kind: str, options: str = "") -> tuple[StoreConfig, Device]:
    place = next(place for name, place in PLACES.items() if name in DEVICES[kind].transports)
    config = store(folder, table(kind, place.format(folder), options or NEEDED.get(kind, "")))
    return config, config.devices[0]


@asynccontextmanager
async def opened(device: Device, link: dict[str, Any], heard: Heard) -> AsyncIterator[Any]:
    """The driver that a gateway with this configuration would run."""
    kind = link.pop("kind")

    def build(on_open: Callable[[], None]) -> Driver:
        transport = build_transport(read_transport(device.protocol, kind, link))
        return build_driver(device.protocol, read_device(device.protocol, device.options), transport, heard, on_open)

    async with running(build) as run:
        yield run.driver


@pytest.mark.parametrize("kind", TWINS)
async def test_every_kind_is_found_where_the_configuration_looks(kind: str, tmp_path: Path) -> None:
    config, device = configured(tmp_path, kind)
    heard = Heard()
    async with placed(config, device) as twin, opened(device, dict(device.transport or {}), heard) as driver:
        assert transport_to(twin) == device.transport
        match DEVICES[kind].category:
            case "scanner":
                await twin.do("scan", {"text": "4006381333931", "aim": "E0"})
                (scan,) = await heard.of(Scan)
                assert scan.text == "4006381333931"
            case "scale":
                await weighs(twin, driver)
            case "printer":
                assert (await driver.ask(PATIENCE_S)).reason is None
            case "drawer":
                await driver.kick(build_drawer(read_device(kind, device.options)))
                await until(lambda: twin.state()["kicks"] == 1)
            case "display":
                await driver.show(driver.display.picture(["Guten Tag", "1.29"], fresh=True).data)
                await until(lambda: "Guten Tag" in str(twin.state()["lines"]))
        if "load" in twin.actions and DEVICES[kind].category == "scanner":
            await weighs(twin, driver.scale)


async def weighs(twin: Twin, scale: Any) -> None:
    await twin.do("load", {"value": "1.48"})
    assert Decimal((await scale.weigh(PATIENCE_S)).value) == Decimal("1.48")


async def test_on_a_port_of_this_machine(tmp_path: Path, free_port: Callable[[], int]) -> None:
    config = store(tmp_path, table("escpos-printer", f'kind = "tcp", host = "127.0.0.1", port = {free_port()}'))
    device = config.devices[0]
    async with placed(config, device) as twin, opened(device, dict(device.transport or {}), Heard()) as driver:
        assert transport_to(twin) == device.transport
        assert (await driver.ask(PATIENCE_S)).online


@pytest.mark.parametrize("kind", TWINS)
async def test_every_example_of_the_help_works(kind: str, tmp_path: Path) -> None:
    config, device = configured(tmp_path, kind)
    async with placed(config, device, paper=tmp_path) as twin:
        for action in twin.actions:
            example, what = ACTIONS[action]
            assert f"{example} " in explained(twin)
            assert what
            name, values = read_line(example)
            assert name == action
            await twin.do(name, values)


async def test_a_printer_is_the_configured_one(tmp_path: Path) -> None:
    """A model that does not prove printing has a twin that does not, with what hangs on it."""
    for model, outcome in (("generic-80", "sent"), ("TM-T88V", "printed")):
        folder = tmp_path / model
        folder.mkdir()
        config = store(
            folder,
            table("escpos-printer", PLACES["serial"].format(folder), f'model = "{model}"', "p")
            + table("printer-drawer", "", 'printer = "p", pin = 5, open_when = "low"', "d")
            + table("printer-display", "", 'printer = "p", commands = "cd5220"', "s"),
        )
        device, drawer = config.devices[0], config.devices[1]
        async with placed(config, device) as twin, opened(device, dict(device.transport or {}), Heard()) as driver:
            assert await driver.send(b"hello\n\x1dV\x42\x00", b"1234", PATIENCE_S) == outcome
            await driver.ask(PATIENCE_S)
            assert driver.drawer_status.pin3_high is True, "closed"
            await driver.kick(build_drawer(read_device("printer-drawer", drawer.options)))
            await until(lambda: twin.state()["open_pins"] == [5])
            assert "screen" in twin.actions
            with pytest.raises(CannotBeThere, match="hangs on p: simulate that"):
                async with placed(config, drawer):
                    pass


async def test_a_drawer_box_tells_what_the_configured_one_tells(tmp_path: Path) -> None:
    config, device = configured(tmp_path, "serial-drawer", 'opens = "1b70", status = "nul-while-open"')
    heard = Heard()
    async with placed(config, device) as twin, opened(device, dict(device.transport or {}), heard) as driver:
        await driver.kick(build_drawer(read_device("serial-drawer", device.options)))
        await heard.of(DrawerStatus)
        assert twin.state()["drawer_open"]


async def test_what_the_device_is_set_to_its_twin_is(tmp_path: Path) -> None:
    for kind, options, expected in (
        ("serial-scanner", 'suffix = "crlf", prefix = "#"', b"#]E04006381333931\r\n"),
        ("hid-pos-scanner", 'vendor = "other"', None),
        ("keyboard-scanner", 'layout = "de", suffix = "tab"', None),
        ("magellan", 'form = "stx", unit = "lb"', b"\x0208F4006381333931\x03"),
    ):
        config, device = configured(tmp_path, kind, options)
        heard = Heard()
        async with placed(config, device) as twin, opened(device, dict(device.transport or {}), heard):
            await twin.do("scan", {"text": "4006381333931", "aim": "E0"})
            (scan,) = await heard.of(Scan)
            assert expected in (None, scan.raw)


async def test_where_only_a_kernel_can_be_the_gateway_is_told_what_to_look_for(tmp_path: Path) -> None:
    config = store(
        tmp_path,
        table("escpos-printer", 'kind = "usb"', "", "on-usb")
        + table("keyboard-scanner", 'kind = "evdev", path = "/dev/input/event3"', "", "keys")
        + table("usb-hid-scale", 'kind = "hidraw", usb = { vendor = "0922", product = "8003" }', "", "plate")
        + table("toledo-8217", 'kind = "serial", usb = { vendor = "0403", product = "6001" }', "", "scale")
        + table("escpos-printer", 'kind = "tcp", host = "192.0.2.21"', "", "far")
        + table("keyboard-scanner", 'kind = "evdev", path = "/dev/x"', 'layout = "tr"', "odd"),
    )
    devices = {device.id: device for device in config.devices}
    for name in ("on-usb", "keys", "plate", "scale", "far"):
        with pytest.raises(CannotBeThere, match="--at"):
            async with placed(config, devices[name]):
                pass
    for name, kind in (("on-usb", "serial"), ("keys", "event-socket"), ("plate", "report-socket"), ("scale", "serial")):
        at = tmp_path / name
        async with placed(config, devices[name], str(at)) as twin:
            assert transport_to(twin) == {"kind": kind, "path": str(at)}
            load_again = {**devices[name].model_dump(), "transport": transport_to(twin)}
            assert Device.model_validate(load_again)
    async with placed(config, devices["far"], "tcp:0") as twin:
        assert transport_to(twin)["port"]
    for name, at, why in (("keys", "tcp:0", "--at PATH"), ("odd", str(tmp_path / "odd"), "layout is 'tr'")):
        with pytest.raises(CannotBeThere, match=why):
            async with placed(config, devices[name], at):
                pass
