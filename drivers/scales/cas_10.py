r"""CAS 10-byte stream: the weight and nothing else, all the time.

Documents: CAS CI-150A manual, appendix 1 (page 55); CI-600D, 10-2 (page 75); PDI, 8-2-2 (page 36). Line: 9600 8N1.

    WWWWWWWW CR LF        eight characters with point and, when negative, sign ("000013.5")

Neither unit nor rest nor overload is said: `unit` must be as the scale is set, and a weight is at rest when it has come
`same` times in succession (CAS indicators send ten times a second or more often, so twice would prove little). Where
the 22-byte form can be set, set that. The strategy: `Frames` to CR LF, judged whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from drivers.events import Event, Noise, Weight
from drivers.framing import Frames
from drivers.scales.base import ScaleProtocol, plain_decimal

FRAME_LIMIT_BYTES = 10

_FRAME = re.compile(rb"([ 0-9.+-]{7}[0-9])\r\n")


@dataclass(frozen=True, slots=True)
class Cas10Options:
    """`unit` is what the scale weighs in; it does not say so itself. `same`: how often a weight comes to be at rest."""

    unit: Literal["kg", "g", "lb"]
    same: int = 5

    def __post_init__(self) -> None:
        """Refuse what proves nothing, or never comes."""
        if not 2 <= self.same <= 100:
            raise ValueError(f"same: is {self.same}; expected a number from 2 to 100")


class Cas10(ScaleProtocol):
    """What the scale sends in; `Weight` and `Noise` out."""

    def __init__(self, options: Cas10Options) -> None:
        super().__init__(Frames(end=b"\r\n", limit_bytes=FRAME_LIMIT_BYTES))
        self._unit = options.unit
        self._wanted = options.same
        self._last: str | None = None
        self._times = 0

    def cut_off(self) -> Sequence[Event]:
        """The link ended or begins anew: forget all; what was begun is reported."""
        self._last = None
        return super().cut_off()

    def _judge(self, raw: bytes) -> Sequence[Event]:
        match = _FRAME.fullmatch(raw)
        value = plain_decimal(match[1].decode("ascii")) if match else None
        self._times = min(self._times + 1, self._wanted) if value is not None and value == self._last else 1
        self._last = value
        if value is None:
            return [Noise(raw, "not eight characters of weight")]
        return [Weight(value, self._unit, self._times >= self._wanted, net=None, tare=None, raw=raw)]
