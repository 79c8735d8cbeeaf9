r"""NAME OF THE PROTOCOL: one line on which scales speak it.

Document: title, revision, pages. Line: 9600 8N1. The host leaves at least 200 ms between two commands.

Draw request and reply here, field by field, with units and every status bit:

    W CR      ->   weight(8, blanks in front) space unit(2) CR LF; nothing while it moves, over, under zero
    Z CR      zeroes

State the strategy: how a frame is found, what ends it, what happens to rubbish. `ScaleDriver` asks, waits and
repeats; this file only builds commands and reads answers. Only a weight that the scale calls stable has
`stable=True`. A protocol that must answer the scale before the weight comes returns a `Handshake` from `_judge`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from drivers.events import Event, Noise, Weight
from drivers.framing import Frames
from drivers.scales.base import ScaleProtocol, plain_decimal

FRAME_LIMIT_BYTES = 64
_WEIGHT = re.compile(r"([ 0-9.]{1,8}) kg\r\n")


@dataclass(frozen=True, slots=True)
class TemplateOptions:
    """What a technician may set; every field has a default that fits most devices."""


class TemplateScale(ScaleProtocol):
    """Answers in; `Weight`, `ScaleStatus` and `Noise` out. `ScaleProtocol` says what else may be set and answered."""

    acknowledges = "not"

    def __init__(self, options: TemplateOptions | None = None) -> None:
        super().__init__(Frames(end=b"\r\n", limit_bytes=FRAME_LIMIT_BYTES))
        self._options = options or TemplateOptions()

    def weigh(self) -> bytes:
        """Ask for the weight."""
        return b"W\r"

    def zero(self) -> bytes:
        """Ask to be zeroed."""
        return b"Z\r"

    def _judge(self, raw: bytes) -> Sequence[Event]:
        match = _WEIGHT.fullmatch(raw.decode("latin-1"))
        value = plain_decimal(match[1]) if match else None
        if value is None:
            return [Noise(raw, "neither a weight nor a status")]
        return [Weight(value, "kg", stable=True, net=False, tare=None, raw=raw)]
