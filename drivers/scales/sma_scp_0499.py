r"""SMA SCP-0499: the serial protocol of the Scale Manufacturers Association, levels 1 and 2.

Document: SMA, "Standard Scale Serial Communication Protocol", SCP-0499, first edition, April 1999, with Mod 1 of
November 2005; its messages as printed in Sartorius PR 5210, operating manual, chapters 5.3 and 5.4 (pages 35 and 37),
and Fairbanks FB2550, 51254 rev. 3, appendix III (page 180). Line: settable.

    LF W CR               the weight as it is, at rest or not
    LF Z CR               zero
    LF T CR               tare                    LF Txxxxxx.xxx CR   a known tare, ten characters
    LF C CR               clear the tare
    anything else         LF ? CR

All of these are answered by   LF s r n m f xxxxxx.xxx uuu CR

    s       Z centre of zero | O over | U under | E zero error | I initial zero error | T tare error | blank none
    r       range, from 1
    n       G gross | N net | T the tare | g, n gross and net in high resolution (the last three: only when asked for)
    m       M in motion | blank
    f       for the maker
    weight  ten characters, to the right, with point and minus; dashes when s is E, I or T
    uuu     lb, kg, g, oz, ... to the left

The strategy: `Frames` from LF to CR; every field is at its place or the frame means nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drivers.errors import BadOption
from drivers.events import Event, Noise, ScaleFault, ScaleStatus, Unit, Weight
from drivers.framing import Frames
from drivers.scales.base import UNITS, ScaleProtocol, plain_decimal, tare_decimal

LF, CR = b"\n", b"\r"
FRAME_LIMIT_BYTES = 32
TARE_CHARACTERS = 10

_ANSWER = re.compile(rb"\n([ZOUEIT ])([1-9])([GNTgn])([M ])([\x20-\x7e])([-0-9. ]{10})([a-z ]{3})\r")
_FAULTS: Mapping[str, ScaleFault] = {"E": "needs_zero", "I": "needs_zero", "T": "refused"}


@dataclass(frozen=True, slots=True)
class SmaScp0499Options:
    """Nothing to set: the protocol tells all."""


class SmaScp0499(ScaleProtocol):
    """What the scale answers in; `Weight`, `ScaleStatus` and `Noise` out."""

    acknowledges = "weight"

    def __init__(self, options: SmaScp0499Options | None = None) -> None:
        super().__init__(Frames(start=LF, end=CR, limit_bytes=FRAME_LIMIT_BYTES))

    def weigh(self) -> bytes:
        """Ask for the weight as it is now."""
        return b"\nW\r"

    def zero(self) -> bytes:
        """Ask to be zeroed."""
        return b"\nZ\r"

    def tare(self) -> bytes:
        """Ask to take what lies on the plate as tare."""
        return b"\nT\r"

    def tare_value(self, value: str, unit: Unit) -> bytes:
        """Set a known tare, as written, in the unit that the scale weighs in."""
        tare_decimal(value)
        if len(value) > TARE_CHARACTERS:
            raise BadOption("tare", f"is {value!r}; expected no more than {TARE_CHARACTERS} characters")
        return b"\nT" + value.rjust(TARE_CHARACTERS).encode("ascii") + b"\r"

    def clear_tare(self) -> bytes:
        """Clear the tare."""
        return b"\nC\r"

    def _judge(self, raw: bytes) -> Sequence[Event]:
        if raw == b"\n?\r":
            return [ScaleStatus(raw, fault="refused")]
        match = _ANSWER.fullmatch(raw)
        if match is None:
            return [Noise(raw, "neither a weight nor a status")]
        status, _, kind, motion, _, digits, unit = (field.decode("ascii") for field in match.groups())
        moving, net = motion == "M", kind == "N"
        if status in _FAULTS:
            return [ScaleStatus(raw, motion=moving, net=net, fault=_FAULTS[status])]
        if status in "OU":
            return [ScaleStatus(raw, motion=moving, net=net, over=status == "O", under_zero=status == "U")]
        if kind not in "GN":
            return [Noise(raw, "a tare or a high resolution that nobody asked for")]
        value, found = plain_decimal(digits), UNITS.get(unit.strip())
        if value is None or digits.endswith(" "):
            return [Noise(raw, "no weight where it should stand")]
        if found is None:
            return [Noise(raw, f"a weight in {unit.strip() or 'no unit'}; set the scale to kg, g, lb or oz")]
        return [Weight(value, found, stable=not moving, net=net, tare=None, raw=raw)]
