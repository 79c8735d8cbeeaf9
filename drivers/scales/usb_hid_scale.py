r"""USB HID scales: they report what lies on them by themselves, several times a second, six bytes at a time.

Document: USB-IF "HID Point of Sale Usage Tables" 1.02, usage page 0x8D (weighing devices), section 4.

    data report     id   status   unit   scaling   weight
                    03     04      0B      FF      34 19       stable, ounces, 10^-1, 0x1934 = 6452: 645.2 oz

    status 1 fault  2 stable at the centre of zero  3 in motion  4 stable  5 under zero  6 over the limit
           7 requires calibration  8 requires re-zeroing
    unit   1 mg  2 g  3 kg  4 carat  5 tael  6 grain  7 pennyweight  8 metric ton  9 avoirdupois ton
           10 troy ounce  11 ounce  12 pound
    scaling: a signed power of ten.  weight: without a sign, little endian; below zero it says nothing

    control report  id   bit 0 enforced zero return   bit 1 zero scale                    (an output report)

The strategy: the places are found in the report descriptor by usage; without one they are those above (report 3 or 4).
Only units that a till sells by are taken. The scale is listened to; it is zeroed only where its descriptor has a
control report with "zero scale".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivers.errors import WrongDevice
from drivers.events import Event, Noise, ScaleStatus, Unit, Weight
from drivers.framing import Frames
from drivers.hid import Field, HidDevice
from drivers.scales.base import ScaleProtocol

SCALE = 0x8D_0020
_WEIGHT, _SCALING = 0x8D_0040, 0x8D_0041
_UNITS = range(0x8D_0051, 0x8D_005D)
_STATUSES = range(0x8D_0071, 0x8D_0079)
_ZERO_SCALE = 0x8D_0080
_TAKEN: dict[int, Unit] = {0x8D_0052: "g", 0x8D_0053: "kg", 0x8D_005B: "oz", 0x8D_005C: "lb"}
_REFUSED = {
    0x8D_0051: "milligrams",
    0x8D_0054: "carats",
    0x8D_0055: "taels",
    0x8D_0056: "grains",
    0x8D_0057: "pennyweights",
    0x8D_0058: "metric tons",
    0x8D_0059: "avoirdupois tons",
    0x8D_005A: "troy ounces",
}
_FAULT, _AT_ZERO, _MOTION, _STABLE, _UNDER, _OVER, _CALIBRATE, _REZERO = _STATUSES
_SCALING_LIMIT = 9
_REPORT_LIMIT_BYTES = 64


@dataclass(frozen=True, slots=True)
class UsbHidScaleOptions:
    """Nothing is to be set: the scale says all by itself."""


@dataclass(frozen=True, slots=True)
class _Places:
    """Where things stand in a data report; `size_bytes` is its length, its id included."""

    report_ids: frozenset[int]
    size_bytes: int
    status: Field
    unit: Field
    scaling: Field
    weight: Field


def _usual() -> _Places:
    return _Places(
        report_ids=frozenset((3, 4)),
        size_bytes=6,
        status=Field("input", 3, _STATUSES, 8, 8, minimum=1, array=True),
        unit=Field("input", 3, _UNITS, 16, 8, minimum=1, array=True),
        scaling=Field("input", 3, (_SCALING,), 24, 8, minimum=-127),
        weight=Field("input", 3, (_WEIGHT,), 32, 16),
    )


class UsbHidScale(ScaleProtocol):
    """Whole reports in; `Weight`, `ScaleStatus` and `Noise` out."""

    acknowledges = "not"
    answer_ms = 1000
    repeats = True

    def __init__(self, options: UsbHidScaleOptions | None = None) -> None:
        super().__init__(Frames(end=b"\0"))  # reports are whole: nothing is ever collected
        self.idle_ms = None
        self._places = _usual()
        self._zero: bytes | None = None

    def describe(self, device: HidDevice) -> Sequence[bytes]:
        """Learn the places in its reports; it wants no feature report. Raises WrongDevice when it is no scale."""
        reports = device.reports
        if SCALE not in reports.applications:
            raise WrongDevice(f"is {device}, where a USB HID scale is configured; correct the path")
        status, unit = reports.find("input", _STABLE), reports.find("input", 0x8D_0052)
        scaling, weight = reports.find("input", _SCALING), reports.find("input", _WEIGHT)
        if status is not None and unit is not None and scaling is not None and weight is not None:
            report_id = weight.report_id
            if {status.report_id, unit.report_id, scaling.report_id} != {report_id}:
                raise WrongDevice(f"is {device}, which reports weight and unit apart; tell its model to support")
            ids = frozenset((report_id,)) if reports.numbered else frozenset[int]()
            self._places = _Places(ids, reports.sizes["input", report_id], status, unit, scaling, weight)
        else:
            self._places = _usual()
        zero = reports.find("output", _ZERO_SCALE)
        self._zero = reports.written(zero, 1) if zero is not None else None
        return ()

    def zero(self) -> bytes | None:
        """The control report with "zero scale"."""
        return self._zero

    @property
    def pending(self) -> bool:
        """Never: reports come whole."""
        return False

    def receive(self, data: bytes) -> Sequence[Event]:
        """Take one whole report."""
        return [self._meaning(data)] if data else []

    def _meaning(self, raw: bytes) -> Event:
        places = self._places
        if len(raw) > _REPORT_LIMIT_BYTES:
            return Noise(raw[:_REPORT_LIMIT_BYTES], "longer than any report of a scale")
        if len(raw) < places.size_bytes or (places.report_ids and raw[0] not in places.report_ids):
            return Noise(raw, "not a data report of a scale")
        match places.status.usage(raw):
            case 0x8D_0071:
                return ScaleStatus(raw, fault="device_fault")
            case 0x8D_0075:
                return ScaleStatus(raw, under_zero=True)
            case 0x8D_0076:
                return ScaleStatus(raw, over=True)
            case 0x8D_0077:
                return ScaleStatus(raw, fault="needs_calibration")
            case 0x8D_0078:
                return ScaleStatus(raw, fault="needs_zero")
            case 0x8D_0072 | 0x8D_0074:
                return self._weight(raw, stable=True)
            case 0x8D_0073:
                return self._weight(raw, stable=False)
        return Noise(raw, "an unknown status of a scale")

    def _weight(self, raw: bytes, *, stable: bool) -> Event:
        places = self._places
        usage = places.unit.usage(raw)
        unit = _TAKEN.get(usage or 0)
        if unit is None:
            reason = f"a weight in {_REFUSED[usage]}, by which no till sells" if usage in _REFUSED else "no unit"
            return Noise(raw, reason)
        weight, scaling = places.weight.number(raw), places.scaling.number(raw)
        if weight is None or scaling is None or abs(scaling) > _SCALING_LIMIT:
            return Noise(raw, f"a weight scaled by 10^{scaling}")
        return Weight(_resolved(weight, scaling), unit, stable=stable, net=None, tare=None, raw=raw)


def _resolved(weight: int, scaling: int) -> str:
    """`weight` times ten to the power of `scaling`, with exactly the digits that the scale resolved."""
    if scaling >= 0:
        return str(weight * 10**scaling)
    digits = str(weight).rjust(1 - scaling, "0")
    return f"{digits[:scaling]}.{digits[scaling:]}"
