r"""Checkout Dialog 02 and 04: records of Mettler Toledo, Bizerba, Ohaus, Dibal and other checkout scales.

Documents: Ohaus Aviator 7000 service manual, V13, 6.1.6 "Dialog 02 / 04" (page 45); records 02 and 09 and the order of
events as Dialog 06 has them: Mettler Toledo DIVA service manual, 72191202, 05/2012, 6.1.8 (pages 54 and 55). Line: 7O1,
2400 baud (02) or 4800 baud (04).

    EOT STX 01 ESC pppppp ESC ETX     ACK     the unit price is taken            NAK     it is not
    EOT ENQ                           STX 02 ESC u ESC wwwww ESC pppppp ESC aaaaaa ETX
                                      NAK     no weight: ask why
    EOT STX 08 ETX                    STX 09 ESC ss ETX
    EOT                               (after every answer; the next command begins with it anyway)

    u    0 lb:oz 1/8 oz | 1 lb, 0.01 | 2 lb, 0.005 | 3 kg               w    weight without its point
    p    unit price, 5 or 6 digits, as it was sent                      a    price to pay
    s    00 no error | 01 general error | 02 parity or overflow | 10 record | 11 unit price | 12 tare | 13 text invalid
         20 in motion | 21 not moved since the last weighing | 22 not yet finished
         30 below the minimum weight | 31 below zero | 32 overloaded

A weight is given only at rest, and only once: then 21, until something is lifted (some scales can be set otherwise).
Whether the scale has a tare of its own is not said. Nothing but the parity protects a record, so the price must be the
one that was sent. Pounds with ounces are refused. The strategy: `Frames` from STX to ETX, and ACK and NAK between
them; each answer leads to the next question. A chain that is too long is left: a scale that never ends is no scale.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drivers.events import Event, Handshake, Noise, ScaleStatus, Unit, Weight
from drivers.framing import Frames
from drivers.scales.base import ScaleProtocol

STX, ETX, EOT, ENQ, ACK, NAK, ESC = b"\x02", b"\x03", b"\x04", b"\x05", b"\x06", b"\x15", b"\x1b"
ASK_WEIGHT = EOT + ENQ
ASK_STATUS = EOT + STX + b"08" + ETX
FRAME_LIMIT_BYTES = 40
STEPS_LIMIT = 8

_RECORD_02 = re.compile(rb"02\x1b([0-3])\x1b([0-9]{5})\x1b([0-9]{5,6})\x1b([0-9]{6})")
_RECORD_09 = re.compile(rb"09\x1b([0-9]{2})")
_UNITS: Mapping[bytes, tuple[Unit, int]] = {b"1": ("lb", 2), b"2": ("lb", 3), b"3": ("kg", 3)}
_CODES: Mapping[bytes, Mapping[str, Any]] = {
    b"00": {"fault": "no_weight"},
    b"01": {"fault": "device_fault"},
    b"10": {"fault": "refused"},
    b"11": {"fault": "needs_price"},
    b"12": {"fault": "refused"},
    b"13": {"fault": "refused"},
    b"20": {"motion": True},
    b"21": {"fault": "not_moved"},
    b"22": {"fault": "busy"},
    b"30": {"fault": "below_minimum"},
    b"31": {"under_zero": True},
    b"32": {"over": True},
}


@dataclass(frozen=True, slots=True)
class Dialog02Options:
    """`unit_price` is what the scale is told before it weighs, six digits; it prices nothing for us.

    A scale that takes no price of zero says 11 or, some do, 22 for as long as it is told one: choose another then.
    """

    unit_price: str = "000000"

    def __post_init__(self) -> None:
        """Refuse what does not fit the field."""
        if not re.fullmatch(r"[0-9]{6}", self.unit_price):
            raise ValueError(f"unit_price: is {self.unit_price!r}; expected six digits")


class Dialog02(ScaleProtocol):
    """What the scale answers in; `Weight`, `ScaleStatus`, `Handshake` and `Noise` out."""

    answer_ms = 1500
    probed = False

    def __init__(self, options: Dialog02Options | None = None) -> None:
        super().__init__(Frames(start=STX, end=ETX, alone=ACK + NAK, limit_bytes=FRAME_LIMIT_BYTES))
        self._price = (options or Dialog02Options()).unit_price
        self._steps = 0
        self._status_asked = False

    def weigh(self) -> bytes:
        """Begin a weighing: send the unit price."""
        self._steps = 0
        self._status_asked = False
        return self._price_record()

    def cut_off(self) -> Sequence[Event]:
        """The link ended or begins anew: forget all; what was begun is reported."""
        self._steps = 0
        self._status_asked = False
        return super().cut_off()

    def _judge(self, raw: bytes) -> Sequence[Event]:
        asked, self._status_asked = self._status_asked, False
        if raw == ACK:
            return self._next(raw, ASK_WEIGHT)
        if raw == NAK and asked:
            return self._end(ScaleStatus(raw, fault="refused"))
        if raw == NAK:
            self._status_asked = True
            return self._next(raw, ASK_STATUS)
        return self._record(raw, raw[1:-1])

    def _record(self, raw: bytes, record: bytes) -> Sequence[Event]:
        if match := _RECORD_02.fullmatch(record):
            return self._end(self._weight(raw, *match.group(1, 2, 3)))
        if match := _RECORD_09.fullmatch(record):
            return self._end(_status(raw, match[1]))
        return self._end(Noise(raw, "not a record of a scale"))

    def _weight(self, raw: bytes, state: bytes, digits: bytes, price: bytes) -> Event:
        if state not in _UNITS:
            return Noise(raw, "pounds with ounces cannot be taken; set the scale to one unit")
        if int(price) != int(self._price):
            return Noise(raw, "a weight for another unit price")
        unit, decimals = _UNITS[state]
        text = digits.decode("ascii")
        value = f"{int(text[:-decimals])}.{text[-decimals:]}"
        return Weight(value, unit, stable=True, net=None, tare=None, raw=raw)

    def _price_record(self) -> bytes:
        return EOT + STX + b"01" + ESC + self._price.encode("ascii") + ESC + ETX

    def _next(self, raw: bytes, question: bytes) -> Sequence[Event]:
        """Ask on, unless it has gone on for too long."""
        self._steps += 1
        if self._steps > STEPS_LIMIT:
            return [Noise(raw, "an exchange without an end")]
        return [Handshake(question)]

    def _end(self, event: Event) -> Sequence[Event]:
        """The exchange is over: the scale wants an EOT."""
        self._steps = 0
        return [event, Handshake(EOT)]


def _status(raw: bytes, code: bytes) -> Event:
    if code == b"02":
        return Noise(raw, "the scale heard rubbish: parity error or overflow")
    if code not in _CODES:
        return Noise(raw, f"an unknown status ({code.decode('ascii')})")
    return ScaleStatus(raw, **_CODES[code])
