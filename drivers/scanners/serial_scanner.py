r"""Serial (and TCP) barcode scanners: text, ended by a suffix or by silence.

A frame, field by field; only the data and its end are always there:

    [prefix] [ ] c m ] data ... suffix
             AIM identifier     CR, CR LF, LF, TAB, ETX or nothing

Usually 9600 8N1. `]cm` is the AIM symbology identifier of ISO/IEC 15424: `]E0` EAN-13 and UPC-A, `]C1`
GS1-128, `]e0` GS1 DataBar, `]d2` GS1 DataMatrix, `]Q3` GS1 QR. GS (0x1D) separates GS1 elements and may stand
in the data; any other control byte, and anything that is not UTF-8, is line noise. With no suffix a gap of
300 ms ends the code; with a suffix, a gap in the middle of one means that the rest will never come: it is cut
off, not a shorter code.

The strategy: collect bytes in one bounded buffer, split at the suffix, judge each frame whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from drivers.events import Event, Noise
from drivers.scanners.label import FRAME_LIMIT_BYTES, Aim, Label

GAP_ENDS_CODE_MS = 300
GAP_CUTS_CODE_MS = 1000

_SUFFIXES = {"cr": b"\r", "crlf": b"\r\n", "lf": b"\n", "tab": b"\t", "etx": b"\x03", "none": b""}


@dataclass(frozen=True, slots=True)
class SerialScannerOptions:
    """How the scanner was programmed. `prefix` and `aim` as in `Label`."""

    suffix: Literal["cr", "crlf", "lf", "tab", "etx", "none"] = "cr"
    prefix: str = ""
    aim: Aim = "auto"


class SerialScanner:
    """Bytes of a serial scanner in, `Scan` and `Noise` out."""

    def __init__(self, options: SerialScannerOptions | None = None) -> None:
        options = options or SerialScannerOptions()
        self._suffix = _SUFFIXES[options.suffix]
        self._label = Label(options.prefix, options.aim)
        self._buffer = bytearray()
        self._skipping = False
        self.idle_ms: int | None = GAP_CUTS_CODE_MS if self._suffix else GAP_ENDS_CODE_MS

    @property
    def pending(self) -> bool:
        """True while a code is begun and not ended."""
        return bool(self._buffer) or self._skipping

    def receive(self, data: bytes) -> Sequence[Event]:
        """Take a chunk; return one event per frame that it ended."""
        buffer = self._buffer
        buffer += data
        events: list[Event] = []
        suffix = self._suffix
        if suffix:
            while (end := buffer.find(suffix)) >= 0:
                end += len(suffix)
                raw = bytes(buffer[:end])
                del buffer[:end]
                if self._skipping:
                    self._skipping = False  # the tail of a frame that was given up ends here
                elif event := self._judge(raw, raw[: -len(suffix)]):
                    events.append(event)
        if len(buffer) > FRAME_LIMIT_BYTES:
            if not self._skipping:
                events.append(
                    Noise(bytes(buffer[:FRAME_LIMIT_BYTES]), f"longer than {FRAME_LIMIT_BYTES} bytes", "too_long")
                )
            self._skipping = True
            del buffer[: len(buffer) - max(len(suffix) - 1, 0)]  # half a suffix may be here already
        return events

    def idle(self) -> Sequence[Event]:
        """Silence: the end of a code when there is no suffix, otherwise a code cut off."""
        if self._suffix or self._skipping:
            return self.cut_off()
        raw = bytes(self._buffer)
        self._buffer.clear()
        event = self._judge(raw, raw)
        return [event] if event else []

    def cut_off(self) -> Sequence[Event]:
        """Forget a frame begun; it is reported, never delivered short."""
        raw, skipping = bytes(self._buffer), self._skipping
        self._buffer.clear()
        self._skipping = False
        return [Noise(raw, self._why_cut_off(raw), "cut_off")] if raw.strip(b"\r\n") and not skipping else []

    def _why_cut_off(self, raw: bytes) -> str:
        other = next((name for name, end in _SUFFIXES.items() if end and raw.endswith(end)), None)
        return f'cut off; or it ends with {other}: set suffix = "{other}"' if other else "cut off"

    def _judge(self, raw: bytes, body: bytes) -> Event | None:
        body = body.lstrip(b"\r\n")  # a scanner set to CR LF on a line configured for CR
        if not body:
            return None
        try:
            return self._label.read(body.decode("utf-8"), raw)
        except UnicodeDecodeError:
            return Noise(raw, "not UTF-8", "not_text")
