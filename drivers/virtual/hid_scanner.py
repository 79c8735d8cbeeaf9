"""A virtual HID POS scanner: reports as Hand Held Products' "USB Interfaces User's Guide" 2020-5B, page 1-11, lays them
out, over a report socket.

    02  length  ]  c  m  data (56 bytes)  symbology of the maker  reserved  bit 0: more follows

Longer codes take several reports, of which all but the last are full. Maker "honeywell" says nothing before feature
report 254 is 01; maker "datalogic" keeps one byte free in front of the AIM identifier and has no such feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drivers.virtual.report_wire import ReportWire
from drivers.virtual.twin import Table, Twin, get, get_hex

_HEAD = "05 8c 09 02 a1 01"  # usage page bar code scanner, usage bar code scanner, application collection
_NAMED = (  # report 2 by usage: byte count, three symbology identifiers, 56 bytes of data, two more, continued, padding
    "09 12 a1 02 85 02 15 00 26 ff 00 75 08 95 01 05 01 09 3b 81 02 95 03 05 8c 09 fb 09 fc 09 fd 81 02"
    "95 38 09 fe 82 02 01 95 02 06 66 ff 09 04 81 02 05 8c 25 01 75 01 95 01 09 ff 81 02 75 07 81 03 c0"
)
_WHOLE = "09 12 a1 02 85 02 15 00 26 ff 00 75 08 95 3f 09 12 81 02 c0"  # report 2: 63 bytes that are not told apart
_MODE = "06 66 ff 09 01 a1 02 85 fe 15 00 25 01 75 08 95 01 09 20 b1 02 c0"  # feature report 254 of the maker
_MAKERS = {
    "honeywell": (0x0C2E, 0x0B81, _HEAD + _NAMED + _MODE + "c0"),
    "zebra": (0x05E0, 0x1300, _HEAD + _NAMED + "c0"),
    "datalogic": (0x05F9, 0x2216, _HEAD + _WHOLE + "c0"),
    "keyboard": (0x0C2E, 0x0B61, "05 01 09 06 a1 01 05 07 19 e0 29 e7 15 00 25 01 75 01 95 08 81 02 c0"),
}
_DATA_BYTES = 56


class VirtualHidScanner(Twin):
    """Options: maker ("honeywell", "zebra", "datalogic"; "keyboard" is one that is not set to HID POS).

    Actions: scan, cut_scan (the last report of a long code never comes).
    """

    kind = "scanner"

    def __init__(self, name: str, wire: ReportWire, *, maker: str = "honeywell") -> None:
        super().__init__(name, wire)
        if maker not in _MAKERS:
            raise ValueError(f"maker: is {maker!r}; expected one of {', '.join(_MAKERS)}")
        self._maker = maker
        number, product, descriptor = _MAKERS[maker]
        wire.introduce(number, product, bytes.fromhex(descriptor))
        self._pos_mode = maker != "honeywell"
        self.scans = 0
        self.actions |= {"scan": self._scan, "cut_scan": self._cut_scan}

    def connected(self) -> None:
        """A scanner that was plugged in anew waits for its mode again."""
        self._pos_mode = self._maker != "honeywell"

    def received(self, data: bytes) -> None:
        """Take feature report 254."""
        if data == b"F\xfe\x01":
            self._pos_mode = True

    def reports(self, text: str, aim: str = "") -> list[bytes]:
        """The reports of one scan."""
        data = text.encode("utf-8")
        parts = [data[at : at + _DATA_BYTES] for at in range(0, len(data), _DATA_BYTES)] or [b""]
        identifier = b"]" + aim.encode("ascii") if aim else b"]X0"
        free = b"\0" if self._maker == "datalogic" else b""
        made = []
        for number, part in enumerate(parts, 1):
            report = bytes((2, len(part))) + free + identifier + part.ljust(_DATA_BYTES, b"\0")
            more = b"\x01" if number < len(parts) else b"\x00"
            made.append(report.ljust(63, b"\0") + more)
        return made

    def scan(self, text: str, aim: str = "") -> None:
        """Scan a label; a scanner that is not in its mode only beeps."""
        self.scans += 1
        self._send(self.reports(text, aim))

    def state(self) -> Table:
        """Adds the number of labels scanned and whether it reports at all."""
        return {**super().state(), "scans": self.scans, "reports": self._pos_mode}

    def _send(self, reports: list[bytes]) -> None:
        if self._pos_mode:
            for report in reports:
                self.wire.send(report)

    async def _scan(self, arguments: Mapping[str, Any]) -> Table:
        if "raw" in arguments:
            self.scans += 1
            reports = [get_hex(arguments, "raw")]
            self._send(reports)
        else:
            text, aim = get(arguments, "text", str), get(arguments, "aim", str, "")
            self.scan(text, aim)
            reports = self.reports(text, aim)
        return {"sent": " | ".join(report.hex(" ") for report in reports)}

    async def _cut_scan(self, arguments: Mapping[str, Any]) -> Table:
        text = get(arguments, "text", str).ljust(_DATA_BYTES + 1, "0")
        reports = self.reports(text, get(arguments, "aim", str, ""))[:-1]
        self._send(reports)
        return {"sent": " | ".join(report.hex(" ") for report in reports)}
