"""The screen of a character display: cells, a cursor, and what happens at the ends of lines. No I/O.

Cursor rules from the Epson DM-D110 Specification, sheets 37 to 40; CD5220 displays follow the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from drivers.virtual.twin import Table

Mode = Literal["overwrite", "vertical", "horizontal"]

_LONGEST_COMMAND_BYTES = 256


class Screen(ABC):
    """Takes bytes as the display's controller does; subclasses know the commands."""

    def __init__(self, columns: int, rows: int, page: str) -> None:
        self.columns = columns
        self.rows = rows
        self.unknown_commands = 0
        self.bytes_received = 0
        self._page_at_power_on = page
        self._buffer = bytearray()
        self.power_on()

    def power_on(self) -> None:
        """Every setting as after power on; a command begun is forgotten."""
        self._buffer.clear()
        self.reset()

    def reset(self) -> None:
        """Settings as after power on, screen clear, cursor home."""
        self.page = self._page_at_power_on
        self.mode: Mode = "overwrite"
        self.brightness = 4
        self.cursor_on = True
        self.blink = 0
        self.clear()

    def clear(self) -> None:
        """Blank every cell; the cursor goes home."""
        self.cells = [[" "] * self.columns for _ in range(self.rows)]
        self.x = self.y = 0

    def lines(self) -> list[str]:
        """What a person reads, trailing blanks left out."""
        return ["".join(row).rstrip() for row in self.cells]

    def state(self) -> Table:
        """What is on the screen and how it is set."""
        return {
            "lines": self.lines(),
            "cursor": [self.x + 1, self.y + 1] if self.cursor_on else None,
            "mode": self.mode,
            "brightness": self.brightness,
            "page": self.page,
            "blink": self.blink,
            "bytes_received": self.bytes_received,
            "unknown_commands": self.unknown_commands,
        }

    def feed(self, data: bytes) -> None:
        """Take what came over the line, split anywhere."""
        self.bytes_received += len(data)
        self._buffer += data
        while self._buffer:
            used = self.step(bytes(self._buffer[:_LONGEST_COMMAND_BYTES]))
            if used == 0:
                return
            del self._buffer[:used]

    @abstractmethod
    def step(self, head: bytes) -> int:
        """Obey the command at the front; returns its length, 0 when it is not whole yet."""

    def put(self, byte: int) -> None:
        """Show one character at the cursor, which moves on."""
        codec = "shift_jis" if self.page == "katakana" else self.page
        self.cells[self.y][self.x] = bytes((byte,)).decode(codec, errors="replace")
        self.right()

    def right(self) -> None:
        """One cell on; at the end of a line the mode decides."""
        if self.x + 1 < self.columns:
            self.x += 1
        elif self.mode == "horizontal":
            self.cells[self.y] = [*self.cells[self.y][1:], " "]
        else:
            self.x = 0
            self.down()

    def left(self) -> None:
        """One cell back."""
        if self.x > 0:
            self.x -= 1
        elif self.mode == "overwrite":
            self.x = self.columns - 1
            self.y = (self.y - 1) % self.rows

    def down(self) -> None:
        """One line down; from the last one to the first, or the screen scrolls."""
        if self.y + 1 < self.rows:
            self.y += 1
        elif self.mode == "vertical":
            self.cells = [*self.cells[1:], [" "] * self.columns]
        else:
            self.y = 0

    def up(self) -> None:
        """One line up."""
        self.y = (self.y - 1) % self.rows

    def go(self, column: int, row: int) -> None:
        """The cursor to a cell, both from 1; a cell that is not there is ignored."""
        if 1 <= column <= self.columns and 1 <= row <= self.rows:
            self.x, self.y = column - 1, row - 1

    def dim(self, brightness: int) -> None:
        """Brightness 1 to 4; others are ignored."""
        if 1 <= brightness <= 4:
            self.brightness = brightness
