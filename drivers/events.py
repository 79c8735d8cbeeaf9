"""What devices report: frozen events with their units in names or types.

Protocols create these; drivers stamp the moment; nothing here knows a lane, a price or a sale.
*Unknown* is a value of its own (`None` or `"unknown"`), never a guess at the harmless case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unit = Literal["kg", "g", "lb", "oz"]
Paper = Literal["ok", "near_end", "end", "unknown"]
PrinterError = Literal["cutter", "ribbon", "recoverable", "unrecoverable", "unknown"]


@dataclass(frozen=True, slots=True)
class Scan:
    """One code, whole, as the scanner decoded it.

    `text` has neither prefix, suffix nor AIM identifier; GS (0x1D) may stand inside it. `aim` is the
    identifier without its bracket ("E0" for EAN-13) or None when the device sent none. `raw` is what came
    over the line: the frame with its suffix or, for a keyboard scanner, three bytes per key event (code, big
    endian, and value). `captured_ns` is CLOCK_MONOTONIC in nanoseconds, stamped by the driver; protocols
    leave 0.
    """

    text: str
    raw: bytes
    aim: str | None = None
    captured_ns: int = 0


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight: `value` is the decimal string that the scale resolved ("0.482"), never a float.

    A negative value begins with "-". `stable` False must not be sold by. `net` says whether a tare was taken off (None:
    the scale does not say); `tare` is its value where the protocol tells it. `raw` is the frame. `captured_ns` as in
    `Scan`.
    """

    value: str
    unit: Unit
    stable: bool
    net: bool | None
    tare: str | None
    raw: bytes
    captured_ns: int = 0


ScaleFault = Literal[
    "busy",
    "no_weight",
    "below_minimum",
    "out_of_range",
    "not_moved",
    "needs_zero",
    "needs_calibration",
    "needs_price",
    "needs_checksum",
    "device_fault",
    "refused",
]
"""What else a scale says of itself: it works at something; it has none; too little lies on it; too little or too much
does, it does not say which; nothing has been taken off since the last weight; it must be zeroed; it must be calibrated;
it weighs only with another unit price; it weighs only for software that knows its maker's checksum; it is broken; it
does not do this command."""


@dataclass(frozen=True, slots=True)
class ScaleStatus:
    """Why a scale gives no weight, or what it did with a command. `raw` is the frame."""

    raw: bytes
    motion: bool = False
    over: bool = False
    under_zero: bool = False
    outside_zero_capture: bool = False
    centre_of_zero: bool = False
    net: bool = False
    fault: ScaleFault | None = None

    @property
    def reason(self) -> str | None:
        """The `NotReady` code of the worst condition, or None when nothing stands in the way."""
        if self.fault is not None and self.fault != "no_weight":
            return self.fault
        if self.over:
            return "over"
        if self.under_zero:
            return "under_zero"
        if self.motion:
            return "in_motion"
        return self.fault


@dataclass(frozen=True, slots=True)
class PrinterStatus:
    """Everything the printer has said of itself so far; what it has not said is None or "unknown".

    `error` None means that the printer said "no error"; "unknown" that it has not said.
    `raw` is the reply or automatic status that completed this picture.
    """

    online: bool | None
    cover_open: bool | None
    paper: Paper
    error: PrinterError | None
    raw: bytes
    feeding: bool | None = None

    @property
    def reason(self) -> str | None:
        """The `NotReady` code of what keeps the printer from printing, or None when nothing known does."""
        if self.cover_open:
            return "cover_open"
        if self.paper == "end":
            return "paper_out"
        if self.error not in (None, "unknown"):
            return f"printer_error_{self.error}"
        if self.online is False:
            return "printer_offline"
        return None


@dataclass(frozen=True, slots=True)
class DrawerStatus:
    """The level of pin 3 of the drawer connector; which level means "open" belongs to the drawer."""

    pin3_high: bool | None


@dataclass(frozen=True, slots=True)
class PrintProof:
    """The printer's word that all before this token is on paper. `token` is 4 printable ASCII bytes."""

    token: bytes


@dataclass(frozen=True, slots=True)
class Noise:
    """Bytes that made no sense, kept whole (up to the protocol's bound) to be counted and put in quarantine.

    `reason` is for people: "not UTF-8", "cut off"; `code` is stable, for programs. Nothing of a Noise may reach a till
    as a scan or a weight. Codes of scanners: "cut_off", "lost_events", "control_characters", "not_text",
    "prefix_missing", "aim_missing", "empty", "too_long", "keys_not_understood"; whoever has no better says "garbled".
    """

    raw: bytes
    reason: str
    code: str = "garbled"


@dataclass(frozen=True, slots=True)
class Handshake:
    """Bytes that a protocol must say at once for the device to go on. The driver writes them; nobody else sees them."""

    data: bytes


Event = Scan | Weight | ScaleStatus | PrinterStatus | DrawerStatus | PrintProof | Noise | Handshake
