r"""Magellan single cable: one serial line for a scanner and the scale in it (PSC and Datalogic Magellan, NCR RealScan).

Documents: Datalogic knowledge base KA-01089 "Scale communication, RS-232 single cable" (weights and status); Datalogic
"Gryphon GD44xx Product Reference Guide", table 35, USA set (label identifiers F, FF, R4, RL, RX); NCR "7890 User's
Guide" BD20-0901-A, page 5-57 (A, E, F, G, B1 to B3) and "RealPOS 7893 User Guide", page 5-52 (the same messages with
STX and ETX; `08` is address and function of a label). Line: 9600 7O1.

    S08 id data CR      a label, whenever one is read          S11 CR  ->  S11 weight CR, once it is stable
    S14 CR              ->  S140 CR   cannot find zero         S143 CR   stable, at zero
                            S141 CR   in motion                S144 weight CR   stable
                            S142 CR   over capacity            S145 CR   under zero

    S334 CR             it beeps, as after a good scan

    id   A UPC-A   E UPC-E   F EAN-13 (EAN-8 with eight digits)   FF EAN-8   G EAN-13 (NCR)
         B1 Code 39   B2 Interleaved 2 of 5   B3 Code 128   R4, RL, RX GS1 DataBar; an AIM identifier ]cm may follow
    weight   four digits 00.00 lb, or five digits 00.000 kg, without the point

The strategy: split at the end, judge each message whole. S has no meaning as a start (it stands in codes, too); STX
does. The scale is asked with S14, which is always answered, so that a weighing knows why there is no weight. An AIM
identifier is told where the label identifier tells it: of Code 128 it does not say whether it is GS1-128, and UPC
codes without their check digit are plain text (set the scanner to send UPC-E with number system and check digit). A
label identifier that is not in the table is Noise, for its data cannot be told from it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from drivers.events import Event, Noise, ScaleStatus, Scan, Unit, Weight
from drivers.framing import Frames
from drivers.scales.base import ScaleProtocol
from drivers.scanners.label import FRAME_LIMIT_BYTES, Label

STX, ETX, CR = b"\x02", b"\x03", b"\r"
_LABEL_FUNCTION, _WEIGHT_FUNCTION, _MONITOR_FUNCTION = b"08", b"11", b"14"

_EAN_UPC = frozenset(("A", "E", "F", "FF", "G"))
_DATABAR = frozenset(("R4", "RL", "RX"))
_ONE_D = {"B1": "A0", "B2": "I0", "B3": None}  # Code 39, Interleaved 2 of 5, Code 128
_IDENTIFIED = re.compile(r"(FF|[AEFG]|B[123]|R[4LX]|(?=\]))(?:\]([A-Za-z][0-9A-Za-z]))?(.*)", re.DOTALL)
_WEIGHT = re.compile(rb"\d{4,5}")
_DATA = Label(aim="never")  # the identifier has been taken off before


@dataclass(frozen=True, slots=True)
class MagellanOptions:
    """`form`: messages with S and CR (Datalogic) or with STX and ETX (NCR, no check character).

    `unit` refuses weights of the other unit, should the scale be switched over; None takes both. Better set it where
    there is a scale: five digits of kilograms of which one got lost on the line look like pounds.
    """

    form: Literal["s", "stx"] = "s"
    unit: Literal["kg", "lb"] | None = None


@dataclass(frozen=True, slots=True)
class MagellanScaleOptions:
    """The scale in the scanner with the device id `scanner`."""

    scanner: str


class Magellan(ScaleProtocol):
    """What comes over the cable in; `Scan`, `Weight`, `ScaleStatus` and `Noise` out."""

    command_gap_ms = 100

    def __init__(self, options: MagellanOptions | None = None) -> None:
        options = options or MagellanOptions()
        self._start, self._end = (STX, ETX) if options.form == "stx" else (b"S", CR)
        self._unit = options.unit
        start = STX if options.form == "stx" else b""
        super().__init__(Frames(start=start, end=self._end, limit_bytes=FRAME_LIMIT_BYTES))
        self.idle_ms = 500

    def weigh(self) -> bytes:
        """Ask for the weight, or why there is none."""
        return self._start + _MONITOR_FUNCTION + self._end

    def beep(self) -> bytes:
        """Have the scanner beep, as after a good scan."""
        return self._start + b"334" + self._end

    def owns(self, event: Event) -> bool:
        """Whether an event is the scale's, not the scanner's; rubbish is when it begins as an answer of the scale."""
        if isinstance(event, Noise):
            return event.raw.lstrip(b"\r\n").startswith((self._start + b"11", self._start + b"14"))
        return isinstance(event, Weight | ScaleStatus)

    def idle(self) -> Sequence[Event]:
        """Silence within a message: its end will never come."""
        return self.cut_off()

    def cut_off(self) -> Sequence[Event]:
        """The line ended or begins anew: a message begun is reported, a stray end of line is not."""
        return [replace(rest, code="cut_off") for rest in self._frames.give_up() if rest.raw.strip(b"\r\n")]

    def _judge(self, raw: bytes) -> Sequence[Event]:
        message = raw.lstrip(b"\r\n")  # a scanner set to end with CR LF
        if not message:
            return ()
        if not message.startswith(self._start):
            return [Noise(raw, f"does not begin with {self._start.decode('ascii')!r}")]
        function, content = message[1:3], message[3 : -len(self._end)]
        if function == _LABEL_FUNCTION:
            return [self._label(raw, content)]
        if function == _WEIGHT_FUNCTION:
            return [self._weight(raw, content)]
        if function == _MONITOR_FUNCTION and content:
            return [self._monitored(raw, content[:1], content[1:])]
        return [Noise(raw, "neither a label nor a weight")]

    def _label(self, raw: bytes, content: bytes) -> Event:
        try:
            match = _IDENTIFIED.fullmatch(content.decode("utf-8"))
        except UnicodeDecodeError:
            return Noise(raw, "not UTF-8", "not_text")
        if match is None or not (match[1] or match[2]):
            return Noise(raw, "an unknown label identifier")
        identifier, aim, data = match.groups()
        label = _DATA.read(data, raw)
        return replace(label, aim=aim or _aim(identifier, data)) if isinstance(label, Scan) else label

    def _monitored(self, raw: bytes, status: bytes, rest: bytes) -> Event:
        if status == b"4":
            return self._weight(raw, rest)
        match b"" if rest else status:
            case b"0":
                return ScaleStatus(raw, fault="needs_zero")
            case b"1":
                return ScaleStatus(raw, motion=True)
            case b"2":
                return ScaleStatus(raw, over=True)
            case b"3":  # nothing lies on it; in which unit it would say nothing
                return ScaleStatus(raw, centre_of_zero=True, fault="below_minimum")
            case b"5":
                return ScaleStatus(raw, under_zero=True)
        return Noise(raw, "an unknown status of the scale")

    def _weight(self, raw: bytes, digits: bytes) -> Event:
        if _WEIGHT.fullmatch(digits) is None:
            return Noise(raw, "a weight of neither four nor five digits")
        unit: Unit = "lb" if len(digits) == 4 else "kg"
        if self._unit is not None and unit != self._unit:
            return Noise(raw, f"a weight in {unit}, where {self._unit} is configured")
        text = digits.decode("ascii")
        return Weight(f"{int(text[:2])}.{text[2:]}", unit, stable=True, net=None, tare=None, raw=raw)


def _aim(identifier: str, data: str) -> str | None:
    """The AIM identifier that a label identifier stands for; None where it does not tell enough."""
    size = len(data)
    if identifier in _EAN_UPC:
        if size in (14, 15, 17, 18):
            return "E3"  # with an add-on of two or five digits
        if size not in (8, 12, 13):
            return None  # without its check digit
        return "E4" if size == 8 and identifier != "E" else "E0"
    if identifier in _DATABAR:
        return None if identifier != "RX" and size != 16 else "e0"  # fourteen digits: without (01), no element string
    return _ONE_D[identifier]
