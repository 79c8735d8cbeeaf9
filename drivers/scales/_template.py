r"""NAME OF THE PROTOCOL: one line on which scales speak it.

Document: title, revision, pages. Line: 9600 8N1. The host leaves at least 200 ms between two commands.

Draw request and reply here, field by field, with units and every status bit:

    W CR      ->   weight(6) space unit(2) CR LF

State the strategy: how a frame is found, what ends it, what happens to rubbish. `ScaleDriver` asks, waits and
repeats; this file only builds commands and reads answers. Only a weight that the scale calls stable has
`stable=True`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from drivers.events import Event, Noise, Weight

FRAME_LIMIT_BYTES = 64
_WEIGHT = re.compile(rb"\s*(\d+\.\d+) kg\r\n")


@dataclass(frozen=True, slots=True)
class TemplateOptions:
    """What a technician may set; every field has a default that fits most devices."""


class TemplateScale:
    """Answers in; `Weight`, `ScaleStatus` and `Noise` out."""

    command_gap_ms = 200

    def __init__(self, options: TemplateOptions | None = None) -> None:
        self.idle_ms: int | None = 300
        self._options = options or TemplateOptions()
        self._frame = bytearray()

    def weigh(self) -> bytes:
        """Ask for the weight."""
        return b"W\r"

    def zero(self) -> bytes:
        """Ask to be zeroed."""
        return b"Z\r"

    def tare(self) -> bytes:
        """Ask to take what lies on the plate as tare."""
        return b"T\r"

    def tare_value(self, digits: str) -> bytes:
        """Set a known tare; raises ValueError when it cannot be written so."""
        raise ValueError(f"this scale takes no tare by value ({digits!r}); tare what lies on the plate")

    def clear_tare(self) -> bytes:
        """Clear the tare."""
        return b"C\r"

    @property
    def pending(self) -> bool:
        """True while a frame is begun and not ended."""
        return bool(self._frame)

    def receive(self, data: bytes) -> Sequence[Event]:
        """Take a chunk, split anywhere; return one event per frame that it ended."""
        events: list[Event] = []
        for byte in data:
            self._frame.append(byte)
            if byte == 0x0A:
                raw = bytes(self._frame)
                self._frame.clear()
                events.append(self._judge(raw))
            elif len(self._frame) > FRAME_LIMIT_BYTES:
                events += self.cut_off()
        return events

    def idle(self) -> Sequence[Event]:
        """Silence within a frame: its end will never come."""
        return self.cut_off()

    def cut_off(self) -> Sequence[Event]:
        """Forget a frame begun; it is reported."""
        raw = bytes(self._frame)
        self._frame.clear()
        return [Noise(raw, "cut off")] if raw else []

    @staticmethod
    def _judge(raw: bytes) -> Event:
        match = _WEIGHT.fullmatch(raw)
        if match is None:
            return Noise(raw, "neither a weight nor a status")
        return Weight(match[1].decode("ascii"), "kg", stable=True, net=False, tare=None, raw=raw)
