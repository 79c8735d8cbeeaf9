r"""ICL: the scale side of ICL cash registers, spoken by CAS (types 0 and 1), Mettler Toledo, Ohaus and others.

Documents: Mettler Toledo DIVA service manual, 72191202, 05/2012, 6.1.5 (page 48) and 6.1.11 "ICL" (page 61); Ohaus
Aviator 7000 service manual, V13, 6.1.2 (page 38); Citizen CBM-730 manual, "ICL protocol" (page 17), which
draws who says what. Line: 9600 7E1 (2400 and 4800, 8 bits and other parity can be set).

    ENQ       ACK     ready to send                   NUL     no valid weight
                                                      CAN     the weight has changed: weigh again
                                                      NAK     not understood
    DC1       STX id W5..W1 BCC ETX                   NAK     not understood
    the same block back
              ACK     it is what the scale sent       NAK     it is not
    CR        (the end)

    id   0-2 capacity: 1 = 15 kg x 0.005, 2 = 30 lb x 0.01, 3 = 6 kg x 0.002 | 3 always 1 | 4 out of range
         | 5 always 1 | 6 capacity that is not AVR | 7 always 0
    W    five digits without a point (WW.WWW kg, WWW.WW lb); NUL where the first or the last digit is not needed
    BCC  XOR of id and W

The DIVA manual gives CR the meaning "received and compared correctly": a scale that says it itself is understood, too.
Out of range is both over and under; W is zeros then. Nothing is said of a tare. The strategy: `Frames` from STX to ETX,
and the answers of one byte between them; with the capacities above no BCC is STX or ETX. The weight is held until the
scale confirms it. A NUL that nobody asked for is noise: lines make them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import xor
from typing import Literal

from drivers.events import Event, Handshake, Noise, ScaleStatus, Unit, Weight
from drivers.framing import Frames
from drivers.scales.base import ScaleProtocol

NUL, STX, ETX, ENQ, ACK = b"\x00", b"\x02", b"\x03", b"\x05", b"\x06"
CR, DC1, NAK, CAN = b"\x0d", b"\x11", b"\x15", b"\x18"
BLOCK_BYTES = 9

_CAPACITIES: dict[int, tuple[Unit, int]] = {1: ("kg", 3), 2: ("lb", 2), 3: ("kg", 3)}
"""Unit and decimals, by bits 0 to 2 of the information byte."""


@dataclass(frozen=True, slots=True)
class IclOptions:
    """`unit` refuses weights of the other unit, should the scale be switched over; None takes both."""

    unit: Literal["kg", "lb"] | None = None


class Icl(ScaleProtocol):
    """What the scale answers in; `Weight`, `ScaleStatus`, `Handshake` and `Noise` out."""

    answer_ms = 1000

    def __init__(self, options: IclOptions | None = None) -> None:
        alone = NUL + ACK + CR + NAK + CAN
        super().__init__(Frames(start=STX, end=ETX, alone=alone, limit_bytes=BLOCK_BYTES))
        self.idle_ms = 600
        self._unit = (options or IclOptions()).unit
        self._asked = False
        self._held: Event | None = None
        self._block = b""

    def weigh(self) -> bytes:
        """Ask whether the scale has a weight."""
        self._asked = True
        self._held = None
        return ENQ

    @property
    def pending(self) -> bool:
        """True while a frame is being collected, or a weight waits to be confirmed."""
        return super().pending or self._held is not None

    def idle(self) -> Sequence[Event]:
        """Silence: the frame has no end, or the scale does not confirm its weight."""
        return [*self._unconfirmed("not confirmed by the scale"), *super().idle()]

    def cut_off(self) -> Sequence[Event]:
        """The link ended or begins anew: forget all."""
        self._asked = False
        return [*self._unconfirmed("cut off before it was confirmed"), *super().cut_off()]

    def _judge(self, raw: bytes) -> Sequence[Event]:
        asked, self._asked = self._asked, False
        if raw in (ACK, CR) and self._held is not None:
            return self._confirmed(raw)
        if raw == ACK:
            return [Handshake(DC1)]
        if raw == NAK and self._held is not None:
            return self._unconfirmed("not what the scale sent, it says")
        if raw == NAK:
            return [ScaleStatus(raw, fault="busy")]
        if raw == CAN:
            return [*self._unconfirmed("taken back by the scale"), ScaleStatus(raw, motion=True)]
        if raw == NUL and asked:
            return [ScaleStatus(raw, fault="no_weight")]
        if len(raw) == 1:
            self._asked = asked
            return [Noise(raw, "an answer that belongs to nothing")]
        return [*self._unconfirmed("not confirmed by the scale"), *self._take(raw)]

    def _take(self, raw: bytes) -> Sequence[Event]:
        if len(raw) != BLOCK_BYTES:
            return [Noise(raw, "not a block of weight data")]
        if reduce(xor, raw[1:7]) != raw[7]:
            return [Noise(raw, "wrong block check character")]
        event = self._weight(raw, raw[1], raw[2:7])
        if isinstance(event, Noise):
            return [event]
        self._held, self._block = event, raw
        return [Handshake(raw)]

    def _weight(self, raw: bytes, info: int, field: bytes) -> Event:
        if info & 0xA8 != 0x28:
            return Noise(raw, "an information byte without bits 3 and 5")
        if info & 0x10:
            return ScaleStatus(raw, fault="out_of_range")
        if info & 0x07 not in _CAPACITIES:
            return Noise(raw, f"a capacity that the document does not name ({info & 0x07})")
        unit, decimals = _CAPACITIES[info & 0x07]
        digits = field.strip(NUL)
        decimals -= len(field) - len(field.rstrip(NUL))
        if not digits.isdigit() or len(digits) <= decimals or decimals < 0:
            return Noise(raw, "not five digits")
        if self._unit not in (None, unit):
            return Noise(raw, f"a weight in {unit}, where {self._unit} is configured")
        text = digits.decode("ascii")
        whole, fraction = text[: len(text) - decimals], text[len(text) - decimals :]
        value = f"{int(whole)}.{fraction}" if fraction else str(int(whole))
        return Weight(value, unit, stable=True, net=None, tare=None, raw=raw)

    def _confirmed(self, raw: bytes) -> Sequence[Event]:
        held, self._held = self._held, None
        assert held is not None
        return [held, Handshake(CR)] if raw == ACK else [held]

    def _unconfirmed(self, reason: str) -> list[Event]:
        held, self._held = self._held, None
        return [] if held is None else [Noise(self._block, reason)]
