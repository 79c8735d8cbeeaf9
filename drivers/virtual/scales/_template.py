"""A virtual SCALE: answers as the document (title, revision, page) says. Written from it, never from our parser.

Say here what is sent while moving, over, under zero, and what is not sent at all.
"""

from __future__ import annotations

from drivers.virtual.scales.base import VirtualScale


class VirtualTemplate(VirtualScale):
    """Options: unit ("kg"), capacity."""

    def received(self, data: bytes) -> None:
        """Take commands: `W CR` asks for the weight, `Z CR` zeroes."""
        silent = self.plate.moving or self.plate.over or self.plate.under
        if b"W" in data and not silent:
            self.weighings += 1
            self.wire.send(f"{self.plate.net:8.3f} kg\r\n".encode("ascii"))
        elif b"Z" in data:
            self.plate.set_zero()
