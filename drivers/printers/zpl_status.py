r"""ZPL II, host status: what a Zebra label printer (and what speaks its language) says of itself.

Document: Zebra ZPL II Programming Guide 45541L-004 Rev. A, ~HS, pages 171 and 172; docs.zebra.com, ~HS. To `~HS` come
three strings, each STX ... ETX CR LF:

    1  aaa,b,c,dddd,eee,f,g,h,iii,j,k,l        b paper out   c pause   dddd label length   eee formats in the buffer
                                               f buffer full   h partial format   j configuration lost
                                               k under temperature   l over temperature
    2  mmm,n,o,p,q,r,s,t,uuuuuuuu,v,www        o head up   p ribbon out   q thermal transfer   t label waits to be taken
                                               u labels remaining in the batch
    3  xxxx,y                                  password, static RAM

Only all three together are a status. Some models do not answer at all while paper or ribbon is out or the head is open:
then nothing is known. There is no proof of printing: `left` 0 (no format in the buffer, none begun, no label of a batch
left) tells that the printer has nothing more to do, and not that a label came out well. The strategy: `Frames` from STX
to ETX; three in a row are judged together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from drivers.events import Event, Noise, Paper, PrinterError, PrinterStatus
from drivers.framing import Frames

ASK = b"~HS"
_STX, _ETX = b"\x02", b"\x03"
_LIMIT_BYTES = 80
_STRINGS = (
    re.compile(rb"\d{3},([01]),([01]),\d{4},(\d{3}),([01]),[01],([01]),\d{3},([01]),([01]),([01])"),
    re.compile(rb"\d{3},[01],([01]),([01]),[01],[0-9A-Z],[0-9],([01]),(\d{8}),[01],\d{3}"),
    re.compile(rb"\d{4},[01]"),
)


class ZplStatus:
    """Bytes of a label printer in; `PrinterStatus` and `Noise` out."""

    def __init__(self) -> None:
        self.idle_ms: int | None = 1000
        self._frames = Frames(start=_STX, end=_ETX, limit_bytes=_LIMIT_BYTES)
        self._strings: list[bytes] = []
        self._forget()

    @property
    def pending(self) -> bool:
        """True while a string is begun, or one of the three has not come."""
        return self._frames.pending or bool(self._strings)

    @property
    def expecting(self) -> bool:
        """True while the reply to a question has not come."""
        return self._expecting

    @property
    def status(self) -> PrinterStatus:
        """All that is known now; unknown after every opening."""
        return PrinterStatus(self._online, self._head_up, self._paper, self._error, b"")

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
        """Take a chunk, split anywhere; return one status for every three strings."""
        events: list[Event] = []
        for frame in self._frames.push(data):
            if not isinstance(frame, Noise):
                self._string(frame, events)
            elif frame.raw.strip(b"\r\n"):
                events += [*self._unfinished(), frame]
        return events

    def idle(self) -> Sequence[Event]:
        """Silence in the middle: the rest will never come."""
        rest = [noise for noise in self._frames.give_up() if noise.raw.strip(b"\r\n")]
        return [*self._unfinished(), *rest]

    def cut_off(self) -> Sequence[Event]:
        """Forget everything: a printer that comes back may be in another state."""
        events = self.idle()
        self._forget()
        return events

    def _forget(self) -> None:
        self._expecting = False
        self._online: bool | None = None
        self._head_up: bool | None = None
        self._paper: Paper = "unknown"
        self._error: PrinterError | None = "unknown"
        self.left: int | None = None
        """How many formats and labels it still has to print; None: not known."""

    def _unfinished(self) -> list[Event]:
        raw = b"".join(self._strings)
        self._strings.clear()
        return [Noise(raw, "cut off")] if raw else []

    def _string(self, frame: bytes, events: list[Event]) -> None:
        if not _STRINGS[len(self._strings)].fullmatch(frame[1:-1]):
            events += self._unfinished()
            if not _STRINGS[0].fullmatch(frame[1:-1]):
                events.append(Noise(frame, "no status"))
                return
        self._strings.append(frame)  # perhaps the first of a new reply: the old one stays unfinished
        if len(self._strings) == len(_STRINGS):
            raw = b"".join(self._strings)
            self._take(self._strings)
            self._strings = []
            self._expecting = False
            events.append(PrinterStatus(self._online, self._head_up, self._paper, self._error, raw))

    def _take(self, strings: list[bytes]) -> None:
        first, second = (pattern.fullmatch(one[1:-1]) for pattern, one in zip(_STRINGS[:2], strings, strict=False))
        assert first is not None
        assert second is not None
        paper_out, pause, formats, _, partial, lost, cold, hot = first.groups()
        head_up, ribbon_out, _, labels = second.groups()
        self._paper = "end" if paper_out == b"1" else "ok"
        self._head_up = head_up == b"1"
        self._online = pause == b"0"
        self._error = None
        if b"1" in (cold, hot):
            self._error = "recoverable"
        if lost == b"1":
            self._error = "unrecoverable"
        if ribbon_out == b"1":
            self._error = "ribbon"
        self.left = int(formats) + int(labels) + int(partial)
