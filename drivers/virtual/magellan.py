"""A virtual Magellan on a single cable: a window that scans and a plate that weighs, on one line.

Written from Datalogic KA-01089 (weights and status) and NCR's user's guides (labels). Labels go out whenever something
is scanned; S11 is answered only with a stable weight that is more than nothing, S14 always. Four digits are pounds,
five are kilograms. Form "stx": STX and ETX in place of S and CR.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drivers.virtual.scales.base import VirtualScale
from drivers.virtual.twin import Table, get, get_hex
from drivers.virtual.wire import Wire

_COMMAND_LIMIT_BYTES = 16
_SYMBOLOGIES = {"E4": "FF", "e0": "R4", "A0": "B1", "I0": "B2", "C0": "B3"}


class VirtualMagellan(VirtualScale):
    """Options: unit ("kg", "lb"), capacity, form ("s", "stx"). Actions besides those of a scale: scan, cut_scan."""

    def __init__(self, name: str, wire: Wire, *, unit: str = "kg", capacity: str = "15", form: str = "s") -> None:
        super().__init__(name, wire, unit=unit, capacity=capacity)
        if unit not in ("kg", "lb"):
            raise ValueError(f"unit: is {unit!r}; expected kg or lb")
        self._begin, self._end = (b"\x02", b"\x03") if form == "stx" else (b"S", b"\r")
        self._command = bytearray()
        self.scans = 0
        self.beeps = 0
        self.actions |= {"scan": self._scan, "cut_scan": self._cut_scan}

    def received(self, data: bytes) -> None:
        """Take commands."""
        for byte in data:
            self._command.append(byte)
            if self._command.endswith(self._end):
                self._obey(bytes(self._command).removeprefix(self._begin).removesuffix(self._end))
                self._command.clear()
            elif len(self._command) > _COMMAND_LIMIT_BYTES:
                self._command.clear()

    def frame(self, text: str, aim: str = "") -> bytes:
        """The bytes of one label; an `aim` that has no label identifier is sent as AIM identifier."""
        if aim == "E0":
            identifier = {8: "E", 12: "A"}.get(len(text), "F")
        elif not aim:
            identifier = "B3"
        else:
            identifier = _SYMBOLOGIES.get(aim, f"]{aim}")
        return self._begin + f"08{identifier}{text}".encode() + self._end

    def scan(self, text: str, aim: str = "E0") -> None:
        """Scan a label."""
        self.scans += 1
        self.wire.send(self.frame(text, aim))

    def state(self) -> Table:
        """Adds the number of labels scanned, and how often the host had it beep."""
        return {**super().state(), "scans": self.scans, "beeps": self.beeps}

    def _obey(self, command: bytes) -> None:
        plate = self.plate
        stable = not (plate.moving or plate.over or plate.under or plate.gross == 0)
        if command == b"11" and stable:
            self._say("11" + self._digits())
        elif command == b"14":
            self._say("144" + self._digits() if stable else f"14{self._why_not()}")
        elif command == b"334":
            self.beeps += 1

    def _digits(self) -> str:
        self.weighings += 1
        return str(self.plate.gross).replace(".", "").rjust(5 if self.plate.unit == "kg" else 4, "0")

    def _why_not(self) -> int:
        plate = self.plate
        if plate.moving:
            return 1
        if plate.over:
            return 2
        return 5 if plate.under else 3

    def _say(self, message: str) -> None:
        self.wire.send(self._begin + message.encode("ascii") + self._end)

    async def _scan(self, arguments: Mapping[str, Any]) -> Table:
        self.scans += 1
        if "raw" in arguments:
            data = get_hex(arguments, "raw")
        else:
            data = self.frame(get(arguments, "text", str), get(arguments, "aim", str, "E0"))
        self.wire.send(data)
        return {"sent": data.hex(" ")}

    async def _cut_scan(self, arguments: Mapping[str, Any]) -> Table:
        data = self.frame(get(arguments, "text", str), get(arguments, "aim", str, "E0"))
        data = data[: len(data) // 2]
        self.wire.send(data)
        return {"sent": data.hex(" ")}
