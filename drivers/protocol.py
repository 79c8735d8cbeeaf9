"""The shape of every protocol: bytes in, events out. No I/O, no clock, no logging.

Where a frame ends with silence, the protocol names the silence (`idle_ms`) and the driver measures it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from drivers.events import Event


class DeviceProtocol(Protocol):
    """A parser of what one device sends. One instance belongs to one driver."""

    idle_ms: int | None
    """With a frame begun and no byte for this many milliseconds, the driver calls `idle`; None: never."""

    @property
    def pending(self) -> bool:
        """True while a frame is begun and not ended."""

    def receive(self, data: bytes) -> Sequence[Event]:
        """Take a chunk, split anywhere; return the events that it completed."""

    def idle(self) -> Sequence[Event]:
        """Silence of `idle_ms` has passed: the frame is whole (if silence ends it) or cut off."""

    def cut_off(self) -> Sequence[Event]:
        """The link ended or begins anew: forget all; a frame begun is reported as Noise, never delivered."""
