r"""NAME OF THE PROTOCOL: one line on which scanners speak it.

Document: title, revision, pages. Line: 9600 8N1.

Draw the frame here, field by field:

    STX  [ ] c m ]  data ...  ETX

State the strategy: how a frame is found, what ends it, what happens to rubbish. `Frames` cuts the stream, `Label` takes
off the AIM identifier and refuses damage; what became no `Scan` is `Noise` with a code that the till shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from drivers.events import Event, Noise
from drivers.framing import Frames
from drivers.scanners.label import FRAME_LIMIT_BYTES, Label

STX, ETX = b"\x02", b"\x03"


@dataclass(frozen=True, slots=True)
class TemplateOptions:
    """What a technician may set; every field has a default that fits most devices."""


class TemplateScanner:
    """Bytes in, `Scan` and `Noise` out."""

    def __init__(self, options: TemplateOptions | None = None) -> None:
        self.idle_ms: int | None = 1000  # silence that cuts a frame off; None where frames never end so
        self._options = options or TemplateOptions()
        self._frames = Frames(start=STX, end=ETX, limit_bytes=FRAME_LIMIT_BYTES)
        self._label = Label()

    @property
    def pending(self) -> bool:
        """True while a frame is begun and not ended."""
        return self._frames.pending

    def receive(self, data: bytes) -> Sequence[Event]:
        """Take a chunk, split anywhere; return one event per frame that it ended, and rubbish as Noise."""
        return [frame if isinstance(frame, Noise) else self._judge(frame) for frame in self._frames.push(data)]

    def idle(self) -> Sequence[Event]:
        """Silence within a frame: its end will never come."""
        return self.cut_off()

    def cut_off(self) -> Sequence[Event]:
        """Forget a frame begun; it is reported, never delivered short."""
        return [replace(rest, code="cut_off") for rest in self._frames.give_up()]

    def _judge(self, raw: bytes) -> Event:
        try:
            text = raw[1:-1].decode("utf-8")
        except UnicodeDecodeError:
            return Noise(raw, "not UTF-8", "not_text")
        return self._label.read(text, raw)
