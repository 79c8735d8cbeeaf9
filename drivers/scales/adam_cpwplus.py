r"""Adam Equipment CPWplus: bench and floor scales, asked or sending by themselves.

Document: Adam Equipment, CPWplus user manual (2008 and 2010), chapter 11.0 "RS-232 interface" (pages 13 and 14). Line:
settable; 9600 8N1. Commands end with CR LF.

    N      N + 1.00 kg CR LF     the net weight    (or N/W: + 1.00 kg, or + 1.00 kg, as the scale's version goes)
    Z      (no answer)           what its key [Tare/Zero] does: zero near zero, else tare
    sending by itself:           A S N G/W + 0.51 kg CR LF
                                 A address | S stable | N no error | G/W gross or N/W net

An answer to N does not say whether the scale is at rest, nor whether there is a tare; a line that it sends by itself
says both. The letters of an unstable or faulty one are not printed: whatever is not S is moving, not N is no weight.
The strategy: `Frames` to LF, judged whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from drivers.events import Event, Noise, ScaleStatus, Weight
from drivers.framing import Frames
from drivers.scales.base import UNITS, ScaleProtocol, plain_decimal

FRAME_LIMIT_BYTES = 40

_WEIGHT = rb" ?([+-] *\d{1,7}(?:\.\d{1,4})?) +(kg|g|lb|oz) *\r\n"
_ASKED = re.compile(rb"(?:N(?:/W:?)?)?" + _WEIGHT)
_BY_ITSELF = re.compile(rb"\d{0,3} ?([A-Z]) ?([A-Z]) ?([GN])/W" + _WEIGHT)


@dataclass(frozen=True, slots=True)
class AdamCpwplusOptions:
    """`output` is how the scale is set up: it waits to be asked, or sends "continuous"ly."""

    output: Literal["asked", "continuous"] = "asked"


class AdamCpwplus(ScaleProtocol):
    """What the scale sends in; `Weight`, `ScaleStatus` and `Noise` out."""

    acknowledges = "not"

    def __init__(self, options: AdamCpwplusOptions | None = None) -> None:
        super().__init__(Frames(end=b"\n", limit_bytes=FRAME_LIMIT_BYTES))
        self._asked = (options or AdamCpwplusOptions()).output == "asked"
        self.tells_motion = not self._asked

    def weigh(self) -> bytes:
        """Ask for the net weight, unless the scale sends it by itself."""
        return b"N\r\n" if self._asked else b""

    def zero(self) -> bytes:
        """Press its key [Tare/Zero]."""
        return b"Z\r\n"

    def tare(self) -> bytes:
        """Press its key [Tare/Zero]."""
        return b"Z\r\n"

    def _judge(self, raw: bytes) -> Sequence[Event]:
        if self._asked:
            match = _ASKED.fullmatch(raw)
            if match is None:
                return [Noise(raw, "no net weight")]
            return [_weight(raw, match[1], match[2], stable=False, net=None)]
        match = _BY_ITSELF.fullmatch(raw)
        if match is None:
            return [Noise(raw, "no weight")]
        stable, fault, net = match[1] == b"S", match[2] != b"N", match[3] == b"N"
        if fault:
            return [ScaleStatus(raw, motion=not stable, net=net, fault="no_weight")]
        return [_weight(raw, match[4], match[5], stable=stable, net=net)]


def _weight(raw: bytes, digits: bytes, unit: bytes, *, stable: bool, net: bool | None) -> Event:
    value = plain_decimal(digits.decode("ascii"))
    if value is None:
        return Noise(raw, "no decimal")
    return Weight(value, UNITS[unit.decode("ascii")], stable=stable, net=net, tare=None, raw=raw)
