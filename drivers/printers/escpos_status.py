r"""What an ESC/POS printer sends back, told apart byte by byte.

Documents: Epson ESC/POS command reference, DLE EOT, GS a, GS ( H (the layout of the bits is also printed in
the TM-U220 operator's manual, pages 54 and 83).

    real-time reply    0xx1xx10                     one byte, in the order of the DLE EOT n that asked for it
        n=1  b2 drawer pin 3 high, b3 offline       n=2  b2 cover open, b3 feed button, b5 paper end, b6 error
        n=3  b2 b6 auto-recoverable or mechanical, b3 cutter, b5 unrecoverable
        n=4  b2-b3 paper near end, b5-b6 paper end
    automatic status   0xx1xx00 0xx0xxxx 0xx0xxxx 0xx0xxxx
        1st  b2 drawer pin 3 high, b3 offline, b5 cover open, b6 feed button     2nd  errors as n=3
        3rd  b0-b1 near end, b2-b3 end                                           4th  reserved
    proof of printing  37 22 d1 d2 d3 d4 00         to GS ( H 06 00 30 30 d1 d2 d3 d4, once all before is printed
    flow control       11, 13                       ignored

The first byte decides which it is (b0, b1, b4, b7 are fixed); a block that goes on wrongly is given up and
the byte that did not fit is looked at anew.

A real-time reply does not say which question it answers. Replies that were given up may still come, so the next
question is answered by the last replies: those that complete the count of all that are owed, or those that silence
follows. A late word on the paper is never taken for one on the cover.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from drivers.events import DrawerStatus, Event, Noise, Paper, PrinterError, PrinterStatus, PrintProof

ASK = (1, 2, 3, 4)
REPLY_LIMIT_BYTES = 96
LATE_LIMIT = 16
"""Replies that were given up: more than this many are not waited for."""
_CUT_AFTER_MS = 500


def ask(numbers: Iterable[int] = ASK) -> bytes:
    """Ask in real time: one DLE EOT n for each of `numbers` (1 printer, 2 cause, 3 error, 4 paper)."""
    return b"".join(bytes((0x10, 0x04, number)) for number in numbers)


def report_changes() -> bytes:
    """Switch automatic status on (GS a 255); the printer sends the first one at once."""
    return b"\x1d\x61\xff"


def request_proof(token: bytes) -> bytes:
    """Ask for `token` (4 bytes, 0x20 to 0x7E) to be sent back when everything before it has been printed."""
    if len(token) != 4 or not all(0x20 <= byte <= 0x7E for byte in token):
        raise ValueError(f"a token is 4 printable ASCII bytes, not {token!r}")
    return b"\x1d\x28\x48\x06\x00\x30\x30" + token


class EscposStatus:
    """Bytes of a printer in; `PrinterStatus`, `DrawerStatus`, `PrintProof` and `Noise` out."""

    def __init__(self) -> None:
        self.idle_ms: int | None = _CUT_AFTER_MS
        self.on_asked: Callable[[tuple[int, ...]], None] | None = None
        """Hears the questions as they are asked, or none when they are given up: for recording captures."""
        self._block = bytearray()
        self._asked: deque[int] = deque()
        self._replies: list[int] = []
        self._late = 0
        self._online: bool | None = None
        self._cover_open: bool | None = None
        self._feeding: bool | None = None
        self._paper_end: bool | None = None
        self._near_end: bool | None = None
        self._errors: int | None = None
        self._some_error = False

    @property
    def pending(self) -> bool:
        """True while a block is begun, or while silence would tell which replies answer."""
        return bool(self._block) or self._answered_by_silence

    @property
    def expecting(self) -> bool:
        """True while replies that were asked for have not come."""
        return bool(self._asked)

    @property
    def expected(self) -> list[tuple[int, ...]]:
        """What a fresh parser must be asked (or give up: an empty one) to await the replies that this one awaits."""
        late = max(0, self._late - len(self._replies))
        given_up = [(1,) * late, ()] if late else []
        return given_up + ([tuple(self._asked)] if self._asked else [])

    @property
    def status(self) -> PrinterStatus:
        """All that is known now; unknown after every opening."""
        return PrinterStatus(self._online, self._cover_open, self._paper(), self._error(), b"", self._feeding)

    def asking(self, numbers: Iterable[int] = ASK) -> bytes:
        """As `ask`, and expect the replies in this order."""
        numbers = tuple(numbers)
        self._asked.extend(numbers)
        if self.on_asked is not None:
            self.on_asked(numbers)
        return ask(numbers)

    def stop_expecting(self) -> None:
        """The replies asked for did not come: do not take a later one for an answer to the next question."""
        self._late = min(LATE_LIMIT, max(0, self._late + len(self._asked) - len(self._replies)))
        self._asked.clear()
        self._replies.clear()
        if self.on_asked is not None:
            self.on_asked(())

    def port(self, status: int) -> Sequence[Event]:
        """Take the status byte of a USB port (printing class 1.1, 4.2.2) of a printer that says nothing else.

        b5 paper empty, b4 selected, b3 no error. Only bad news counts: a printer that cannot tell says 0x18, and 0 is
        what some say that have never heard of it.
        """
        self._paper_end = True if status & 0x20 else None
        self._online = False if status and status & 0x18 != 0x18 else None
        return [self._whole(bytes((status & 0xFF,)))]

    def receive(self, data: bytes) -> Sequence[Event]:
        """Take a chunk; return what it completed."""
        events: list[Event] = []
        for byte in data:
            if self._block and not self._fits(byte):
                events.append(Noise(bytes(self._block), "a block that does not go on"))
                self._block.clear()
            if self._block:
                self._block.append(byte)
                self._complete(events)
            else:
                self._first(byte, events)
        return events

    def idle(self) -> Sequence[Event]:
        """Silence within a block, or after replies."""
        events = self._cut_block()
        if self._answered_by_silence:
            self._answer(events)
        return events

    def cut_off(self) -> Sequence[Event]:
        """Forget everything: a printer that comes back may be another, or in another state."""
        events = self._cut_block()
        self._forget()
        return events

    def _cut_block(self) -> list[Event]:
        raw = bytes(self._block)
        self._block.clear()
        return [Noise(raw, "cut off")] if raw else []

    def _forget(self) -> None:
        self._asked.clear()
        self._replies.clear()
        self._late = 0
        self._online = self._cover_open = self._feeding = self._paper_end = self._near_end = None
        self._errors = None
        self._some_error = False

    def _first(self, byte: int, events: list[Event]) -> None:
        if byte in (0x11, 0x13):
            return
        if byte == 0x37 or byte & 0x93 == 0x10:
            self._block.append(byte)
        elif byte & 0x93 == 0x12:
            self._real_time(byte, events)
        else:
            events.append(Noise(bytes((byte,)), "no status byte"))

    def _fits(self, byte: int) -> bool:
        if self._block[0] != 0x37:
            return byte & 0x90 == 0
        if self._block[1:2] == b"\x22":
            return byte == 0 if len(self._block) == 6 else len(self._block) < 2 or 0x20 <= byte <= 0x7E
        return len(self._block) < REPLY_LIMIT_BYTES

    def _complete(self, events: list[Event]) -> None:
        block = self._block
        if block[0] != 0x37:
            if len(block) == 4:
                self._automatic(bytes(block), events)
                block.clear()
        elif block[-1] == 0 and len(block) > 1:
            raw = bytes(block)
            events.append(PrintProof(raw[2:6]) if raw[1] == 0x22 and len(raw) == 7 else Noise(raw, "not asked for"))
            block.clear()

    def _automatic(self, raw: bytes, events: list[Event]) -> None:
        first, errors, paper, _ = raw
        self._online = not first & 0x08
        self._cover_open = bool(first & 0x20)
        self._feeding = bool(first & 0x40)
        self._errors = errors & 0x6C
        self._some_error = False
        self._near_end = bool(paper & 0x03)
        self._paper_end = bool(paper & 0x0C)
        events += (self._whole(raw), DrawerStatus(bool(first & 0x04)))

    @property
    def _answered_by_silence(self) -> bool:
        return self._late > 0 and len(self._replies) >= len(self._asked) > 0

    def _after_late_ones(self, byte: int, events: list[Event]) -> None:
        """One of the replies that are owed: to a question given up, or to the one that waits."""
        if not self._asked:
            self._late -= 1
            return
        self._replies.append(byte)
        if len(self._replies) == self._late + len(self._asked):
            self._answer(events)

    def _answer(self, events: list[Event]) -> None:
        """The question that waits is answered by the last replies."""
        replies = self._replies[-len(self._asked) :]
        self._replies.clear()
        self._late = 0
        for byte in replies:
            self._real_time(byte, events)

    def _real_time(self, byte: int, events: list[Event]) -> None:
        if self._late:
            self._after_late_ones(byte, events)
            return
        if not self._asked:
            events.append(Noise(bytes((byte,)), "a status that nobody asked for"))
            return
        number = self._asked.popleft()
        if number == 1:
            self._online = not byte & 0x08
            events.append(DrawerStatus(bool(byte & 0x04)))
        elif number == 2:
            self._cover_open = bool(byte & 0x04)
            self._feeding = bool(byte & 0x08)
            self._some_error = bool(byte & 0x40)
            if byte & 0x20:
                self._paper_end = True
        elif number == 3:
            self._errors = byte & 0x6C
        else:
            self._near_end = bool(byte & 0x0C)
            self._paper_end = bool(byte & 0x60)
        if not self._asked:
            events.append(self._whole(bytes((byte,))))

    def _whole(self, raw: bytes) -> PrinterStatus:
        return PrinterStatus(self._online, self._cover_open, self._paper(), self._error(), raw, self._feeding)

    def _paper(self) -> Paper:
        if self._paper_end:
            return "end"
        if self._near_end:
            return "near_end"
        return "unknown" if self._paper_end is None or self._near_end is None else "ok"

    def _error(self) -> PrinterError | None:
        errors = self._errors
        if errors is None:
            return "unknown"
        if errors & 0x20:
            return "unrecoverable"
        if errors & 0x08:
            return "cutter"
        return "recoverable" if errors or self._some_error else None
