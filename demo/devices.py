"""The demo's virtual devices: those of `drivers.virtual`, and beside each drawer a record of its openings.

`python -m demo.devices --state DIR --control SOCKET DEVICE...` takes what `python -m drivers.virtual` takes. The record
(`DIR/PRINTER/drawer.jsonl`, one line each time the drawer went from closed to open) is what the drawer itself could
swear to; the day's count compares it with the journal.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drivers.virtual.__main__ import serve
from drivers.virtual.printer import VirtualPrinter
from drivers.virtual.twin import Twin
from drivers.virtual.twins import build
from drivers.virtual.wire import PtyWire, TcpWire


class RecordedPrinter(VirtualPrinter):
    """A virtual printer whose drawer writes down when it opens, and what opened it."""

    def __init__(self, name: str, state: Path, port: int | None, display: str) -> None:
        wire = PtyWire(state / f"tty{name}") if port is None else TcpWire(port)
        super().__init__(name, wire, state / name, display=display)
        self._record = state / name / "drawer.jsonl"
        self._set_by_hand = self.actions["drawer"]
        self.actions["drawer"] = self._by_hand

    def kick(self, connector: int, on_ms: int) -> None:
        """As the printer does, and write down whether the drawer opened."""
        before = self._is_open()
        super().kick(connector, on_ms)
        self._write_down(before, "pulse")

    async def _by_hand(self, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        before = self._is_open()
        answer = await self._set_by_hand(arguments)
        self._write_down(before, "key")
        return answer

    def _is_open(self) -> bool:
        return bool(self.state()["drawer_open"])

    def _write_down(self, before: bool, by: str) -> None:
        if self._is_open() and not before:
            line = {"opened_by": by, "time": datetime.now(UTC).isoformat()}
            with self._record.open("a", encoding="utf-8") as record:
                record.write(json.dumps(line) + "\n")


def build_recorded(spec: str, state: Path) -> Twin:
    """As `drivers.virtual` builds it, with printers that record their drawer."""
    kind, _, rest = spec.partition(":")
    if kind != "escpos-printer":
        return build(spec, state)
    name, *parts = rest.split(":")
    options = dict(part.partition("=")[::2] for part in parts)
    return RecordedPrinter(name, state, int(parts[1]) if parts[:1] == ["tcp"] else None, options.get("display", ""))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo.devices", description="The demo store's virtual devices.")
    parser.add_argument("--state", type=Path, required=True, help="directory for ptys, sockets and paper")
    parser.add_argument("--control", type=Path, required=True, help="unix socket that takes requests")
    parser.add_argument("device", nargs="+", help="KIND:NAME[:tcp:PORT][:key=value...], as for drivers.virtual")
    given = parser.parse_args()
    given.state.mkdir(parents=True, exist_ok=True)
    asyncio.run(serve([build_recorded(spec, given.state) for spec in given.device], given.control))
    return 0


if __name__ == "__main__":
    sys.exit(main())
