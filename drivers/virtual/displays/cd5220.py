"""A virtual CD5220, written from the Partner CD5220 User's Manual, section 6.1 (pages 10 and 11).

After ESC Q A or ESC Q B the display is in string mode: nothing but these two, the scrolling line (ESC Q D), CLR and CAN
is obeyed. The code page is set by switches (`page`); ESC f and ESC c choose national characters within it.
"""

from __future__ import annotations

from drivers.virtual.displays.screen import Screen
from drivers.virtual.twin import Table

_ESC_PARAMETERS = {0x11: 0, 0x12: 0, 0x13: 0, 0x6C: 2, 0x40: 0, 0x57: 4, 0x2A: 1, 0x3F: 1, 0x25: 1, 0x5F: 1}
_ESC_PARAMETERS |= {0x66: 1, 0x63: 1, 0x3D: 1, 0x73: 1, 0x64: 1, 0x5B: 1}
_MODES = {0x11: "overwrite", 0x12: "vertical", 0x13: "horizontal"}


class Cd5220Screen(Screen):
    """The controller of a CD5220."""

    def reset(self) -> None:
        """ESC @."""
        self.string_mode = False
        self.national = ""
        super().reset()

    def state(self) -> Table:
        """Adds string mode and the national characters chosen."""
        return {**super().state(), "string_mode": self.string_mode, "national": self.national}

    def step(self, head: bytes) -> int:
        """Obey the command at the front."""
        first = head[0]
        if first == 0x1B:
            return self._escape(head)
        if first == 0x0C:
            self.string_mode = False
            self.clear()
        elif first == 0x18:
            self.string_mode = False
            self.cells[self.y] = [" "] * self.columns
            self.x = 0
        elif self.string_mode:
            pass
        elif first >= 0x20:
            self.put(first)
        elif first == 0x08:
            self.left()
        elif first == 0x09:
            self.right()
        elif first == 0x0A:
            self.down()
        elif first == 0x0B:
            self.go(1, 1)
        elif first == 0x0D:
            self.x = 0
        return 1

    def _escape(self, head: bytes) -> int:
        if len(head) < 2:
            return 0
        command = head[1]
        if command == 0x51:
            return self._string(head)
        if command not in _ESC_PARAMETERS:
            self.unknown_commands += 1
            return 2
        used = 2 + _ESC_PARAMETERS[command]
        if len(head) < used:
            return 0
        if not self.string_mode:
            self._obey(command, head[2:used])
        return used

    def _string(self, head: bytes) -> int:
        """ESC Q letter text CR: the text is the whole line, blank where it is shorter."""
        end = head.find(b"\r", 3)
        if len(head) < 3 or end < 0:
            return 0 if len(head) < 3 + 40 else 3
        if head[2] in (0x41, 0x42):
            self.string_mode = True
            self.y, self.x = head[2] - 0x41, 0
            self.cells[self.y] = [" "] * self.columns
            for byte in head[3:end][: self.columns]:
                self.cells[self.y][self.x] = bytes((byte,)).decode(self.page, errors="replace")
                self.x = min(self.x + 1, self.columns - 1)
        return end + 1

    def _obey(self, command: int, values: bytes) -> None:
        match command:
            case 0x11 | 0x12 | 0x13:
                self.mode = _MODES[command]  # type: ignore[assignment]
            case 0x6C:
                self.go(values[0], values[1])
            case 0x40:
                self.reset()
            case 0x2A:
                self.dim(values[0])
            case 0x5F:
                self.cursor_on = values[0] == 1
            case 0x66 | 0x63:
                self.national = chr(values[0])
            case 0x5B:
                self._move(chr(values[0]))

    def _move(self, letter: str) -> None:
        match letter:
            case "A":
                self.up()
            case "B":
                self.down()
            case "C":
                self.right()
            case "D":
                self.left()
            case "H":
                self.go(1, 1)
            case "L":
                self.x = 0
            case "R":
                self.x = self.columns - 1
            case "K":
                self.go(self.columns, self.rows)
