r"""Digi DS-425: a scale that sends its weight and its tare by itself.

Document: Digi, DS-425 service manual V1.04, chapter 4 "RS-232C Protocol" (page 16). Line: 2400 to 19200 baud, 8N1.

    s CR [0] n7 CR [4] t7 CR LF

    s    00 stable, 01 not: there when SPEC02 bit 1 is set on the scale, and it must be, or nobody knows
    0 4  header codes: there when SPEC02 bit 0 is set
    n7   net weight, seven characters: digits, minus, point or comma
    t7   tare, the same

Nothing tells the unit, so it is configured. The manual prints no form for an overload: a field without digits is no
weight. The strategy: `Frames` to LF, each form by its length.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from drivers.events import Event, Noise, ScaleStatus, Unit, Weight
from drivers.framing import Frames
from drivers.scales.base import ScaleProtocol, plain_decimal

FRAME_LIMIT_BYTES = 32

_FIELD = rb"([-0-9., ]{7})"
_FORMS = tuple(
    re.compile(rb"(?:([\x00\x01])\r)?" + net + rb"\r" + tare + rb"\r\n")
    for net, tare in ((_FIELD, _FIELD), (rb"0" + _FIELD, rb"4" + _FIELD))
)


@dataclass(frozen=True, slots=True)
class DigiDs425Options:
    """`unit` is what the scale is set to: it does not say."""

    unit: Literal["kg", "g", "lb", "oz"]


class DigiDs425(ScaleProtocol):
    """What the scale sends in; `Weight`, `ScaleStatus` and `Noise` out."""

    def __init__(self, options: DigiDs425Options) -> None:
        super().__init__(Frames(end=b"\n", limit_bytes=FRAME_LIMIT_BYTES))
        self._unit: Unit = options.unit

    def _judge(self, raw: bytes) -> Sequence[Event]:
        match = _FORMS[0].fullmatch(raw) or _FORMS[1].fullmatch(raw)
        if match is None:
            return [Noise(raw, "neither a weight nor a tare")]
        if match[1] is None:
            return [Noise(raw, "it does not say whether it is stable; set bit 1 of SPEC02 on the scale")]
        moving = match[1] == b"\x01"
        net, tare = (field.decode("ascii").replace(",", ".") for field in match.groups()[1:])
        if not net.strip("- "):
            return [ScaleStatus(raw, motion=moving, fault="no_weight")]
        value, taken = plain_decimal(net), plain_decimal(tare)
        if value is None or taken is None or taken.startswith("-"):
            return [Noise(raw, "no decimal")]
        tared = taken.strip("0.") != ""
        return [Weight(value, self._unit, stable=not moving, net=tared, tare=taken if tared else None, raw=raw)]
