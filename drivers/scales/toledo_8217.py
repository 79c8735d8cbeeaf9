r"""Toledo 8217: the scale of supermarket checkouts, asked with single letters.

Document: Mettler Toledo, host protocol "8217" as printed in the PSC Magellan 8500 service manual, section
6.1.3 "Command Descriptions" and 6.1.4.3 "Status Byte Format" (pages 39 and 45 of the scale's part). Line:
1200 to 19200 baud, 7E1. The host leaves at least 200 ms between two commands.

    W                 STX WW.WW CR    pounds, gross         STX WW.WWN CR    pounds, net
                      STX WW.WWW CR   kilograms, gross      STX WW.WWWN CR   kilograms, net
                      STX ? s CR      no weight: in motion, negative or over capacity
    Z                 STX ? s CR      zero, if stable, in range and no tare is taken
    T CR              STX ? s CR      tare what lies on the plate (about 150 ms later)
    T WWWWW CR        STX ? s CR      tare by value: WWW.WW lb or WW.WWW kg, five digits without the point
    C                 STX ? s CR      clear the tare

    s, the status byte:   7 parity | 6 always 1 | 5 net | 4 centre of zero | 3 outside zero capture range
                          | 2 under zero | 1 over capacity | 0 in motion

The number of decimals tells pounds from kilograms. A line opened as 8N1 shows the parity bit as bit 7, and
STX (one bit set) shows which it is: after 82 every byte must have even parity, after 02 none may have bit 7.
The strategy: `Frames` from STX to CR, judged whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from drivers.errors import BadOption
from drivers.events import Event, Noise, ScaleStatus, Unit, Weight
from drivers.framing import Frames, without_parity
from drivers.scales.base import ScaleProtocol, tare_digits

STX, CR = b"\x02", b"\x0d"
FRAME_LIMIT_BYTES = 16

_TARE_DECIMALS: Mapping[str, int] = {"kg": 3, "lb": 2}
_WEIGHT = re.compile(rb"(?:(\d\d)\.(\d{3})|(\d{2,3})\.(\d\d))(N?)")  # five digits, or four: a byte lost is no weight


@dataclass(frozen=True, slots=True)
class Toledo8217Options:
    """`unit` refuses weights of the other unit, should the scale be switched over; None takes both.

    Better set it: kilograms whose last digit got lost on the line look like pounds.
    """

    unit: Literal["kg", "lb"] | None = None


class Toledo8217(ScaleProtocol):
    """What the scale answers in; `Weight`, `ScaleStatus` and `Noise` out."""

    def __init__(self, options: Toledo8217Options | None = None) -> None:
        super().__init__(Frames(start=STX, end=CR, limit_bytes=FRAME_LIMIT_BYTES, seven_bits=True))
        self._unit = (options or Toledo8217Options()).unit

    def weigh(self) -> bytes:
        """Ask for the weight."""
        return b"W"

    def zero(self) -> bytes:
        """Ask to be zeroed."""
        return b"Z"

    def tare(self) -> bytes:
        """Ask to take what lies on the plate as tare."""
        return b"T\r"

    def tare_value(self, value: str, unit: Unit) -> bytes:
        """Set a known tare: five digits, with three decimals of a kilogram or two of a pound."""
        if unit not in _TARE_DECIMALS:
            raise BadOption("unit", f"is {unit!r}; expected one of {', '.join(_TARE_DECIMALS)}")
        return b"T" + tare_digits(value, 5, _TARE_DECIMALS[unit]) + b"\r"

    def clear_tare(self) -> bytes:
        """Clear the tare."""
        return b"C"

    def _judge(self, raw: bytes) -> Sequence[Event]:
        parity_shows = bool(raw[0] & 0x80)
        bare = without_parity(raw, "even" if parity_shows else "none")
        if bare is None:
            return [Noise(raw, "wrong parity")]
        body = bare[1:-1]
        if len(body) == 2 and body[0] == ord("?"):
            return [status(raw, body[1])]
        match = _WEIGHT.fullmatch(body)
        if match is None:
            return [Noise(raw, "neither a weight nor a status")]
        unit: Unit = "kg" if match[1] else "lb"
        whole, fraction = match.group(1, 2) if match[1] else match.group(3, 4)
        if self._unit is not None and unit != self._unit:
            return [Noise(raw, f"a weight in {unit}, where {self._unit} is configured")]
        value = f"{int(whole)}.{fraction.decode('ascii')}"
        return [Weight(value, unit, stable=True, net=bool(match[5]), tare=None, raw=raw)]


def status(raw: bytes, byte: int) -> Event:
    """What the status byte says; Noise when it is none."""
    if not byte & 0x40:
        return Noise(raw, "a status byte without bit 6")
    return ScaleStatus(
        raw,
        motion=bool(byte & 0x01),
        over=bool(byte & 0x02),
        under_zero=bool(byte & 0x04),
        outside_zero_capture=bool(byte & 0x08),
        centre_of_zero=bool(byte & 0x10),
        net=bool(byte & 0x20),
    )
