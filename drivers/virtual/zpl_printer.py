"""A virtual label printer: keeps the labels that it is sent, one file each, and tells its host status.

Written from the ZPL II Programming Guide 45541L-004 Rev. A: ^XA ... ^XZ is a format, ^PQ its quantity, ~HS is obeyed
the moment it arrives, ~JA throws away what waits. It draws nothing; a label is kept as the text of its format. Without
paper or ribbon, with its head open or paused, it keeps formats in its buffer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drivers.virtual.twin import Table, Twin, one_of
from drivers.virtual.wire import Wire

_FORMAT = re.compile(rb"\^XA.*?\^XZ", re.DOTALL)
_AT_ONCE = re.compile(rb"~(HS|JA|PS|PP)")
_QUANTITY = re.compile(rb"\^PQ(\d+)")


class VirtualZplPrinter(Twin):
    """Actions: paper, ribbon, head, pause, labels, and those of every twin.

    `mute_when_stuck`: like some models, it does not answer ~HS while paper or ribbon is out or the head is open.
    `step_by_step`: it prints one label after each ~HS, so that a batch can be watched.
    """

    kind = "label printer"

    def __init__(
        self,
        name: str,
        wire: Wire,
        directory: Path,
        *,
        pictures: bool = False,
        mute_when_stuck: bool = False,
        step_by_step: bool = False,
    ) -> None:
        super().__init__(name, wire)
        self._directory = directory
        self._mute_when_stuck = mute_when_stuck
        self._step_by_step = step_by_step
        self._buffer = b""
        self._waiting: list[bytes] = []
        self._paper_out = self._ribbon_out = self._head_up = self._paused = False
        self.labels: list[str] = []
        self.actions |= {
            "paper": self._set_paper,
            "ribbon": self._set_ribbon,
            "head": self._set_head,
            "pause": self._set_pause,
            "labels": self._show_labels,
        }

    async def open(self) -> None:
        """Put the printer on its wire."""
        self._directory.mkdir(parents=True, exist_ok=True)
        await super().open()

    def state(self) -> Table:
        """Adds what stands in the way, what waits and what has been printed."""
        return {
            **super().state(),
            "paper": "out" if self._paper_out else "ok",
            "ribbon": "out" if self._ribbon_out else "ok",
            "head": "open" if self._head_up else "closed",
            "paused": self._paused,
            "labels_waiting": len(self._waiting),
            "labels": len(self.labels),
        }

    def received(self, data: bytes) -> None:
        """Take bytes from the host."""
        self._buffer += data
        while True:
            found = _AT_ONCE.search(self._buffer)
            end, after = (found.start(), self._buffer[found.end() :]) if found else (len(self._buffer), b"")
            for label in _FORMAT.findall(self._buffer[:end]):
                quantity = _QUANTITY.search(label)
                self._waiting += [label] * (int(quantity[1]) if quantity else 1)
            self._buffer = _FORMAT.sub(b"", self._buffer[:end]) + after
            if found is None:
                break
            self._at_once(found[1])
        self._print()

    def host_status(self) -> bytes:
        """The three strings of ~HS."""
        partial = b"^XA" in self._buffer
        first = f"030,{self._paper_out:d},{self._paused:d},0812,{bool(self._waiting):03d},0,0,{partial:d},000,0,0,0"
        second = f"000,0,{self._head_up:d},{self._ribbon_out:d},1,2,6,0,{max(0, len(self._waiting) - 1):08d},1,000"
        return b"".join(b"\x02" + one.encode() + b"\x03\r\n" for one in (first, second, "1234,0"))

    def _stuck(self) -> bool:
        return self._paper_out or self._ribbon_out or self._head_up

    def _at_once(self, command: bytes) -> None:
        if command == b"HS":
            self._print()
            if not (self._mute_when_stuck and self._stuck()):
                self.wire.send(self.host_status())
            if self._step_by_step:
                self._print(1)
        elif command == b"JA":
            self._waiting.clear()
            self._buffer = b""
        else:
            self._paused = command == b"PP"

    def _print(self, most: int | None = None) -> None:
        if most is None:
            most = 0 if self._step_by_step else len(self._waiting)
        while self._waiting and most > 0 and not self._stuck() and not self._paused:
            label = self._waiting.pop(0)
            self.labels.append(label.decode("utf-8", errors="replace"))
            (self._directory / f"{len(self.labels):04d}.zpl").write_bytes(label)
            most -= 1

    async def _set_paper(self, arguments: Mapping[str, Any]) -> None:
        self._paper_out = one_of(arguments, "to", ("ok", "out")) == "out"
        self._print()

    async def _set_ribbon(self, arguments: Mapping[str, Any]) -> None:
        self._ribbon_out = one_of(arguments, "to", ("ok", "out")) == "out"
        self._print()

    async def _set_head(self, arguments: Mapping[str, Any]) -> None:
        self._head_up = one_of(arguments, "to", ("open", "closed")) == "open"
        self._print()

    async def _set_pause(self, arguments: Mapping[str, Any]) -> None:
        self._paused = one_of(arguments, "to", ("on", "off")) == "on"
        self._print()

    async def _show_labels(self, arguments: Mapping[str, Any]) -> Table:
        return {"labels": self.labels}
