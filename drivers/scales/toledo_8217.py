r"""Toledo 8217: the scale of supermarket checkouts, asked with single letters.

Document: Mettler Toledo, host protocol "8217" as printed in the PSC Magellan 8500 service manual, section
6.1.3 "Command Descriptions" and 6.1.4.3 "Status Byte Format" (pages 39 and 45 of the scale's part). Line:
1200 to 19200 baud, 7E1. The host leaves at least 200 ms between two commands.

    W                 STX WW.WW CR    pounds, gross         STX WW.WWN CR    pounds, net
                      STX WW.WWW CR   kilograms, gross      STX WW.WWWN CR   kilograms, net
                      STX ? s CR      no weight: in motion, negative or over capacity
    Z                 STX ? s CR      zero, if stable, in range and no tare is taken
    T CR              STX ? s CR      tare what lies on the plate (about 150 ms later)
    T WWWWW CR        STX ? s CR      tare by value: WWW.WW lb or WW.WWW kg, five digits without the point
    C                 STX ? s CR      clear the tare

    s, the status byte:   7 parity | 6 always 1 | 5 net | 4 centre of zero | 3 outside zero capture range
                          | 2 under zero | 1 over capacity | 0 in motion

The number of decimals tells pounds from kilograms. A line opened as 8N1 shows the parity bit as bit 7, and
STX (one bit set) shows which it is: after 82 every byte must have even parity, after 02 none may have bit 7.
The strategy: hunt for STX, collect to CR, judge the frame whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from drivers.events import Event, Noise, ScaleStatus, Unit, Weight

STX, CR = 0x02, 0x0D
COMMAND_GAP_MS = 200
FRAME_LIMIT_BYTES = 16
SILENCE_CUTS_FRAME_MS = 300

_WEIGHT = re.compile(rb"(\d{1,5})\.(\d{2,3})(N?)")


@dataclass(frozen=True, slots=True)
class Toledo8217Options:
    """`unit` refuses weights of the other unit, should the scale be switched over; None takes both."""

    unit: Literal["kg", "lb"] | None = None


def weigh() -> bytes:
    """Ask for the weight."""
    return b"W"


def zero() -> bytes:
    """Ask to be zeroed."""
    return b"Z"


def tare() -> bytes:
    """Ask to take what lies on the plate as tare."""
    return b"T\r"


def tare_value(digits: str) -> bytes:
    """Set a known tare: five digits in the scale's own resolution ("00125" is 0.125 kg or 1.25 lb)."""
    if not re.fullmatch(r"[0-9]{5}", digits):
        raise ValueError(f"a tare is five digits without a point, not {digits!r}")
    return b"T" + digits.encode("ascii") + b"\r"


def clear_tare() -> bytes:
    """Clear the tare."""
    return b"C"


class Toledo8217:
    """What the scale answers in; `Weight`, `ScaleStatus` and `Noise` out."""

    command_gap_ms = COMMAND_GAP_MS
    weigh = staticmethod(weigh)
    zero = staticmethod(zero)
    tare = staticmethod(tare)
    tare_value = staticmethod(tare_value)
    clear_tare = staticmethod(clear_tare)

    def __init__(self, options: Toledo8217Options | None = None) -> None:
        self._unit = (options or Toledo8217Options()).unit
        self._frame = bytearray()
        self._rubbish = bytearray()
        self.idle_ms: int | None = SILENCE_CUTS_FRAME_MS

    @property
    def pending(self) -> bool:
        """True while a frame, or rubbish between frames, is being collected."""
        return bool(self._frame or self._rubbish)

    def receive(self, data: bytes) -> Sequence[Event]:
        """Take a chunk; return one event per frame that it ended, and rubbish between frames as Noise."""
        events: list[Event] = []
        for byte in data:
            bare = byte & 0x7F
            if bare == STX:
                self._give_up(events, "cut off" if self._frame else "bytes outside a frame")
                self._frame.append(byte)
            elif not self._frame:
                self._rubbish.append(byte)
                if len(self._rubbish) >= FRAME_LIMIT_BYTES * 16:
                    self._give_up(events, "bytes outside a frame")
            else:
                self._frame.append(byte)
                if bare == CR:
                    raw = bytes(self._frame)
                    self._frame.clear()
                    events.append(self._judge(raw))
                elif len(self._frame) > FRAME_LIMIT_BYTES:
                    self._give_up(events, "a frame without an end")
        return events

    def idle(self) -> Sequence[Event]:
        """Silence within a frame: its end will never come."""
        return self.cut_off()

    def cut_off(self) -> Sequence[Event]:
        """Forget what was begun; it is reported."""
        events: list[Event] = []
        self._give_up(events, "cut off" if self._frame else "bytes outside a frame")
        return events

    def _give_up(self, events: list[Event], reason: str) -> None:
        raw = bytes(self._rubbish + self._frame)
        self._rubbish.clear()
        self._frame.clear()
        if raw:
            events.append(Noise(raw, reason))

    def _judge(self, raw: bytes) -> Event:
        parity_shows = bool(raw[0] & 0x80)
        if any(byte.bit_count() % 2 if parity_shows else byte & 0x80 for byte in raw):
            return Noise(raw, "wrong parity")
        body = bytes(byte & 0x7F for byte in raw[1:-1])
        if len(body) == 2 and body[0] == ord("?"):
            return self._status(raw, body[1])
        match = _WEIGHT.fullmatch(body)
        if match is None:
            return Noise(raw, "neither a weight nor a status")
        unit: Unit = "kg" if len(match[2]) == 3 else "lb"
        if self._unit is not None and unit != self._unit:
            return Noise(raw, f"a weight in {unit}, where {self._unit} is configured")
        value = f"{int(match[1])}.{match[2].decode('ascii')}"
        return Weight(value, unit, stable=True, net=bool(match[3]), tare=None, raw=raw)

    @staticmethod
    def _status(raw: bytes, byte: int) -> Event:
        if not byte & 0x40:
            return Noise(raw, "a status byte without bit 6")
        return ScaleStatus(
            motion=bool(byte & 0x01),
            over=bool(byte & 0x02),
            under_zero=bool(byte & 0x04),
            outside_zero_capture=bool(byte & 0x08),
            centre_of_zero=bool(byte & 0x10),
            net=bool(byte & 0x20),
            raw=raw,
        )
