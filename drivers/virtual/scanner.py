"""A virtual serial scanner: what it is told to scan goes over the line as a real one would send it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drivers.virtual.twin import Table, Twin, get, get_hex
from drivers.virtual.wire import Wire

SUFFIXES = {"cr": b"\r", "crlf": b"\r\n", "lf": b"\n", "tab": b"\t", "etx": b"\x03", "none": b""}


class VirtualScanner(Twin):
    """Sends [prefix] [AIM identifier] text suffix. Actions: scan, cut_scan (stops in the middle)."""

    kind = "scanner"

    def __init__(self, name: str, wire: Wire, *, suffix: str = "cr", prefix: str = "") -> None:
        super().__init__(name, wire)
        self._suffix = SUFFIXES[suffix]
        self._prefix = prefix.encode("utf-8")
        self.scans = 0
        self.actions |= {"scan": self._scan, "cut_scan": self._cut_scan}

    def frame(self, text: str, aim: str = "") -> bytes:
        """The bytes of one scan."""
        identifier = f"]{aim}".encode("ascii") if aim else b""
        return self._prefix + identifier + text.encode("utf-8") + self._suffix

    def scan(self, text: str, aim: str = "") -> None:
        """Scan a label."""
        self.scans += 1
        self.wire.send(self.frame(text, aim))

    def state(self) -> Table:
        """Adds the number of labels scanned."""
        return {**super().state(), "scans": self.scans}

    async def _scan(self, arguments: Mapping[str, Any]) -> Table:
        self.scans += 1
        if "raw" in arguments:
            data = get_hex(arguments, "raw")
        else:
            data = self.frame(get(arguments, "text", str), get(arguments, "aim", str, ""))
        self.wire.send(data)
        return {"sent": data.hex(" ")}

    async def _cut_scan(self, arguments: Mapping[str, Any]) -> Table:
        data = self.frame(get(arguments, "text", str), get(arguments, "aim", str, ""))
        data = data[: max(1, len(data) // 2)]
        self.wire.send(data)
        return {"sent": data.hex(" ")}
