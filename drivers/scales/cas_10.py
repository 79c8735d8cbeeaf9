r"""CAS 10-byte stream: the weight and nothing else, all the time.

Documents: CAS CI-150A manual, appendix 1 (page 55); CI-600D, 10-2 (page 75); PDI, 8-2-2 (page 36). Line: 9600 8N1.

    WWWWWWWW CR LF        eight characters with point and, when negative, sign ("000013.5")

Neither unit nor rest nor overload is said: `unit` must be as the scale is set, and a weight counts when it comes twice
in succession. Where the 22-byte form can be set, set that. The strategy: `Frames` to CR LF, judged whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from drivers.events import Event, Noise, Weight
from drivers.framing import Frames
from drivers.scales.base import ScaleProtocol, plain_decimal

FRAME_LIMIT_BYTES = 10

_FRAME = re.compile(rb"([ 0-9.+-]{7}[0-9])\r\n")


@dataclass(frozen=True, slots=True)
class Cas10Options:
    """`unit` is what the scale weighs in; it does not say so itself."""

    unit: Literal["kg", "g", "lb"]


class Cas10(ScaleProtocol):
    """What the scale sends in; `Weight` and `Noise` out."""

    tells_motion = False

    def __init__(self, options: Cas10Options) -> None:
        super().__init__(Frames(end=b"\r\n", limit_bytes=FRAME_LIMIT_BYTES))
        self._unit = options.unit

    def _judge(self, raw: bytes) -> Sequence[Event]:
        match = _FRAME.fullmatch(raw)
        value = plain_decimal(match[1].decode("ascii")) if match else None
        if value is None:
            return [Noise(raw, "not eight characters of weight")]
        return [Weight(value, self._unit, stable=False, net=None, tare=None, raw=raw)]
