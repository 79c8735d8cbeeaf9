"""A virtual display of Epson's DM-D kind, written from the DM-D110 Specification, section 5.4 (sheets 37 to 56).

In a pass-through connection ESC = n decides whose the data are (sheet 41): with 1 the display shows nothing of what
comes, until ESC = with bit 1 set.
"""

from __future__ import annotations

from drivers.virtual.displays.screen import Screen

_PAGES = {0: "cp437", 1: "katakana", 2: "cp850", 3: "cp860", 4: "cp863", 5: "cp865"}
_PAGES |= {16: "cp1252", 17: "cp866", 18: "cp852", 19: "cp858"}
_US_PARAMETERS = {0x24: 2, 0x43: 1, 0x45: 1, 0x58: 1, 0x72: 1, 0x54: 2, 0x55: 0, 0x40: 0, 0x23: 2}
_US_PARAMETERS |= {0x01: 0, 0x02: 0, 0x03: 0, 0x0A: 0, 0x0D: 0, 0x42: 0, 0x2C: 1, 0x2E: 1, 0x3B: 1, 0x3A: 0, 0x5E: 2}
_ESC_PARAMETERS = {0x3D: 1, 0x40: 0, 0x74: 1, 0x52: 1, 0x25: 1, 0x3F: 1}


class EscposScreen(Screen):
    """The controller of a DM-D display."""

    def reset(self) -> None:
        """ESC @: the display is selected again."""
        self.selected = True
        super().reset()

    def step(self, head: bytes) -> int:
        """Obey the command at the front."""
        first = head[0]
        if first == 0x1B:
            return self._escape(head)
        if not self.selected:
            return 1
        if first == 0x1F:
            return self._unit(head)
        if first >= 0x20:
            self.put(first)
        elif first == 0x08:
            self.left()
        elif first == 0x09:
            self.right()
        elif first == 0x0A:
            self.down()
        elif first == 0x0B:
            self.go(1, 1)
        elif first == 0x0C:
            self.clear()
        elif first == 0x0D:
            self.x = 0
        elif first == 0x18:
            self.cells[self.y] = [" "] * self.columns
            self.x = 0
        return 1

    def _escape(self, head: bytes) -> int:
        if len(head) < 2:
            return 0
        command = head[1]
        if command == 0x57:  # ESC W n m (x1 y1 x2 y2)
            return 0 if len(head) < 4 else 8 if head[3] in (1, 49) else 4
        if command not in _ESC_PARAMETERS:
            self.unknown_commands += self.selected
            return 2
        used = 2 + _ESC_PARAMETERS[command]
        if len(head) < used:
            return 0
        value = head[2] if used > 2 else 0
        if command == 0x3D:
            if 1 <= value <= 3:
                self.selected = bool(value & 2)
        elif self.selected and command == 0x40:
            self.reset()
        elif self.selected and command == 0x74:
            self.page = _PAGES.get(value, self.page)
        return used

    def _unit(self, head: bytes) -> int:
        if len(head) < 2:
            return 0
        command = head[1]
        if command == 0x28:  # US ( fn pL pH ...
            return 0 if len(head) < 5 else 5 + head[3] + 256 * head[4]
        if command not in _US_PARAMETERS:
            self.unknown_commands += 1
            return 2
        used = 2 + _US_PARAMETERS[command]
        if len(head) < used:
            return 0
        self._obey_unit(command, head[2:used])
        return used

    def _obey_unit(self, command: int, values: bytes) -> None:
        match command:
            case 0x01:
                self.mode = "overwrite"
            case 0x02:
                self.mode = "vertical"
            case 0x03:
                self.mode = "horizontal"
            case 0x0A:
                self.up()
            case 0x0D:
                self.x = self.columns - 1
            case 0x24:
                self.go(values[0], values[1])
            case 0x40:
                self.reset()  # the self-test ends so
            case 0x42:
                self.go(self.columns, self.rows)
            case 0x43:
                self.cursor_on = values[0] in (1, 49)
            case 0x45:
                self.blink = values[0]
            case 0x58:
                self.dim(values[0])
