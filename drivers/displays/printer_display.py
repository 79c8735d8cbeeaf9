"""A customer display that hangs on a printer's display connector, or through which the printer is reached.

Either way the line is the printer's, and ESC = n says whose the bytes are. Every picture is one piece that begins with
ESC = 2 and ends with ESC = 1 (`base.behind_printer`), carried by `PrinterDriver.pass_through` between two jobs: no
byte of a receipt can reach the display, and none of a picture the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from drivers.displays.base import Display
from drivers.displays.cd5220 import Cd5220Display, Cd5220DisplayOptions
from drivers.displays.escpos_display import EscposDisplay


@dataclass(frozen=True, slots=True, kw_only=True)
class PrinterDisplayOptions(Cd5220DisplayOptions):
    """A display behind the printer with the device id `printer`; `commands` is the command set that it speaks."""

    printer: str
    commands: Literal["escpos", "cd5220"] = "escpos"


def clash(one: PrinterDisplayOptions, other: PrinterDisplayOptions) -> tuple[str, str] | None:
    """A printer passes on to one display: both would show the same."""
    return "printer", f"is {one.printer!r}, which has a display already"


def command_set(options: PrinterDisplayOptions) -> Display:
    """The display that these options describe."""
    return EscposDisplay(options) if options.commands == "escpos" else Cd5220Display(options)
