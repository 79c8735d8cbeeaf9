r"""MT-SICS: Mettler Toledo's Standard Interface Command Set, levels 0 and 1.

Documents: S and its answers as printed in Mettler Toledo's operating instructions of the AL-IC balances (page 72) and
AT balances (page 87). The others (Z, T, TA, TAC, the errors, the greeting) as design page "Devices" and users of such
scales have them; Mettler Toledo's own "MT-SICS Interface Commands", 11780711, was not at hand. Line: settable; 9600 8N1
as delivered. Every command and every answer ends with CR LF.

    SI            S S      0.482 kg     at rest          S D      0.482 kg     moving
                  S +   over      S -   below the range      S I   busy with another command
    Z             Z A   done      Z +   Z -   out of the zero range      Z I   not now (moving, or busy)
    T             T S      0.125 kg   the tare it took       T +   T -   out of the tare range      T I   not now
    TA 0.125 kg   TA A     0.125 kg   the tare as set        TA I   not now     TA L   cannot be
    TAC           TAC A   cleared     TAC I   not now        TAC L   cannot be
    other         ES   no such command       ET   received with an error       EL   cannot be done

A weight stands to the right in ten characters, point and minus included. It is net as soon as a tare is taken, and does
not say so. The strategy: `Frames` to CR LF, every field at its place. `I4 A "..."`, which a balance says when it is
switched on, is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drivers.events import Event, Noise, ScaleStatus, Unit, Weight
from drivers.framing import Frames
from drivers.scales.base import UNITS, ScaleProtocol, plain_decimal, tare_decimal

FRAME_LIMIT_BYTES = 80

_WEIGHT = re.compile(rb"(S S|S D|T S|TA A) ([-0-9. ]{10}) (\S{1,5})\r\n")
_WORD = re.compile(rb"(S|Z|T|TA|TAC) ([A-Z+-])\r\n")
_ERRORS = (b"ES\r\n", b"EL\r\n")
_SWITCHED_ON = re.compile(rb'I4 A "[\x20-\x7e]*"\r\n')
_OUT_OF_RANGE: Mapping[str, dict[str, Any]] = {"+": {"over": True}, "-": {"under_zero": True}}


@dataclass(frozen=True, slots=True)
class MtSicsOptions:
    """Nothing to set: the protocol tells all."""


class MtSics(ScaleProtocol):
    """What the scale answers in; `Weight`, `ScaleStatus` and `Noise` out."""

    def __init__(self, options: MtSicsOptions | None = None) -> None:
        super().__init__(Frames(end=b"\r\n", limit_bytes=FRAME_LIMIT_BYTES))

    def weigh(self) -> bytes:
        """Ask for the weight as it is now."""
        return b"SI\r\n"

    def zero(self) -> bytes:
        """Ask to be zeroed, when at rest."""
        return b"Z\r\n"

    def tare(self) -> bytes:
        """Ask to take what lies on the plate as tare, when at rest."""
        return b"T\r\n"

    def tare_value(self, value: str, unit: Unit) -> bytes:
        """Set a known tare."""
        tare_decimal(value)
        return f"TA {value} {unit}\r\n".encode("ascii")

    def clear_tare(self) -> bytes:
        """Clear the tare."""
        return b"TAC\r\n"

    def _judge(self, raw: bytes) -> Sequence[Event]:
        if match := _WEIGHT.fullmatch(raw):
            return [_weight(raw, *(field.decode("ascii", "replace") for field in match.groups()))]
        if match := _WORD.fullmatch(raw):
            return [_status(raw, match[1].decode("ascii"), match[2].decode("ascii"))]
        if raw in _ERRORS:
            return [ScaleStatus(raw, fault="refused")]
        if raw == b"ET\r\n":
            return [Noise(raw, "the scale received a command with an error")]
        return [] if _SWITCHED_ON.fullmatch(raw) else [Noise(raw, "neither a weight nor a status")]


def _weight(raw: bytes, answer: str, digits: str, name: str) -> Event:
    value, unit = plain_decimal(digits), UNITS.get(name)
    if value is None or digits.endswith(" "):
        return Noise(raw, "no weight where it should stand")
    if unit is None:
        return Noise(raw, f"a weight in {name}; set the scale to kg, g, lb or oz")
    if answer[0] == "T":
        return ScaleStatus(raw, net=value.strip("0.") != "")
    return Weight(value, unit, stable=answer == "S S", net=None, tare=None, raw=raw)


def _status(raw: bytes, command: str, word: str) -> Event:
    if word == "A" and command in ("Z", "TAC"):
        return ScaleStatus(raw, centre_of_zero=command == "Z")
    if word in _OUT_OF_RANGE and command in ("S", "Z", "T"):
        return ScaleStatus(raw, **_OUT_OF_RANGE[word])
    if word == "I":
        return ScaleStatus(raw, fault="busy")
    if word == "L" and command in ("TA", "TAC"):
        return ScaleStatus(raw, fault="refused")
    return Noise(raw, "neither a weight nor a status")
