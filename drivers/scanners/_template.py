r"""NAME OF THE PROTOCOL: one line on which scanners speak it.

Document: title, revision, pages. Line: 9600 8N1.

Draw the frame here, field by field:

    STX  data ...  ETX

State the strategy: how a frame is found, what ends it, what happens to rubbish. Then copy this file, rename
the class and fill in `receive`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivers.events import Event, Noise, Scan

STX, ETX = 0x02, 0x03
FRAME_LIMIT_BYTES = 8192


@dataclass(frozen=True, slots=True)
class TemplateOptions:
    """What a technician may set; every field has a default that fits most devices."""


class TemplateScanner:
    """Bytes in, `Scan` and `Noise` out."""

    def __init__(self, options: TemplateOptions | None = None) -> None:
        self.idle_ms: int | None = 1000  # silence that cuts a frame off; None where frames never end so
        self._options = options or TemplateOptions()
        self._frame = bytearray()

    @property
    def pending(self) -> bool:
        """True while a frame is begun and not ended."""
        return bool(self._frame)

    def receive(self, data: bytes) -> Sequence[Event]:
        """Take a chunk, split anywhere; return one event per frame that it ended."""
        events: list[Event] = []
        for byte in data:
            self._frame.append(byte)
            if byte == ETX:
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
        """Forget a frame begun; it is reported, never delivered short."""
        raw = bytes(self._frame)
        self._frame.clear()
        return [Noise(raw, "cut off")] if raw else []

    @staticmethod
    def _judge(raw: bytes) -> Event:
        if raw[0] != STX or not raw[1:-1].isascii() or len(raw) < 3:
            return Noise(raw, "not a frame")
        return Scan(raw[1:-1].decode("ascii"), raw)
