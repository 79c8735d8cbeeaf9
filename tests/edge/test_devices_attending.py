"""What a technician asks of devices that are not a plain printer, scanner or scale: behind others, beeping, showing."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from drivers import catalog
from drivers.printers import escpos
from drivers.printers.document import from_json
from drivers.printers.profiles import PROFILES
from drivers.virtual.magellan import VirtualMagellan
from drivers.virtual.wire import PtyWire
from drivers.virtual.zpl_printer import VirtualZplPrinter
from edge.bus.messages.replies import Code, ProblemError
from edge.config import Device
from edge.devices.attached import Attached
from edge.devices.attending import Attending, slip
from edge.services.requests import Asked
from tests.edge.devices_rig import Counter, until


class Lane3(Counter):
    """Besides: a Magellan with its scale, a label printer, and a display behind printer-1."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, printer={"display": "cd5220"})
        self.magellan = VirtualMagellan("scanner-3", PtyWire(directory / "ttymagellan"))
        self.labels = VirtualZplPrinter("labels-3", PtyWire(directory / "ttylabels"), directory)
        self.twins += [self.magellan, self.labels]

    def devices(self) -> list[Device]:
        link = {"kind": "serial", "path": self.magellan.wire.address}
        behind = {"printer": "printer-1", "commands": "cd5220"}
        return [
            *super().devices(),
            Device(id="scanner-3", protocol="magellan", lanes=("lane-1",), transport=link),
            Device(id="scale-3", protocol="magellan-scale", lanes=("lane-1",), options={"scanner": "scanner-3"}),
            Device(
                id="labels-3",
                protocol="zpl-printer",
                lanes=("lane-1",),
                transport={"kind": "serial", "path": self.labels.wire.address},
            ),
            Device(id="display-3", protocol="printer-display", lanes=("lane-1",), options=behind),
        ]

    async def attend(self, what: str, device: str, deadline_s: float = 15.0, **more: Any) -> dict[str, Any]:
        parts = (self.weighing, self.printing, self.drawers, self.displays)
        handlers = {name: handler for part in parts for name, handler in part.operations().items()}
        service = Attending(self.registry, handlers).services()[what]
        parameters = service.parameters.model_validate({"device": device, **more})
        until_s = asyncio.get_running_loop().time() + deadline_s
        return await service.handler(Asked("technician", f"t-{next(self._ids)}", until_s), parameters)


async def test_each_shows_itself_as_it_can(tmp_path: Path) -> None:
    async with Lane3(tmp_path) as counter:
        await counter.ready()
        assert (await counter.attend("device.identify", "scanner-3"))["showed"] == "it beeps"
        await until(lambda: counter.magellan.beeps == 1, "the beep")
        await counter.attend("device.identify", "display-3")
        screen = counter.printer.screen
        assert screen is not None
        await until(lambda: [line.strip() for line in screen.lines()] == ["I am", "display-3"], "its name on it")
        for name, hint in (("scanner-1", "scan with it"), ("scale-3", "press on it"), ("drawer-1", "test")):
            with pytest.raises(ProblemError, match=hint) as problem:
                await counter.attend("device.identify", name)
            assert problem.value.code is Code.NOT_READY
        await counter.magellan.do("cable", {"to": "pull"})
        await until(lambda: counter.state("scanner-3")["state"] == "offline", "the loss")
        with pytest.raises(ProblemError) as problem:
            await counter.attend("device.identify", "scanner-3")
        assert problem.value.code is Code.DEVICE_LOST


@pytest.mark.parametrize("model", [name for name, profile in PROFILES.items() if profile.language == "escpos"])
def test_a_test_page_fits_every_printer_whatever_its_name(model: str) -> None:
    driver = catalog.build_driver(
        "escpos-printer",
        catalog.read_device("escpos-printer", {"model": model}),
        catalog.build_transport(catalog.read_transport("escpos-printer", "tcp", {"host": "127.0.0.1"})),
        lambda _: None,
    )
    page = slip(Attached("a" * 64, "printer", ("lane-1",), driver=driver), ["A line"])
    document = from_json([element.model_dump(mode="json") for element in page.document or ()])
    assert escpos.encode(document, PROFILES[model]).data


async def test_a_label_printer_prints_a_label(tmp_path: Path) -> None:
    async with Lane3(tmp_path) as counter:
        await counter.ready()
        assert (await counter.attend("device.test", "labels-3"))["state"] == "sent"
        await counter.attend("device.identify", "labels-3")
        await until(lambda: len(counter.labels.labels) == 2, "both labels")
        assert all("^FDlabels-3^FS" in label for label in counter.labels.labels)


async def test_a_scale_in_a_scanner_is_tried_and_recorded_with_its_line(tmp_path: Path) -> None:
    async with Lane3(tmp_path) as counter:
        await counter.ready()
        counter.magellan.load("1.250")
        tried = await counter.attend("device.test", "scale-3")
        assert (tried["tried"], tried["value"], tried["unit"]) == ("scale.weigh", "1.250", "kg")
        shown = await counter.attend("device.test", "display-3")
        assert shown["tried"] == "display.show"
        recording = asyncio.create_task(counter.attend("device.record", "scale-3", for_ms=60_000))
        carrier = next(one for one in counter.registry.all() if one.id == "scanner-3").driver
        assert carrier is not None
        await until(lambda: carrier.tap is not None, "the recording")
        with pytest.raises(ProblemError, match="being recorded already"):
            await counter.attend("device.record", "scanner-3", for_ms=1)
        counter.magellan.scan("4006381333931")
        await counter.attend("device.test", "scale-3")
        assert carrier.tap is not None
        carrier.tap(bytes(200_000))  # more than a reply can carry ends it
        heard = await recording
        data = b"".join(base64.b64decode(piece) for piece in heard["pieces"])
        assert (heard["ended"], heard["asked"], heard["hid"]) == ("full", [], None)
        assert b"S08F4006381333931\r" in data
        assert b"S14401250\r" in data
