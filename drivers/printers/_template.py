r"""NAME OF THE PRINTER LANGUAGE: one line on which printers speak it.

An ESC/POS printer needs no file, only a row in `profiles.py`. Copy this one for another language (Star line mode).

Document: title, revision, pages. Draw question and reply here, byte by byte, with every status bit:

    1B 06 01  ->  23 86 s1 s2 s3 s4     status: length, version, s1 b3 offline b5 cover, ...

State the strategy: how a reply is found, what ends it, what happens to rubbish. A language is three parts: this parser
of what comes back (`base.PrinterProtocol`), a driver that knows what a job wants before and after it (`zpl_driver` is
the shortest), and a function from document elements to bytes (`escpos.encode`) unless its jobs come ready-made. What
the printer has not said stays unknown: None or "unknown", never "ok".
"""

from __future__ import annotations

from collections.abc import Sequence

from drivers.events import Event, Noise, PrinterStatus

ASK = b"\x1b\x06\x01"
FRAME_BYTES = 6
RUBBISH_LIMIT_BYTES = 256
_BEGIN = 0x23
_UNKNOWN = PrinterStatus(online=None, cover_open=None, paper="unknown", error="unknown", raw=b"")


class TemplateStatus:
    """Bytes of a printer in; `PrinterStatus`, `DrawerStatus`, `PrintProof` and `Noise` out."""

    def __init__(self) -> None:
        self.idle_ms: int | None = 500
        self._frame = bytearray()
        self._rubbish = bytearray()
        self._status = _UNKNOWN
        self._expecting = False

    @property
    def pending(self) -> bool:
        """True while a frame, or rubbish between frames, is being collected."""
        return bool(self._frame or self._rubbish)

    @property
    def expecting(self) -> bool:
        """True while the reply to a question has not come."""
        return self._expecting

    @property
    def status(self) -> PrinterStatus:
        """All that is known now; unknown after every opening."""
        return self._status

    def asking(self) -> bytes:
        """Ask how it is; the reply is expected from now on."""
        self._expecting = True
        return ASK

    def stop_expecting(self) -> None:
        """The reply did not come."""
        self._expecting = False

    def port(self, status: int) -> Sequence[Event]:
        """Take the status byte of a USB port; this printer is asked itself, so it adds nothing."""
        return []

    def receive(self, data: bytes) -> Sequence[Event]:
        """Take a chunk, split anywhere; return one event per frame that it ended."""
        events: list[Event] = []
        for byte in data:
            if not self._frame and byte != _BEGIN:
                self._rubbish.append(byte)
                if len(self._rubbish) >= RUBBISH_LIMIT_BYTES:
                    events += self._outside()
                continue
            self._frame.append(byte)
            if len(self._frame) == FRAME_BYTES:
                raw = bytes(self._frame)
                self._frame.clear()
                events += [*self._outside(), self._judge(raw)]
        return events

    def idle(self) -> Sequence[Event]:
        """Silence within a frame: its end will never come."""
        raw = bytes(self._frame)
        self._frame.clear()
        return [*self._outside(), *([Noise(raw, "cut off")] if raw else [])]

    def cut_off(self) -> Sequence[Event]:
        """Forget everything: a printer that comes back may be in another state."""
        self._status, self._expecting = _UNKNOWN, False
        return self.idle()

    def _outside(self) -> list[Event]:
        raw = bytes(self._rubbish)
        self._rubbish.clear()
        return [Noise(raw, "bytes outside a frame")] if raw else []

    def _judge(self, raw: bytes) -> Event:
        if raw[1] != 0x86:
            return Noise(raw, "no status")
        online, cover_open = not raw[2] & 0x08, bool(raw[2] & 0x20)
        self._status = PrinterStatus(online, cover_open, paper="unknown", error="unknown", raw=raw)
        self._expecting = False
        return self._status
