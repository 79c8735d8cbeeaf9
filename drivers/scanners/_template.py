r"""NAME OF THE PROTOCOL: one line on which scanners speak it.

Document: title, revision, pages. Line: 9600 8N1.

Draw the frame here, field by field:

    STX  [ ]cm  data ...  ETX        ]cm: the AIM symbology identifier, where the scanner is set to send it

State the strategy: how a frame is found, what ends it, what happens to rubbish. `Frames` finds the frame, `Label`
judges what stands in it (prefix, AIM identifier, no control characters); what is its own goes into `_judge`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivers.events import Event, Noise
from drivers.framing import Frames
from drivers.scanners.label import FRAME_LIMIT_BYTES, Aim, Label

STX, ETX = b"\x02", b"\x03"


@dataclass(frozen=True, slots=True)
class TemplateOptions:
    """What a technician may set; every field has a default that fits most devices."""

    aim: Aim = "auto"


class TemplateScanner:
    """Bytes in, `Scan` and `Noise` out."""

    def __init__(self, options: TemplateOptions | None = None) -> None:
        self.idle_ms: int | None = 1000  # silence that cuts a frame off; None where frames never end so
        self._frames = Frames(start=STX, end=ETX, limit_bytes=FRAME_LIMIT_BYTES)
        self._label = Label(aim=(options or TemplateOptions()).aim)

    @property
    def pending(self) -> bool:
        """True while a frame, or rubbish between frames, is begun and not ended."""
        return self._frames.pending

    def receive(self, data: bytes) -> Sequence[Event]:
        """Take a chunk, split anywhere; return one event per frame that it ended."""
        return [one if isinstance(one, Noise) else self._judge(one) for one in self._frames.push(data)]

    def idle(self) -> Sequence[Event]:
        """Silence within a frame: its end will never come."""
        return self.cut_off()

    def cut_off(self) -> Sequence[Event]:
        """Forget a frame begun; it is reported, never delivered short."""
        return self._frames.give_up()

    def _judge(self, raw: bytes) -> Event:
        try:
            return self._label.read(raw[1:-1].decode("utf-8"), raw)
        except UnicodeDecodeError:
            return Noise(raw, "not UTF-8", "not_text")
