r"""Kern: the remote control commands of its bench scales, in small letters or in capitals.

Documents: Kern KDE-T operating instructions (KDE-T-BA_IA-e-1210), 9.3.4 "rE Cr" (page 36), and FKB (FKB_A-BA-e-1513),
page 37: small letters; Kern KFB/KFN-TM (KFB/KFN-TM-BA_IA-e-1323), 10.3 and 10.4 (page 49), and SFB (SFB-BA-e-1324),
page 51: capitals. Line: 9600 8N1. Commands are single letters; no CR, no LF.

    form "kde"    w    M S n10 blank u3 CR LF      at rest: M or blank, minus or blank, number to the right, unit
                       blank M n11 blank u3 CR LF  the same as FKB draws it, with the minus among the eleven
                       ... without u3 CR LF        moving
                       ... Error CR LF             over, under or a fault: it does not say which
                  t    (no answer) tare
    form "kfb"    W    ST,GS 1.000KG CR LF         ST at rest, US moving; GS gross, NT net
                  T    (no answer) tare            Z   (no answer) zero

Whether a weight of form "kde" is net is not said. Kern scales that are set to KCP take the commands of `mt-sics`. The
strategy: `Frames` to LF, judged whole.
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

_NUMBER = rb"(-? *\d{1,8}(?:\.\d{1,5})?)"
_KDE_UNIT = rb"(?: (kg |g  |lb |oz )| *)\r\n"
_KDE = re.compile(rb"[M ]([ -][ \d.]{10})" + _KDE_UNIT)
_FKB = re.compile(rb" [M ]([ -][- \d.]{10})" + _KDE_UNIT)
_KDE_ERROR = re.compile(rb" *Error *\r\n")
_KFB = re.compile(rb"(ST|US),(GS|NT),? *" + _NUMBER + rb" *(kg|g|lb|oz) *\r\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class KernOptions:
    """`form`: "kde" for scales with commands in small letters, "kfb" for those with capitals."""

    form: Literal["kde", "kfb"] = "kde"


class Kern(ScaleProtocol):
    """What the scale answers in; `Weight`, `ScaleStatus` and `Noise` out."""

    acknowledges = "not"

    def __init__(self, options: KernOptions | None = None) -> None:
        super().__init__(Frames(end=b"\n", limit_bytes=FRAME_LIMIT_BYTES))
        self._small = (options or KernOptions()).form == "kde"

    def weigh(self) -> bytes:
        """Ask for the weight, at rest or not."""
        return b"w" if self._small else b"W"

    def zero(self) -> bytes | None:
        """Ask to be zeroed; the scales with small letters have no such command."""
        return None if self._small else b"Z"

    def tare(self) -> bytes:
        """Ask to take what lies on the plate as tare."""
        return b"t" if self._small else b"T"

    def _judge(self, raw: bytes) -> Sequence[Event]:
        return [self._small_answer(raw) if self._small else self._capital_answer(raw)]

    def _small_answer(self, raw: bytes) -> Event:
        if _KDE_ERROR.fullmatch(raw):
            return ScaleStatus(raw, fault="no_weight")
        match = _KDE.fullmatch(raw) or _FKB.fullmatch(raw)
        value = plain_decimal(match[1].decode("ascii")) if match and not match[1].endswith(b" ") else None
        if match is None or value is None:
            return Noise(raw, "neither a weight nor an error")
        if match[2] is None:
            return ScaleStatus(raw, motion=True)
        return Weight(value, UNITS[match[2].decode("ascii").strip()], stable=True, net=None, tare=None, raw=raw)

    def _capital_answer(self, raw: bytes) -> Event:
        match = _KFB.fullmatch(raw)
        value = plain_decimal(match[3].decode("ascii")) if match else None
        if match is None or value is None:
            return Noise(raw, "no weight")
        state, kind, unit = (match[group].decode("ascii").lower() for group in (1, 2, 4))
        return Weight(value, UNITS[unit], stable=state == "st", net=kind == "nt", tare=None, raw=raw)
