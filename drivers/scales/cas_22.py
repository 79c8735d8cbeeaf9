r"""CAS 22-byte stream: what CAS indicators and many scales after them send, all the time.

Documents: CAS CI-150A manual, appendix 1 (page 55); CI-400 (page 104); CI-600D, 10-1 (page 75); PDS, 11 (page 31) and
NT-200, 14 (page 49). Line: 9600 8N1. Nothing is asked; the scale must be set to send continuously.

    hh,gg,il,WWWWWWWW uu CR LF        (no blank before CR LF: 22 bytes)

    hh   ST at rest | US moving | OL overload (and underload, on some: the sign tells)
    gg   GS gross | NT net
    i    device id, from "1" (31h) on          l    lamps: 7 always 1 | 6 at rest | 5 differs | 4 hold
    W    eight characters with sign and point       | 3 printer | 2 gross | 1 tare | 0 zero
    u u  kg, g, lb or t; a single letter with a blank

A weight on hold (bit 4) is not what lies on the plate now; it is never stable. Tonnes are refused. The strategy:
`Frames` to CR LF, judged whole; the first frame after opening is usually cut off and so Noise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from drivers.events import Event, Noise, ScaleStatus, Unit, Weight
from drivers.framing import Frames
from drivers.scales.base import ScaleProtocol, plain_decimal

FRAME_LIMIT_BYTES = 22

_FRAME = re.compile(rb"(ST|US|OL),(GS|NT),.(.),([ 0-9.+-]{7}[0-9]) ([A-Za-z ]{2})\r\n", re.DOTALL)
_UNITS: Mapping[str, Unit] = {"kg": "kg", "g": "g", "lb": "lb"}
_HOLD = 0x10


@dataclass(frozen=True, slots=True)
class Cas22Options:
    """`unit` refuses weights of another unit, should the scale be switched over; None takes all."""

    unit: Literal["kg", "g", "lb"] | None = None


class Cas22(ScaleProtocol):
    """What the scale sends in; `Weight`, `ScaleStatus` and `Noise` out."""

    def __init__(self, options: Cas22Options | None = None) -> None:
        super().__init__(Frames(end=b"\r\n", limit_bytes=FRAME_LIMIT_BYTES))
        self._unit = (options or Cas22Options()).unit

    def _judge(self, raw: bytes) -> Sequence[Event]:
        match = _FRAME.fullmatch(raw)
        if match is None:
            return [Noise(raw, "not a frame of 22 bytes")]
        head, net, digits, letters = match[1], match[2] == b"NT", match[4].decode("ascii"), match[5].decode("ascii")
        if head == b"OL":
            under = digits.lstrip().startswith("-")
            return [ScaleStatus(raw, over=not under, under_zero=under, net=net)]
        unit, value = _UNITS.get(letters.strip().lower()), plain_decimal(digits)
        if unit is None or value is None:
            return [Noise(raw, f"not a weight: {digits!r} in {letters!r}")]
        if self._unit not in (None, unit):
            return [Noise(raw, f"a weight in {unit}, where {self._unit} is configured")]
        stable = head == b"ST" and not match[3][0] & _HOLD
        return [Weight(value, unit, stable=stable, net=net, tare=None, raw=raw)]
