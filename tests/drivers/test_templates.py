"""The templates are what a newcomer copies: they parse whole, byte by byte and with rubbish around, as they stand."""

from __future__ import annotations

import pytest

from drivers.displays._template import TemplateDisplay, TemplateDisplayOptions
from drivers.events import Noise, PrinterStatus, Scan, Weight
from drivers.printers._template import TemplateStatus
from drivers.printers.base import PrinterProtocol
from drivers.protocol import DeviceProtocol
from drivers.scales._template import TemplateScale
from drivers.scales.base import ScaleProtocol
from drivers.scanners._template import TemplateScanner


@pytest.mark.parametrize(
    ("protocol", "frame", "kind"),
    [
        (TemplateScanner(), b"\x024006381333931\x03", Scan),
        (TemplateScale(), b" 0.482 kg\r\n", Weight),
        (TemplateStatus(), b"\x23\x86\x08\x00\x00\x00", PrinterStatus),
    ],
)
def test_a_template_parses(protocol: DeviceProtocol, frame: bytes, kind: type) -> None:
    assert [type(event) for event in protocol.receive(frame)] == [kind]
    events = [event for byte in frame for event in protocol.receive(bytes((byte,)))]
    assert [type(event) for event in events] == [kind]
    protocol.receive(frame[:-2])
    assert protocol.pending
    assert [type(event) for event in protocol.idle()] == [Noise]
    assert not protocol.pending


def test_the_scale_template_fits_its_driver() -> None:
    scale: ScaleProtocol = TemplateScale()
    assert scale.weigh() == b"W\r"
    assert scale.tare() is None
    assert scale.tare_value("0.100", "kg") is None


def test_the_printer_template_fits_its_driver() -> None:
    printer: PrinterProtocol = TemplateStatus()
    assert (printer.status.online, printer.status.paper) == (None, "unknown")
    assert printer.asking()
    assert printer.expecting
    noise, status = printer.receive(b"xyz\x23\x86\x20\x00\x00\x00")
    assert isinstance(noise, Noise)
    assert noise.raw == b"xyz"
    assert status == printer.status
    assert (printer.status.reason, printer.expecting) == ("cover_open", False)
    printer.asking()
    printer.stop_expecting()
    assert not printer.expecting
    assert printer.port(0x18) == []
    printer.cut_off()
    assert printer.status.cover_open is None
    named = {name for name, member in vars(PrinterProtocol).items() if callable(member) or isinstance(member, property)}
    assert {name for name in named if not name.startswith("_")} <= set(dir(printer))


def test_the_display_template_paints_every_cell() -> None:
    display = TemplateDisplay(TemplateDisplayOptions())
    picture = display.picture(["Bananas", ("Total", "1.20")], fresh=True)
    assert picture.lines == ("Bananas", "Total           1.20")
    assert picture.data == b"\x0c\x1f\x00" + b"Bananas".ljust(20) + b"\x1f\x14Total           1.20"
