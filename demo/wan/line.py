"""One direction of the network: a bottleneck with a bounded queue, then a fixed delay. No I/O and no clock of its own.

            queue (bounded)      bottleneck          delay
    admit -> [ ][ ][ ][ ] -> bytes_per_s -> ... delay_s ... -> due

As in a router, whatever comes is served in order of arrival, whichever connection it belongs to. Where no bandwidth is
set nothing queues. A full queue takes no more: the caller stops reading, and TCP tells the sender.
"""

from __future__ import annotations

from dataclasses import dataclass

PACKET_BYTES = 1_448  # what one Ethernet frame carries of a TCP stream
SLICE_S = 0.002  # a fast line is served in slices of this long: a timer per packet would be the bottleneck
QUEUE_S = 0.1  # what the queue of a line holds: about what a home router's does
QUEUE_LEAST_BYTES = 8 * PACKET_BYTES
READ_BYTES = 256 << 10  # at most read at once
IN_FLIGHT_BYTES = 4 << 20  # of one connection without a bandwidth, as a TCP window


@dataclass(slots=True)
class Line:
    """`delay_s` one way; `bytes_per_s` 0 for as fast as it goes; `cut` when nothing arrives."""

    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    cut: bool = False
    carried_bytes: int = 0
    _free_at: float = 0.0

    @property
    def plain(self) -> bool:
        """Whether a packet arrives at once."""
        return not (self.cut or self.delay_s or self.bytes_per_s)

    @property
    def queue_bytes(self) -> int:
        """How much the queue before the bottleneck holds."""
        return max(QUEUE_LEAST_BYTES, int(self.bytes_per_s * QUEUE_S)) if self.bytes_per_s else IN_FLIGHT_BYTES

    @property
    def packet_bytes(self) -> int:
        """How much goes through the bottleneck in one piece."""
        return max(PACKET_BYTES, int(self.bytes_per_s * SLICE_S)) if self.bytes_per_s else READ_BYTES

    def room_bytes(self, now_s: float) -> int:
        """How much the queue can take now."""
        queued = max(0.0, self._free_at - now_s) * self.bytes_per_s
        return max(0, self.queue_bytes - int(queued))

    def half_empty_at_s(self, now_s: float) -> float:
        """When half of the queue will be free, should nothing more come."""
        if not self.bytes_per_s:
            return now_s
        return max(now_s, self._free_at - self.queue_bytes / 2 / self.bytes_per_s)

    def admit(self, now_s: float, size_bytes: int) -> float:
        """Take a packet into the queue; when it arrives at the other end."""
        if self.bytes_per_s:
            self._free_at = max(now_s, self._free_at) + size_bytes / self.bytes_per_s
            return self._free_at + self.delay_s
        return now_s + self.delay_s
