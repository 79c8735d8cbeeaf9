r"""Cash drawers on a printer's drawer connector: the pulse that opens one, and what its switch says.

    queued      1B 70 m t1 t2      ESC p: in its turn; m 0 = pin 2, 1 = pin 5; t1 on, t2 off, in 2 ms
    real time   10 14 01 m t       DLE DC4: at once, also while the printer is offline; t in 100 ms, 1 to 8

Exactly one pin is pulsed: some drawers hang on both, and two pulses at a time can burn a solenoid. The switch
is pin 3 of the connector, reported by the printer as a level; which level means open belongs to the drawer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from drivers.events import DrawerStatus


@dataclass(frozen=True, slots=True)
class PrinterDrawerOptions:
    """A drawer that hangs on the printer with the device id `printer`.

    `open_when` is the level of pin 3 with the drawer open; None: not calibrated, its state stays unknown.
    `pulse_ms` is how long the solenoid is driven (2 to 510 ms).
    """

    printer: str
    pin: Literal[2, 5] = 2
    open_when: Literal["high", "low"] | None = None
    pulse_ms: int = 100

    def __post_init__(self) -> None:
        """Refuse pulses that cannot be written."""
        if not 2 <= self.pulse_ms <= 510:
            raise ValueError(f"pulse_ms: is {self.pulse_ms}; expected 2 to 510")


class PrinterDrawer:
    """One drawer. It has no link of its own: `PrinterDriver.kick` carries its pulse."""

    def __init__(self, options: PrinterDrawerOptions) -> None:
        self.options = options

    def queued_pulse(self) -> bytes:
        """ESC p: opens when everything sent before has been printed."""
        units = max(1, self.options.pulse_ms // 2)
        return bytes((0x1B, 0x70, 0 if self.options.pin == 2 else 1, units, units))

    def real_time_pulse(self) -> bytes:
        """DLE DC4: opens at once, whatever state the printer is in."""
        tenths = min(8, max(1, -(-self.options.pulse_ms // 100)))
        return bytes((0x10, 0x14, 0x01, 0 if self.options.pin == 2 else 1, tenths))

    def is_open(self, status: DrawerStatus) -> bool | None:
        """Whether the drawer is open, or None when the level or its meaning is unknown."""
        if status.pin3_high is None or self.options.open_when is None:
            return None
        return status.pin3_high == (self.options.open_when == "high")
