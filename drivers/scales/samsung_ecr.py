r"""Samsung ECR: the scale side of Samsung cash registers, spoken by CAS (type 6), AP-1, Ohaus, Dibal and others.

Documents: CAS PD-II manual, 3.1.6 "TYPE-6 INTERFACE, SAMSUNG ECR (ER-670)" (page 23); AP-1 protocol sheet (frame, BCC);
Ohaus Aviator 7000 service manual, V13, 6.1.1 (page 36: LRC, NAK). Line: 9600 8N1.

    ENQ       ACK     ready to send                   NAK     not ready: ask again
    DC1       SOH STX a s W5..W0 u u BCC ETX EOT      NAK     not understood

    a    S at rest | U moving
    s    blank: not negative | - negative | F overload
    W    six characters with a point, blanks in front ("00.482"); all F: overload; all blank: moving, none yet
    u u  kg, lb, or a blank with g, in capitals or not
    BCC  XOR of everything between STX and BCC

DC2 would bring prices too; we have no use for them. Whether a tare was taken off is not said. Dibal's DPOS400 sends
00.000 when overloaded (test manual, page 41), which nobody can tell from an empty plate: set it to another protocol.
The strategy: `Frames` from SOH to EOT, and ACK and NAK between them; a BCC of letters, digits and signs such as these
is never a control character. The ACK is answered by DC1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import xor
from typing import Literal

from drivers.events import Event, Handshake, Noise, ScaleStatus, Weight
from drivers.framing import Frames
from drivers.scales.base import UNITS, ScaleProtocol, plain_decimal

SOH, EOT, ENQ, ACK, DC1, NAK = b"\x01", b"\x04", b"\x05", b"\x06", b"\x11", b"\x15"
FRAME_LIMIT_BYTES = 24

_BLOCK = re.compile(rb"\x01\x02(([SU])([ \-F])([ 0-9.]{5}[0-9]|F{6}| {6})([A-Za-z ]{2}))(.)\x03\x04", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SamsungEcrOptions:
    """`unit` refuses weights of another unit, should the scale be switched over; None takes all."""

    unit: Literal["kg", "g", "lb", "oz"] | None = None


class SamsungEcr(ScaleProtocol):
    """What the scale answers in; `Weight`, `ScaleStatus`, `Handshake` and `Noise` out."""

    def __init__(self, options: SamsungEcrOptions | None = None) -> None:
        super().__init__(Frames(start=SOH, end=EOT, alone=ACK + NAK, limit_bytes=FRAME_LIMIT_BYTES))
        self._unit = (options or SamsungEcrOptions()).unit

    def weigh(self) -> bytes:
        """Ask whether the scale is ready to send the weight."""
        return ENQ

    def _judge(self, raw: bytes) -> Sequence[Event]:
        if raw == ACK:
            return [Handshake(DC1)]
        if raw == NAK:
            return [ScaleStatus(raw, fault="busy")]
        match = _BLOCK.fullmatch(raw)
        if match is None:
            return [Noise(raw, "not a block of weight data")]
        if reduce(xor, match[1]) != match[6][0]:
            return [Noise(raw, "wrong block check character")]
        return [self._weight(raw, *(part.decode("ascii") for part in match.group(2, 3, 4, 5)))]

    def _weight(self, raw: bytes, state: str, sign: str, digits: str, unit: str) -> Event:
        if sign == "F" or digits == "FFFFFF":
            return ScaleStatus(raw, motion=state == "U", over=True)
        if digits.isspace() and state == "U":
            return ScaleStatus(raw, motion=True)
        known, value = UNITS.get(unit.strip().lower()), plain_decimal(sign + digits)
        if known is None or value is None:
            return Noise(raw, f"not a weight: {digits!r} in {unit!r}")
        if self._unit not in (None, known):
            return Noise(raw, f"a weight in {known}, where {self._unit} is configured")
        return Weight(value, known, stable=state == "S", net=None, tare=None, raw=raw)
