"""Reads ESC/POS as a printer does: commands in, marks on the paper out. No I/O.

Written from Epson's ESC/POS command reference (names of commands as there). `read` takes as many whole
commands as the buffer holds and stops where one is cut off, or where `stuck()` says that the printer cannot
go on. Real-time commands (DLE EOT, DLE ENQ, DLE DC4) have been obeyed when they arrived; here they are only
skipped. Commands that it does not know are counted and skipped as ESC or GS, letter and one parameter: what
follows may then come out as text, as it does on a real one.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Protocol

from drivers.virtual.escpos_tables import (
    ALIGNS,
    BARCODES_A,
    BARCODES_B,
    CODE_PAGES,
    COLUMN_SCALES,
    ESC_LENGTHS,
    FS_LENGTHS,
    GS_LENGTHS,
)
from drivers.virtual.paper import Align, Bars, Gap, Item, Line, Matrix, Raster, Style
from drivers.virtual.symbols import dots as symbol_dots
from drivers.virtual.symbols import text as symbol_text

_TEXT = re.compile(rb"[\x20-\xff]+")
_DOTS_PER_LINE = 30
_TAB_COLUMNS = 8


class Head(Protocol):
    """What the reader drives: the mechanics and the line back to the host."""

    def stuck(self) -> bool:
        """True when nothing can be printed now."""

    def put(self, item: Item) -> None:
        """Print one item."""

    def cut(self) -> None:
        """Cut the paper."""

    def kick(self, connector: int, on_ms: int) -> None:
        """Pulse drawer connector pin 2 (0) or 5 (1)."""

    def automatic_status(self, mask: int) -> None:
        """GS a: report the changes that `mask` selects."""

    def display(self, data: bytes) -> None:
        """Pass bytes on to the display behind the printer."""

    def reply(self, data: bytes) -> None:
        """Send bytes to the host."""

    def status_request(self, number: int) -> None:
        """GS r: answer 1 (paper) or 2 (drawer)."""


class EscposReader:
    """The settings and the line buffer of one printer."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self.unknown_commands = 0
        self.reset()

    def reset(self) -> None:
        """ESC @ or power on: default settings, empty line buffer."""
        self._style = Style()
        self._align: Align = "left"
        self._page = "cp437"
        self._spacing = _DOTS_PER_LINE
        self._runs: list[tuple[str, Style]] = []
        self._bar_height, self._bar_module, self._bar_text = 162, 3, 0
        self._qr_data, self._qr_module, self._qr_level = "", 3, "L"
        self._stored: Raster | None = None
        self._band = False
        self._deaf = False

    def read(self, buffer: bytearray) -> None:
        """Obey whole commands from the front of `buffer` and take them out of it."""
        while buffer and not self._head.stuck():
            used = self._step(buffer)
            if used == 0:
                return
            del buffer[:used]

    def _step(self, buffer: bytearray) -> int:
        if self._deaf:
            return self._for_display(buffer)
        band, self._band = self._band, False
        first = buffer[0]
        if first >= 0x20:
            match = _TEXT.match(buffer)
            assert match is not None
            self._runs.append((match[0].decode(self._page, errors="replace"), self._style))
            return match.end()
        if first == 0x0A:
            if not band:  # a band of dots fills its line: this ends it and feeds no other
                self._end_line()
        elif first == 0x09:
            at = sum(len(text) for text, _ in self._runs)
            self._runs.append((" " * (_TAB_COLUMNS - at % _TAB_COLUMNS), self._style))
        elif first == 0x1B:
            return self._escape(buffer)
        elif first == 0x1D:
            return self._group(buffer)
        elif first == 0x1C:
            return self._kanji(buffer)
        elif first == 0x10:
            return self._real_time_length(buffer)
        return 1  # CR, FF and other control bytes print nothing here

    def _for_display(self, buffer: bytearray) -> int:
        """ESC = 2 has been obeyed: all that comes is for the display, up to an ESC = that selects the printer again."""
        at = buffer.find(b"\x1b=")
        if at == 0:
            if len(buffer) < 3:
                return 0
            self._deaf = not buffer[2] & 1
            return 3
        whole = at if at > 0 else len(buffer) - buffer.endswith(b"\x1b")
        if whole:
            self._head.display(bytes(buffer[:whole]))
        return whole

    def _end_line(self) -> None:
        if self._runs:
            self._head.put(Line(tuple(self._runs), self._align, self._spacing))
            self._runs = []
        else:
            self._head.put(Gap(self._spacing))

    def _flush_line(self) -> None:
        if self._runs:
            self._end_line()

    @staticmethod
    def _real_time_length(buffer: bytearray) -> int:
        if len(buffer) < 2:
            return 0
        length = {0x04: 3, 0x05: 3, 0x14: 5}.get(buffer[1], 1)
        return length if len(buffer) >= length else 0

    def _unknown(self, buffer: bytearray) -> int:
        if len(buffer) < 3:
            return 0
        self.unknown_commands += 1
        return 3

    def _kanji(self, buffer: bytearray) -> int:
        """FS: kanji settings and pictures kept in the printer, of which this one has none."""
        if len(buffer) < 2:
            return 0
        if buffer[1] == ord("("):
            return self._function(buffer)
        length = FS_LENGTHS.get(buffer[1])
        if length is None:
            return self._unknown(buffer)
        return 2 + length if len(buffer) >= 2 + length else 0

    def _escape(self, buffer: bytearray) -> int:
        if len(buffer) < 2:
            return 0
        letter = buffer[1]
        if letter == ord("("):
            return self._function(buffer)  # ESC ( A: the buzzer
        if letter == ord("*"):
            return self._column_picture(buffer)
        if letter == ord("D"):
            end = buffer.find(0, 2)
            return end + 1 if end >= 0 else 0
        length = ESC_LENGTHS.get(letter)
        if length is None:
            return self._unknown(buffer)
        if len(buffer) < 2 + length:
            return 0
        self._obey_escape(chr(letter), bytes(buffer[2 : 2 + length]))
        return 2 + length

    def _obey_escape(self, letter: str, values: bytes) -> None:
        value = values[0] if values else 0
        match letter:
            case "@":
                self.reset()
                self._head.automatic_status(0)
            case "=":
                self._deaf = not value & 1 and bool(value & 2)
            case "!":
                size = (2 if value & 0x20 else 1, 2 if value & 0x10 else 1)
                self._restyle(bold=bool(value & 0x08), underline=bool(value & 0x80), small=bool(value & 0x01))
                self._restyle(width=size[0], height=size[1])
            case "E" | "G":
                self._restyle(bold=bool(value & 1))
            case "-":
                self._restyle(underline=value not in (0, 48))
            case "M":
                self._restyle(small=value in (1, 49))
            case "a" if value % 48 < 3:
                self._align = ALIGNS[value % 48]
            case "t":
                self._page = CODE_PAGES.get(value, "cp437")
            case "2":
                self._spacing = _DOTS_PER_LINE
            case "3":
                self._spacing = value
            case "{":
                self._restyle(upside_down=bool(value & 1))
            case "d":
                self._flush_line()
                self._head.put(Gap(value * self._spacing))
            case "J":
                self._flush_line()
                self._head.put(Gap(value))
            case "p":
                self._head.kick(value % 48, values[1] * 2)
            case "i" | "m":
                self._flush_line()
                self._head.cut()

    def _restyle(self, **changes: bool | int) -> None:
        self._style = dataclasses.replace(self._style, **changes)  # type: ignore[arg-type]

    def _column_picture(self, buffer: bytearray) -> int:
        """ESC * m nL nH: a band of 8 or 24 dots, column by column."""
        if len(buffer) < 5:
            return 0
        mode, columns = buffer[2], buffer[3] + 256 * buffer[4]
        deep = 3 if mode in (32, 33) else 1
        end = 5 + columns * deep
        if len(buffer) < end:
            return 0
        width_bytes = -(-columns // 8)
        rows = [bytearray(width_bytes) for _ in range(8 * deep)]
        for column in range(columns):
            for part in range(deep):
                dots = buffer[5 + column * deep + part]
                for bit in range(8):
                    if dots & (0x80 >> bit):
                        rows[part * 8 + bit][column // 8] |= 0x80 >> column % 8
        scale = COLUMN_SCALES.get(mode, (1, 1))
        self._head.put(Raster(width_bytes, 8 * deep, b"".join(rows), self._align, scale))
        self._band = True
        return end

    def _group(self, buffer: bytearray) -> int:
        if len(buffer) < 2:
            return 0
        letter = chr(buffer[1])
        special: dict[str, Callable[[bytearray], int]] = {
            "8": self._large_graphics,
            "k": self._barcode,
            "v": self._raster,
            "(": self._function,
            "V": self._cut,
        }
        if letter in special:
            return special[letter](buffer)
        length = GS_LENGTHS.get(buffer[1])
        if length is None:
            return self._unknown(buffer)
        if len(buffer) < 2 + length:
            return 0
        self._obey_group(letter, buffer[2] if length else 0)
        return 2 + length

    def _obey_group(self, letter: str, value: int) -> None:
        match letter:
            case "!":
                self._restyle(width=(value >> 4 & 7) + 1, height=(value & 7) + 1)
            case "B":
                self._restyle(invert=bool(value & 1))
            case "h":
                self._bar_height = value
            case "w":
                self._bar_module = value
            case "H":
                self._bar_text = value % 48
            case "a":
                self._head.automatic_status(value)
            case "r":
                self._head.status_request(value % 48)
            case "I":
                self._head.reply(b"\x5fTillgate twin\x00" if value >= 65 else b"\x01")

    def _cut(self, buffer: bytearray) -> int:
        used = 4 if len(buffer) > 2 and buffer[2] in (65, 66, 97, 98, 103, 104) else 3
        if len(buffer) < used:
            return 0
        self._flush_line()
        self._head.cut()
        return used

    def _barcode(self, buffer: bytearray) -> int:
        if len(buffer) < 4:
            return 0
        kind = buffer[2]
        if kind <= 6:
            end = buffer.find(0, 3)
            if end < 0:
                return 0
            name, data, used = BARCODES_A[kind], bytes(buffer[3:end]), end + 1
        else:
            used = 4 + buffer[3]
            if len(buffer) < used:
                return 0
            name, data = BARCODES_B.get(kind, f"barcode {kind}"), bytes(buffer[4:used])
        self._flush_line()
        black = symbol_dots(name, data, self._bar_module)
        if not black:
            self.unknown_commands += 1
            return used
        text = ("none", "above", "below", "both")[self._bar_text % 4]
        bars = Bars(name, data, symbol_text(name, data), black, self._bar_height, text, self._align)  # type: ignore[arg-type]
        self._head.put(bars)
        return used

    def _raster(self, buffer: bytearray) -> int:
        """GS v 0 m xL xH yL yH: dots row by row."""
        if len(buffer) < 8:
            return 0
        width_bytes, height = buffer[4] + 256 * buffer[5], buffer[6] + 256 * buffer[7]
        used = 8 + width_bytes * height
        if len(buffer) < used:
            return 0
        scale = (2 if buffer[3] & 1 else 1, 2 if buffer[3] & 2 else 1)
        self._flush_line()
        self._head.put(Raster(width_bytes, height, bytes(buffer[8:used]), self._align, scale))
        return used

    def _function(self, buffer: bytearray) -> int:
        """GS ( X pL pH ...: one letter, one length, many functions."""
        if len(buffer) < 5:
            return 0
        used = 5 + buffer[3] + 256 * buffer[4]
        if len(buffer) < used:
            return 0
        letter, values = chr(buffer[2]), bytes(buffer[5:used])
        if buffer[0] != 0x1D:
            return used
        if letter == "k" and values[:1] == b"1" and len(values) > 1:
            self._qr(values[1], values[2:])
        elif letter == "H" and len(values) == 6 and values[0] in (0, 48) and values[1] in (0, 48):
            self._flush_line()
            self._head.reply(b"\x37\x22" + values[2:6] + b"\x00")
        elif letter == "L":
            self._graphics(values)
        return used

    def _large_graphics(self, buffer: bytearray) -> int:
        """GS 8 L p1 p2 p3 p4 ...: as GS ( L, for pictures of more than 65535 bytes."""
        if len(buffer) < 7:
            return 0
        used = 7 + int.from_bytes(buffer[3:7], "little")
        if len(buffer) < used:
            return 0
        self._graphics(bytes(buffer[7:used]))
        return used

    def _qr(self, function: int, values: bytes) -> None:
        if function == 67 and values:
            self._qr_module = values[0]
        elif function == 69 and values:
            self._qr_level = {48: "L", 49: "M", 50: "Q", 51: "H"}.get(values[0], "L")
        elif function == 80:
            self._qr_data = values[1:].decode("utf-8", errors="replace")
        elif function == 81:
            self._flush_line()
            self._head.put(Matrix(self._qr_data, self._qr_module, self._qr_level, self._align))

    def _graphics(self, values: bytes) -> None:
        if values[:2] == b"0p" and len(values) >= 10:
            width, height = values[6] + 256 * values[7], values[8] + 256 * values[9]
            self._stored = Raster(-(-width // 8), height, values[10:], self._align, (values[3], values[4]))
        elif values[:2] in (b"02", b"0\x02") and self._stored is not None:
            self._flush_line()
            self._head.put(self._stored)
            self._stored = None
