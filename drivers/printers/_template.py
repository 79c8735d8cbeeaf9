r"""NAME OF THE PRINTER LANGUAGE: one line on which printers speak it.

An ESC/POS printer needs no file, only a row in `profiles.py`. Copy this one for another language (Star, ZPL).

Document: title, revision, pages. Draw what the printer sends back, byte by byte:

    23 86 s1 s2 s3 s4     status: length, version, s1 b3 offline b5 cover, ...

A language is two halves: this parser of what comes back, and a function from document elements to bytes (see
`escpos.encode`). What the printer has not said stays unknown: None or "unknown", never "ok".
"""

from __future__ import annotations

from collections.abc import Sequence

from drivers.events import Event, Noise, PrinterStatus

FRAME_BYTES = 6


class TemplateStatus:
    """Bytes of a printer in; `PrinterStatus`, `DrawerStatus`, `PrintProof` and `Noise` out."""

    def __init__(self) -> None:
        self.idle_ms: int | None = 500
        self._frame = bytearray()

    @property
    def pending(self) -> bool:
        """True while a frame is begun and not ended."""
        return bool(self._frame)

    def receive(self, data: bytes) -> Sequence[Event]:
        """Take a chunk, split anywhere; return one event per frame that it ended."""
        events: list[Event] = []
        for byte in data:
            if not self._frame and byte != 0x23:
                events.append(Noise(bytes((byte,)), "no status byte"))
                continue
            self._frame.append(byte)
            if len(self._frame) == FRAME_BYTES:
                raw = bytes(self._frame)
                self._frame.clear()
                events.append(self._judge(raw))
        return events

    def idle(self) -> Sequence[Event]:
        """Silence within a frame: its end will never come."""
        return self.cut_off()

    def cut_off(self) -> Sequence[Event]:
        """Forget everything: a printer that comes back may be in another state."""
        raw = bytes(self._frame)
        self._frame.clear()
        return [Noise(raw, "cut off")] if raw else []

    @staticmethod
    def _judge(raw: bytes) -> Event:
        online, cover_open = not raw[2] & 0x08, bool(raw[2] & 0x20)
        return PrinterStatus(online, cover_open, paper="unknown", error="unknown", raw=raw)
