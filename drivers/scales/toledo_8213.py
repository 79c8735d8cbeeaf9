r"""Toledo 8213, and its relative SASI: the older checkout scale, asked with single letters.

Documents: PSC Magellan 8500 service manual (Mettler Toledo DIVA, 72191202, 05/2012), section 6.1.4 "8213 Mettler
Toledo" (page 43: 7E1, 1200 to 19200 baud, at least 200 ms between two commands); Salter Brecknell 3700LP user's manual,
page 11 "Model 8213 Protocol" (the frames). SASI as NCR 7895 and others speak it on their auxiliary port: design page
"Devices".

    W     STX 0WW.WW CR     the weight with two decimals; with three   STX WW.WWW CR   or   STX 0WW.WWW CR
          STX 0WWWWW CR     grams: no point
          STX ? s CR        no weight: in motion, negative or over capacity
    Z     STX ? s CR        zero, if stable and in range (8213 only)

    s of 8213: the status byte of 8217 (7 parity | 6 always 1 | 5 net | 4 centre of zero | 3 outside zero capture
               | 2 under zero | 1 over capacity | 0 in motion)
    s of SASI: A in motion, B out of range, C under zero, D outside the zero range

Nothing in the frame tells the unit, so it is configured. The letters of SASI would mean other things as bits (C: in
motion and over), so the form is configured too. The strategy: as in `toledo_8217`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from drivers.events import Event, Noise, ScaleStatus, Unit, Weight
from drivers.framing import Frames, without_parity
from drivers.scales import toledo_8217
from drivers.scales.base import ScaleProtocol

STX, CR = b"\x02", b"\x0d"
FRAME_LIMIT_BYTES = 12

_WEIGHT = re.compile(rb"(0\d\d\.\d\d|0?\d\d\.\d{3}|0\d{5})(N?)")


@dataclass(frozen=True, slots=True)
class Toledo8213Options:
    """`unit` is what the scale is set to: it does not say. `form` is "sasi" where the status is a letter."""

    unit: Literal["kg", "g", "lb", "oz"]
    form: Literal["8213", "sasi"] = "8213"


class Toledo8213(ScaleProtocol):
    """What the scale answers in; `Weight`, `ScaleStatus` and `Noise` out."""

    def __init__(self, options: Toledo8213Options) -> None:
        super().__init__(Frames(start=STX, end=CR, limit_bytes=FRAME_LIMIT_BYTES, seven_bits=True))
        self._unit: Unit = options.unit
        self._sasi = options.form == "sasi"

    def weigh(self) -> bytes:
        """Ask for the weight."""
        return b"W"

    def zero(self) -> bytes | None:
        """Ask to be zeroed; SASI has no such command."""
        return None if self._sasi else b"Z"

    def _judge(self, raw: bytes) -> Sequence[Event]:
        bare = without_parity(raw, "even" if raw[0] & 0x80 else "none")
        if bare is None:
            return [Noise(raw, "wrong parity")]
        body = bare[1:-1]
        if len(body) == 2 and body[0] == ord("?"):
            if not self._sasi:
                return [toledo_8217.status(raw, body[1])]
            status = _SASI.get(body[1:])
            return [Noise(raw, "no letter of a status") if status is None else ScaleStatus(raw, **status)]
        match = _WEIGHT.fullmatch(body)
        if match is None:
            return [Noise(raw, "neither a weight nor a status")]
        whole, point, fraction = match[1].decode("ascii").partition(".")
        if (point == "") != (self._unit == "g"):
            return [Noise(raw, f"not written as a weight in {self._unit} is")]
        return [Weight(f"{int(whole)}{point}{fraction}", self._unit, True, bool(match[2]), None, raw)]


_SASI: Mapping[bytes, dict[str, Any]] = {
    b"A": {"motion": True},
    b"B": {"over": True},
    b"C": {"under_zero": True},
    b"D": {"outside_zero_capture": True},
}
