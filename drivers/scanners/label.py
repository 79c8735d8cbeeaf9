"""What stands between the start of a scan and its end, whichever way it came: [prefix] [AIM identifier] data.

`]cm` is the AIM symbology identifier of ISO/IEC 15424. GS (0x1D) separates GS1 elements and may stand in the data;
any other control character there is a sign of damage, never part of a code that a store sells by.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from drivers.events import Noise, Scan

Aim = Literal["auto", "always", "never"]

FRAME_LIMIT_BYTES = 8192
"""More than the largest code there is (a QR code of 7,089 digits)."""

_CONTROL = re.compile(r"[\x00-\x1c\x1e\x1f\x7f]")
_AIM = re.compile(r"\]([A-Za-z][0-9A-Za-z])")


@dataclass(frozen=True, slots=True)
class Label:
    """How a scanner was programmed. `prefix` is taken off; `aim`: does it send AIM identifiers."""

    prefix: str = ""
    aim: Aim = "auto"

    def read(self, text: str, raw: bytes) -> Scan | Noise:
        """Judge a whole frame without its end; `raw` is the frame as it came."""
        if not text.startswith(self.prefix):
            return Noise(raw, "the configured prefix is missing", "prefix_missing")
        text = text[len(self.prefix) :]  # which may be a control character: STX
        if _CONTROL.search(text):
            return Noise(raw, "control characters in a code", "control_characters")
        aim = None
        if self.aim != "never" and (match := _AIM.match(text)):
            aim, text = match[1], text[3:]
        elif self.aim == "always":
            return Noise(raw, "the AIM identifier is missing", "aim_missing")
        if not text:
            return Noise(raw, "an empty code", "empty")
        return Scan(text, raw, aim)
