"""The templates are what a newcomer copies: they parse whole, byte by byte and with rubbish around, as they stand."""

from __future__ import annotations

import pytest

from drivers.events import Noise, PrinterStatus, Scan, Weight
from drivers.printers._template import TemplateStatus
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
