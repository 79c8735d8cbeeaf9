r"""NCI / Weigh-Tronix SCP-01, in the standard form and the form for cash registers (ECR).

Documents: PSC Magellan 8500 service manual (Mettler Toledo DIVA, 72191202, 05/2012), 6.1.1 "NCI - ECR" (pages 34 to
37: frames, status bits); NCI 6702 user manual, page 14 (fills of the standard form); Avery Weigh-Tronix 7821, page 25;
B-TEK T419S service manual, page 66 (T). Line: 7 bits with parity, or 8N1; 1200 to 19200 baud.

    W CR      LF xxxx.xxuu CR LF hh.. CR ETX     standard: what the display shows, and the status
              LF xx.xxxUU CR LF Shh.. CR ETX     ECR: unit in capitals, S before the status
              LF Shh.. CR ETX                    ECR: no weight while moving, negative, over, under, zero error
    Z CR      LF hh.. CR ETX                     zero, if stable and in range
    T CR      LF hh.. CR ETX                     tare, on scales that have it
    other     LF ? CR ETX                        not understood

    x: digits, point, minus, blanks; or nothing but ^ (over capacity), _ (under capacity) or - (zero error)
    h1: 0 in motion | 1 at zero | 2 RAM error | 3 EEPROM error           | 4, 5 always 1 | 6 always 0     | 7 parity
    h2: 0 under     | 1 over    | 2 ROM error | 3 calibration faulty     | 4, 5 always 1 | 6 byte follows | 7 parity
    h3: 0-1 range               | 2 net       | 3 initial zero error     | 4, 5 always 1 | 6 byte follows | 7 parity
    h4 and on: nothing that we need

The strategy: `Frames` to ETX, judged whole. The chain of "byte follows" must come out even. Pounds with ounces in one
weight are refused: set the scale to one unit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from drivers.events import Event, Noise, ScaleFault, ScaleStatus, Weight
from drivers.framing import Frames, without_parity
from drivers.scales.base import UNITS, ScaleProtocol, plain_decimal

ETX = b"\x03"
FRAME_LIMIT_BYTES = 40

_ANSWER = re.compile(rb"(?:\n([^\n\r]*)\r)?\n(S?)([\x30-\x7f]{2,6})\r\x03")
_NOT_UNDERSTOOD = b"\n?\r\x03"
_SHOWN = re.compile(r"( *-? *\d{1,7}(?:\.\d{1,5})?) ?(kg|g|lb|oz) ?", re.IGNORECASE)
_FILLED = re.compile(r" ?(\^+|_+|-+|(?:- )+-?)(?:kg|g|lb|oz|lb:oz)? ?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class NciScp01Options:
    """`unit` refuses weights of another unit, should the scale be switched over; None takes all."""

    unit: Literal["kg", "g", "lb", "oz"] | None = None


class NciScp01(ScaleProtocol):
    """What the scale answers in; `Weight`, `ScaleStatus` and `Noise` out."""

    def __init__(self, options: NciScp01Options | None = None) -> None:
        super().__init__(Frames(end=ETX, limit_bytes=FRAME_LIMIT_BYTES, seven_bits=True))
        self._unit = (options or NciScp01Options()).unit

    def weigh(self) -> bytes:
        """Ask for the weight."""
        return b"W\r"

    def zero(self) -> bytes:
        """Ask to be zeroed."""
        return b"Z\r"

    def tare(self) -> bytes:
        """Ask to take what lies on the plate as tare; a scale without the command says that it is not understood."""
        return b"T\r"

    def _judge(self, raw: bytes) -> Sequence[Event]:
        bare = without_parity(raw, "even") or without_parity(raw, "odd")
        if bare is None:
            return [Noise(raw, "wrong parity")]
        if bare == _NOT_UNDERSTOOD:
            return [ScaleStatus(raw, fault="refused")]
        match = _ANSWER.fullmatch(bare)
        status = _status(match[3]) if match else None
        if match is None or status is None:
            return [Noise(raw, "neither a weight nor a status")]
        if match[1] is None:
            return [ScaleStatus(raw, **status)]
        return [self._weight(raw, match[1].decode("ascii"), status)]

    def _weight(self, raw: bytes, shown: str, status: dict[str, Any]) -> Event:
        if filled := _FILLED.fullmatch(shown):
            return ScaleStatus(raw, **{**status, **_FILLS[filled[1][0]]})
        match = _SHOWN.fullmatch(shown)
        value = plain_decimal(match[1]) if match else None
        if match is None or value is None:
            return Noise(raw, "no weight in one unit")
        unit = UNITS[match[2].lower()]
        if self._unit is not None and unit != self._unit:
            return Noise(raw, f"a weight in {unit}, where {self._unit} is configured")
        if status["fault"] or status["over"] or status["under_zero"]:
            return ScaleStatus(raw, **status)
        return Weight(value, unit, stable=not status["motion"], net=status["net"], tare=None, raw=raw)


_FILLS: Mapping[str, dict[str, Any]] = {
    "^": {"over": True},
    "_": {"under_zero": True},
    "-": {"fault": "needs_zero"},
}


def _status(given: bytes) -> dict[str, Any] | None:
    """The status bytes as fields of `ScaleStatus`; None when they are none."""
    follows = [bool(byte & 0x40) for byte in given]
    if any(byte & 0x30 != 0x30 for byte in given) or follows != [False] + [True] * (len(given) - 2) + [False]:
        return None
    first, second, third = given[0], given[1], given[2] if len(given) > 2 else 0
    fault: ScaleFault | None = None
    if third & 0x08:
        fault = "needs_zero"
    if second & 0x08:
        fault = "needs_calibration"
    if first & 0x0C or second & 0x04:
        fault = "device_fault"
    return {
        "motion": bool(first & 0x01),
        "centre_of_zero": bool(first & 0x02),
        "under_zero": bool(second & 0x01),
        "over": bool(second & 0x02),
        "net": bool(third & 0x04),
        "fault": fault,
    }
