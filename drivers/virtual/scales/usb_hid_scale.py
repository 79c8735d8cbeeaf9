"""A virtual USB HID scale: data reports as "HID Point of Sale Usage Tables" 1.02, section 4, says, five times a second.

03 status unit scaling weight(2, little endian)         status 2 zero, 3 moving, 4 stable, 5 under, 6 over
02 control: bit 1 zeroes the scale                      (an output report)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drivers.virtual.report_wire import ReportWire
from drivers.virtual.scales.base import VirtualScale
from drivers.virtual.twin import one_of

_EVERY_S = 0.2
_VENDOR, _PRODUCT = 0x0922, 0x8009
_DESCRIPTOR = bytes.fromhex(
    "05 8d 09 20 a1 01"  # scales, scale device, application
    "09 31 a1 02 85 02 75 01 95 02 15 00 25 01 09 81 09 80 91 02 75 06 95 01 91 03 c0"  # control: output report 2
    "09 32 a1 02 85 03 75 08 95 01 15 01"  # data: input report 3
    "09 70 a1 02 25 08 19 71 29 78 81 00 c0"  # status
    "09 50 a1 02 25 0c 19 51 29 5c 81 00 c0"  # unit
    "15 81 25 7f 09 41 81 02"  # scaling
    "75 10 15 00 27 ff ff 00 00 09 40 81 02 c0 c0"  # weight
)
_FAULTS = {"none": 0, "fault": 1, "calibrate": 7, "rezero": 8}
_UNITS = {"g": 2, "kg": 3, "oz": 11, "lb": 12}


class VirtualUsbHidScale(VirtualScale):
    """Options: unit, capacity. Actions besides: fault (to: none, fault, calibrate, rezero)."""

    def __init__(self, name: str, wire: ReportWire, *, unit: str = "kg", capacity: str = "15") -> None:
        super().__init__(name, wire, unit=unit, capacity=capacity)
        wire.introduce(_VENDOR, _PRODUCT, _DESCRIPTOR)
        self._fault = 0
        self.actions |= {"fault": self._set_fault}

    async def open(self) -> None:
        """Put the scale on its wire; it reports from then on."""
        await super().open()
        self.send_every(_EVERY_S)

    def received(self, data: bytes) -> None:
        """Take the control report."""
        if data[:2] == b"O\x02" and len(data) == 3 and data[2] & 0x02:
            self.plate.set_zero()

    def tick(self) -> None:
        """Send one data report."""
        plate = self.plate
        exponent = plate.resolution.as_tuple().exponent
        assert isinstance(exponent, int)
        weight = int(abs(plate.gross) / plate.resolution)
        if not plate.moving and not plate.over:
            self.weighings += 1
        head = bytes((3, self._status(), _UNITS[plate.unit], exponent & 0xFF))
        self.wire.send(head + min(weight, 0xFFFF).to_bytes(2, "little"))

    def _status(self) -> int:
        plate = self.plate
        if self._fault:
            return self._fault
        if plate.over:
            return 6
        if plate.under:
            return 5
        if plate.moving:
            return 3
        return 2 if plate.gross == 0 else 4

    async def _set_fault(self, arguments: Mapping[str, Any]) -> None:
        self._fault = _FAULTS[one_of(arguments, "to", tuple(_FAULTS))]
