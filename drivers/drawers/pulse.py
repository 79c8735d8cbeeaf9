r"""Cash drawers on a printer's drawer connector: the pulse that opens one, and what its switch says.

    escpos   queued      1B 70 m t1 t2      ESC p: in its turn; m 0 = pin 2, 1 = pin 5; t1 on, t2 off, in 2 ms
             real time   10 14 01 m t       DLE DC4: at once, also while the printer is offline; t in 100 ms, 1 to 8
    star     queued      1B 07 n1 n2 07     ESC BEL: on and off time of device 1 in 10 ms, 1 to 127; BEL: drive it
                         1A                 SUB: drive device 2, 200 ms on and off
             real time   1C / 19            FS / EM: drive device 1 / 2 at once

Documents: Epson ESC/POS command reference (ESC p, DLE DC4); Star Line Mode Command Specifications, "External device
drive" (line thermal printers, page 3-44; dot impact printers Rev. 0.70, pages 3-49 to 3-51). StarPRNT takes the same.
Device 1 is pin 2, device 2 is pin 5.

Exactly one pin is pulsed: some drawers hang on both, and two pulses at a time can burn a solenoid. The switch
is pin 3 of the connector, reported by the printer as a level; which level means open belongs to the drawer. The
connector has one switch line: two drawers on one printer share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from drivers.events import DrawerStatus

Level = Literal["high", "low"]


@dataclass(frozen=True, slots=True)
class PrinterDrawerOptions:
    """A drawer that hangs on the printer with the device id `printer`.

    `open_when` is the level of pin 3 with the drawer open; None: learnt by calibration, and until then its state stays
    unknown. `pulse_ms` is how long the solenoid is driven (2 to 510 ms). `language` is what the printer is told to
    drive it with. A drawer that stands open for `left_open_s` seconds is told of (0: never).
    """

    printer: str
    pin: Literal[2, 5] = 2
    open_when: Level | None = None
    pulse_ms: int = 100
    language: Literal["escpos", "star"] = "escpos"
    left_open_s: int = 120

    def __post_init__(self) -> None:
        """Refuse pulses that cannot be written."""
        if not 2 <= self.pulse_ms <= 510:
            raise ValueError(f"pulse_ms: is {self.pulse_ms}; expected 2 to 510")
        if self.left_open_s < 0:
            raise ValueError(f"left_open_s: is {self.left_open_s}; expected seconds, or 0 for never")


def clash(one: PrinterDrawerOptions, other: PrinterDrawerOptions) -> tuple[str, str] | None:
    """What keeps two drawers from hanging on one printer: the option at fault, and why; None: nothing."""
    if one.pin == other.pin:
        return "pin", f"is {one.pin}, which opens another drawer on this printer; one drawer has pin 2, the other pin 5"
    if None not in (one.open_when, other.open_when) and one.open_when != other.open_when:
        return "open_when", f"is {one.open_when!r} and the other drawer's is not; the two share one switch line"
    return None


class PrinterDrawer:
    """One drawer. It has no link of its own: `PrinterDriver.kick` carries its pulse.

    `open_when` is what the level means now; it begins as configured and is set when calibration has learnt it.
    """

    def __init__(self, options: PrinterDrawerOptions) -> None:
        self.options = options
        self.open_when: Level | None = options.open_when

    def queued_pulse(self) -> bytes:
        """Opens when everything sent before has been printed."""
        first = self.options.pin == 2
        if self.options.language == "star":
            tens = max(1, self.options.pulse_ms // 10)
            return bytes((0x1B, 0x07, tens, tens, 0x07)) if first else b"\x1a"
        units = max(1, self.options.pulse_ms // 2)
        return bytes((0x1B, 0x70, 0 if first else 1, units, units))

    def real_time_pulse(self) -> bytes:
        """Opens at once, whatever state the printer is in."""
        first = self.options.pin == 2
        if self.options.language == "star":
            return b"\x1c" if first else b"\x19"
        tenths = min(8, max(1, -(-self.options.pulse_ms // 100)))
        return bytes((0x10, 0x14, 0x01, 0 if first else 1, tenths))

    def is_open(self, status: DrawerStatus) -> bool | None:
        """Whether the drawer is open, or None when the level or its meaning is unknown."""
        if status.pin3_high is None or self.open_when is None:
            return None
        return status.pin3_high == (self.open_when == "high")
