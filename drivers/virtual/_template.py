"""A virtual SCANNER: sends what the document (title, revision, page) says. Written from it, never from our parser."""

from __future__ import annotations

from drivers.virtual.scanner import VirtualScanner
from drivers.virtual.wire import Wire


class VirtualTemplate(VirtualScanner):
    """No options. Actions: scan, cut_scan."""

    def __init__(self, name: str, wire: Wire) -> None:
        super().__init__(name, wire)

    def frame(self, text: str, aim: str = "") -> bytes:
        """The bytes of one scan: STX, the text, ETX; the symbology is not sent."""
        return b"\x02" + text.encode("ascii") + b"\x03"
