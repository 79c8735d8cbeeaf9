"""A virtual customer display on a line of its own: what a customer would read, as text and as a picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

from drivers.virtual.displays.cd5220 import Cd5220Screen
from drivers.virtual.displays.escpos_display import EscposScreen
from drivers.virtual.displays.screen import Screen
from drivers.virtual.twin import Table, Twin, one_of
from drivers.virtual.wire import Wire


class VirtualDisplay(Twin):
    """Actions: screen (what stands on it), picture (as PNG in base64), power (`to`: cycle, off, on)."""

    kind = "display"

    def __init__(self, name: str, wire: Wire, screen: Screen) -> None:
        super().__init__(name, wire)
        self.screen = screen
        self._on = True
        self.actions |= {"screen": self._screen, "picture": self._picture, "power": self._power}

    def received(self, data: bytes) -> None:
        """Take what the host sends; a display without power takes nothing."""
        if self._on:
            self.screen.feed(data)

    def state(self) -> Table:
        """Adds the screen."""
        return {**super().state(), **self.screen.state(), "power": "on" if self._on else "off"}

    async def _screen(self, arguments: Mapping[str, Any]) -> Table:
        return self.screen.state()

    async def _picture(self, arguments: Mapping[str, Any]) -> Table:
        return {"png": png(self.screen)}

    async def _power(self, arguments: Mapping[str, Any]) -> None:
        self._on = one_of(arguments, "to", ("cycle", "off", "on")) != "off"
        self.screen.power_on()


class VirtualEscposDisplay(VirtualDisplay):
    """A display of Epson's DM-D kind."""

    def __init__(self, name: str, wire: Wire, *, columns: int = 20, rows: int = 2) -> None:
        super().__init__(name, wire, EscposScreen(columns, rows, "cp437"))


class VirtualCd5220Display(VirtualDisplay):
    """A CD5220; `page` is how its switches are set."""

    def __init__(self, name: str, wire: Wire, *, columns: int = 20, rows: int = 2, page: str = "cp437") -> None:
        super().__init__(name, wire, Cd5220Screen(columns, rows, page))


def behind_printer(commands: str) -> Screen | None:
    """The display on a printer's display connector; empty: none hangs there."""
    if commands == "escpos":
        return EscposScreen(20, 2, "cp437")
    if commands == "cd5220":
        return Cd5220Screen(20, 2, "cp437")
    if commands:
        raise ValueError(f"display is {commands!r}; expected escpos or cd5220")
    return None


def png(screen: Screen) -> str:
    """The screen as a picture, PNG in base64."""
    from drivers.virtual.displays.vfd import draw  # needs the drawing library, which only pictures pay for

    file = io.BytesIO()
    draw(screen.cells, screen.brightness).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
