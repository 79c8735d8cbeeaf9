r"""Dibal: the maker's own protocol of checkout scales (G310, G-DPOS and their like).

Documents: SBZ Systems, "Dibal POS scale serial settings & communication protocol" (both frames in the clear); Dibal
DPOS400 test manual 49-TGDP4ES02, V1.08, 4.42 "Dibal Terminal protocol" (page 58), whose frames are one field longer:
names of the fields, XOR, NAK. Line: 9600 8N1.

    98 PPPPP C CR LF          99 S WWWWW E IIIIII C CR LF        (without the blanks)
                              NAK                                the price or the checksum was wrong

    P    unit price                   W    grams, or thousandths of a kilogram: 00316 is 0.316 kg
    S    0 a weight | 1 an error      E    0 an amount | 1 an error          I    amount
    C    XOR of all characters before it

The checksum: the SBZ text describes it otherwise, but its own frames (98000001, 9900031600000004) are the XOR that the
manual defines. What S = 1 means (moving, over, below zero) is not said, nor whether a weight with S = 0 is at rest; so
it counts when it comes twice in succession. The strategy: `Frames` to CR LF, judged whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import xor

from drivers.events import Event, Noise, ScaleStatus, Weight
from drivers.framing import Frames
from drivers.scales.base import ScaleProtocol

NAK, CRLF = b"\x15", b"\r\n"
FRAME_LIMIT_BYTES = 24

_ANSWER = re.compile(rb"99([01])(\d{2})(\d{3})([01])\d{6}(.)\r\n", re.DOTALL)


@dataclass(frozen=True, slots=True)
class DibalOptions:
    """`unit_price` is what the scale is told, five digits; it prices nothing for us."""

    unit_price: str = "00000"

    def __post_init__(self) -> None:
        """Refuse what does not fit the field."""
        if not re.fullmatch(r"[0-9]{5}", self.unit_price):
            raise ValueError(f"unit_price: is {self.unit_price!r}; expected five digits")


class Dibal(ScaleProtocol):
    """What the scale answers in; `Weight`, `ScaleStatus` and `Noise` out."""

    tells_motion = False

    def __init__(self, options: DibalOptions | None = None) -> None:
        super().__init__(Frames(end=CRLF, alone=NAK, limit_bytes=FRAME_LIMIT_BYTES))
        self._price = (options or DibalOptions()).unit_price.encode("ascii")

    def weigh(self) -> bytes:
        """Send a price; the weight comes back."""
        body = b"98" + self._price
        return body + bytes((reduce(xor, body),)) + CRLF

    def _judge(self, raw: bytes) -> Sequence[Event]:
        if raw == NAK:
            return [ScaleStatus(raw, fault="refused")]
        match = _ANSWER.fullmatch(raw)
        if match is None:
            return [Noise(raw, "not an answer with a weight")]
        if reduce(xor, raw[:15]) != raw[15]:
            return [Noise(raw, "wrong checksum")]
        if match[1] == b"1":
            return [ScaleStatus(raw, fault="no_weight")]
        value = f"{int(match[2])}.{match[3].decode('ascii')}"
        return [Weight(value, "kg", stable=False, net=None, tare=None, raw=raw)]
