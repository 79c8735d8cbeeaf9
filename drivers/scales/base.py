"""What all scale protocols share: a scale that frames its answers, is asked, and may be told to zero and tare.

A protocol of its own says how a frame is found (`self._frames`), what it means (`_judge`) and which commands there
are. What it does not say stands here: no zero, no tare, answers within 600 ms, 200 ms between two commands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Literal

from drivers.errors import BadOption
from drivers.events import Event, Noise, ScaleStatus, Unit, Weight
from drivers.framing import Frames


class ScaleProtocol:
    """Base of the scale protocols: bytes in, `Weight`, `ScaleStatus`, `Handshake` and `Noise` out. No I/O, no clock."""

    command_gap_ms = 200
    """The scale needs this pause between two commands."""
    answer_ms = 600
    """A scale that answers at all does so in far less; after this it is asked again."""
    late_ms = 2000
    """After this an unanswered command will not be answered any more."""
    acknowledges: Literal["status", "weight", "not"] = "status"
    """What zero, tare and clear are answered by: a `ScaleStatus`, or a `Weight` as it is now. If by nothing, the driver
    weighs to see what they did."""
    tells_motion = True
    """Whether a weight comes with the scale's word that it is at rest. If not, its weights are never `stable`, and the
    driver asks on until two answers in succession are the same."""
    silence = "no_answer"
    """The `NotReady` reason when nothing comes: "no_answer", or "unchanged" for scales that repeat nothing."""
    repeats = False
    """Whether it sends its weight by itself, again and again: the first after a request may be older than that."""
    probed = True
    """Whether a weight may be asked for only to see that the scale is there."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self.idle_ms: int | None = 300

    # -- commands: bytes for the scale, or None where the protocol has no such command ---------------------------------

    def weigh(self) -> bytes:
        """Ask for the weight; empty where the scale sends weights by itself, all the time."""
        return b""

    def zero(self) -> bytes | None:
        """Ask to be zeroed."""
        return None

    def tare(self) -> bytes | None:
        """Ask to take what lies on the plate as tare."""
        return None

    def tare_value(self, value: str, unit: Unit) -> bytes | None:
        """Set a known tare, such as "0.125" "kg"; raises BadOption when the protocol cannot write it exactly."""
        return None

    def clear_tare(self) -> bytes | None:
        """Clear the tare."""
        return None

    # -- answers -------------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """True while a frame, or rubbish between frames, is being collected."""
        return self._frames.pending

    def receive(self, data: bytes) -> Sequence[Event]:
        """Take a chunk, split anywhere; return what each frame that it ended means, and rubbish as Noise."""
        events: list[Event] = []
        for frame in self._frames.push(data):
            if isinstance(frame, Noise):
                events.append(frame)
            else:
                events += self._judge(frame)
        return events

    def owns(self, event: Event) -> bool:
        """Whether an event is the scale's own, on a line that it shares; rubbish is when it can have been an answer."""
        return isinstance(event, Weight | ScaleStatus | Noise)

    def idle(self) -> Sequence[Event]:
        """Silence within a frame: its end will never come."""
        return self._frames.give_up()

    def cut_off(self) -> Sequence[Event]:
        """The link ended or begins anew: forget all; what was begun is reported."""
        return self._frames.give_up()

    def _judge(self, raw: bytes) -> Sequence[Event]:
        """What one whole frame means, start and end included; `Noise` with a reason when it means nothing."""
        raise NotImplementedError


def tare_decimal(value: str) -> Decimal:
    """A known tare as a number; raises BadOption unless it is a plain decimal that is not negative."""
    if not re.fullmatch(r"\d{1,9}(\.\d{1,6})?", value, re.ASCII):
        raise BadOption("tare", f"is {value!r}; expected a decimal such as 0.125")
    return Decimal(value)


def tare_digits(value: str, count: int, decimals: int) -> bytes:
    """A known tare in `count` digits, of which `decimals` stand after a point that is not written.

    Raises BadOption when it is no plain decimal, or cannot be written so without loss.
    """
    steps = tare_decimal(value).scaleb(decimals)
    if steps != steps.to_integral_value() or len(str(int(steps))) > count:
        raise BadOption("tare", f"is {value!r}; this scale takes {count} digits, {decimals} of them after the point")
    return f"{int(steps):0{count}d}".encode("ascii")


def plain_decimal(text: str) -> str | None:
    """A weight as it stands in a frame, without fill (" 001.250" is "1.250", "- 0.5" is "-0.5"); None: no decimal.

    All digits that the scale resolved stay; only leading fill goes. Minus zero is zero.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        return None
    value = f"{int(match[2])}{match[3] or ''}"
    return match[1] + value if match[1] == "-" and value.strip("0.") else value


UNITS: Mapping[str, Unit] = {"kg": "kg", "g": "g", "lb": "lb", "oz": "oz"}
"""The units that a till sells by, as most scales write them: in a frame any other word is no unit."""

_DECIMAL = re.compile(r" *([-+]?) *(\d+)(\.\d+)? *", re.ASCII)
