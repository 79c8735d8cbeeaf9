r"""Dini Argeo: the serial commands of its indicators and transmitters (DFW, DGT, LTP, 3590, ...).

Documents: Dini Argeo TECH_MAN_ENG_DGT4X, pages 52 and 54 (strings, commands); TECH_MAN_ENG_LTP, page 43 (extended
string); E-AF03 05.01, 5.4 (page 65: standard and AF string). Line: 9600 8N1. All lines end with CR LF.

    READ         [cc]ss,kk,wwwwwwww,uu                    standard: net or gross, as it is shown; eight characters
    REXT         [cc]1ss,nnnnnnnnnn,PTtttttttttt,pppppppppp,uu    extended: net, tare, pieces; ten characters each
                 [cc]ss,b,gggggggggguu,PTttttttttttuu     AF: gross and tare; refused while there is a tare
    ZERO, TARE   OK    understood, which does not mean that it was done
    TMANtttttt   OK    a known tare in the scale's unit; 0 clears it
    other        ERR01 to ERR04   (ERR03: busy)

    cc   the address, only on RS-485
    ss   ST stable | US unstable | OL overload | UL underload | TL not level
    kk   GS gross | NT net | VL, RZ: no weight
    PT   the tare is a known one; else blanks

The strategy: `Frames` to LF, every field at its place. `OK` is passed over; what was done shows in the next weight.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from drivers.errors import BadOption
from drivers.events import Event, Noise, ScaleStatus, Unit, Weight
from drivers.framing import Frames
from drivers.scales.base import UNITS, ScaleProtocol, plain_decimal, tare_decimal

FRAME_LIMIT_BYTES = 64
TARE_CHARACTERS = 6

_STATE = r"(?:\d\d)?{}(?P<state>ST|US|OL|UL|TL),"
_UNIT = r"(?P<unit>[a-zA-Z ]{2})"
_STANDARD = re.compile(_STATE.format("") + r"(?P<kind>GS|NT),(?P<value>[-0-9. ]{8})," + _UNIT)
_EXTENDED = re.compile(
    _STATE.format("1") + r"(?P<value>[-0-9. ]{10}),(?:PT|  )(?P<tare>[-0-9. ]{10}),[-0-9. ]{10}," + _UNIT
)
_AF = re.compile(
    _STATE.format("") + r"\d,(?P<value>[-0-9. ]{10})" + _UNIT + r",(?:PT|  )(?P<tare>[-0-9. ]{10})(?P=unit)"
)


@dataclass(frozen=True, slots=True)
class DiniArgeoOptions:
    """`form` is the string that is asked for: "extended" also tells the tare."""

    form: Literal["standard", "extended"] = "standard"


class DiniArgeo(ScaleProtocol):
    """What the scale answers in; `Weight`, `ScaleStatus` and `Noise` out."""

    acknowledges = "not"

    def __init__(self, options: DiniArgeoOptions | None = None) -> None:
        super().__init__(Frames(end=b"\n", limit_bytes=FRAME_LIMIT_BYTES))
        self._extended = (options or DiniArgeoOptions()).form == "extended"

    def weigh(self) -> bytes:
        """Ask for the weight as it is now."""
        return b"REXT\r\n" if self._extended else b"READ\r\n"

    def zero(self) -> bytes:
        """Ask to be zeroed."""
        return b"ZERO\r\n"

    def tare(self) -> bytes:
        """Ask to take what lies on the plate as tare."""
        return b"TARE\r\n"

    def tare_value(self, value: str, unit: Unit) -> bytes:
        """Set a known tare, in the unit that the scale weighs in."""
        tare_decimal(value)
        if len(value) > TARE_CHARACTERS:
            raise BadOption("tare", f"is {value!r}; expected no more than {TARE_CHARACTERS} characters")
        return b"TMAN" + value.rjust(TARE_CHARACTERS, "0").encode("ascii") + b"\r\n"

    def clear_tare(self) -> bytes:
        """Clear the tare."""
        return self.tare_value("0", "kg")  # nothing is nothing in every unit

    def _judge(self, raw: bytes) -> Sequence[Event]:
        if raw == b"OK\r\n":
            return []
        if re.fullmatch(rb"ERR0[1-4]\r\n", raw):
            return [ScaleStatus(raw, fault="busy" if raw[4:5] == b"3" else "refused")]
        text = raw.decode("latin-1")
        if not text.endswith("\r\n"):
            return [Noise(raw, "no line of the scale")]
        for form in (_STANDARD, _EXTENDED, _AF):
            if match := form.fullmatch(text[:-2]):
                return [_weight(raw, form is _AF, match)]
        return [Noise(raw, "neither a weight nor an answer")]


def _weight(raw: bytes, is_gross: bool, match: re.Match[str]) -> Event:
    fields = match.groupdict()
    state, tare = fields["state"], plain_decimal(fields.get("tare", "0"))
    tared = fields.get("kind") == "NT" or (tare or "").strip("0.") != ""
    if state in ("OL", "UL"):
        return ScaleStatus(raw, over=state == "OL", under_zero=state == "UL", net=tared)
    if state == "TL":
        return ScaleStatus(raw, net=tared, fault="no_weight")
    value, unit = plain_decimal(fields["value"]), UNITS.get(fields["unit"].strip().lower())
    if value is None or tare is None or fields["value"].endswith(" "):
        return Noise(raw, "no decimal")
    if unit is None:
        return Noise(raw, f"a weight in {fields['unit'].strip()}; set the scale to kg, g, lb or oz")
    if is_gross and tared:
        return Noise(raw, "a gross weight, where there is a tare; set the scale to its standard string")
    told = tare if tared and "tare" in fields else None
    return Weight(value, unit, stable=state == "ST", net=tared, tare=told, raw=raw)
