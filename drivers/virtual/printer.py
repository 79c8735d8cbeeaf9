"""A virtual receipt printer with a drawer (and a display) on its connectors: paper, buffer, sensors and the line back.

Bytes go into a bounded receive buffer and are obeyed in order while the printer can print; with no paper, an
open cover or an error they wait there, and when it is full no more are taken. Real-time commands are obeyed
the moment they arrive, wherever they stand. Switching the power off loses the buffer, the line and every
setting; paper stays. Each receipt, from cut to cut, becomes `NNNN.txt` and a line of `paper.jsonl` in the
printer's directory.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drivers.virtual.displays.display import behind_printer, png
from drivers.virtual.escpos_reader import EscposReader
from drivers.virtual.paper import Item, Line, Strip
from drivers.virtual.sensors import ERRORS, Sensors
from drivers.virtual.twin import BadRequest, Table, Twin, get, one_of
from drivers.virtual.wire import Wire

_REAL_TIME = re.compile(rb"\x10\x04[\x01-\x04]|\x10\x05[\x00-\x02]|\x10\x14\x01[\x00\x01][\x01-\x08]")
_REAL_TIME_LONGEST = 5
_OFF_MS = 300
_PINS = (2, 5)
"""Of the drawer connector, by the number that ESC p gives them."""
_PACE_S = 0.05


class VirtualPrinter(Twin):
    """Actions: paper, cover, error, power, drawer, receipt, picture, and those of every twin."""

    kind = "printer"

    def __init__(
        self,
        name: str,
        wire: Wire,
        directory: Path,
        *,
        pictures: bool = False,
        buffer_bytes: int = 4096,
        drawer_open: str = "high",
        drawer_pins: str = "2",
        proof: bool = True,
        width_dots: int = 512,
        display: str = "",
    ) -> None:
        super().__init__(name, wire)
        self._directory = directory
        self._pictures = pictures
        self._buffer_bytes = buffer_bytes
        self._connectors = {"2": (0,), "5": (1,), "2+5": (0, 1)}[drawer_pins]
        self._proof = proof
        self._width_dots = width_dots
        self.screen = behind_printer(display)
        self._reader = EscposReader(self)
        self._strip = Strip()
        self._last: Strip | None = None
        self._last_text = ""
        self._buffer = bytearray()
        self._tail = b""
        self._full = False
        self._mask = 0
        self._sensors = Sensors(drawer_open)
        self._at_byte: tuple[int, Callable[[], None]] | None = None
        self._at_line: tuple[int, Callable[[], None]] | None = None
        self._power_on: asyncio.Task[None] | None = None
        self._pulling: asyncio.Task[None] | None = None
        self._waiting = bytearray()
        self._bytes_per_s = 0
        self._pace: asyncio.TimerHandle | None = None
        self.hosts = 0
        self.questions = 0
        self.kicks = 0
        self.receipts = 0
        self.actions |= {
            "paper": self._set_paper,
            "cover": self._set_cover,
            "error": self._set_error,
            "power": self._set_power,
            "drawer": self._set_drawer,
            "pace": self._set_pace,
            "receipt": self._receipt,
            "picture": self._picture,
        }
        if self.screen is not None:
            self.actions |= {"screen": self._screen, "screen_picture": self._screen_picture}

    async def open(self) -> None:
        """Put the printer on its wire; receipts go on counting where an earlier life of it stopped."""
        self._directory.mkdir(parents=True, exist_ok=True)
        record = self._directory / "paper.jsonl"
        if record.exists():
            with record.open(encoding="utf-8") as lines:
                self.receipts = sum(1 for _ in lines)
        await super().open()

    async def close(self) -> None:
        """Take the printer away."""
        if self._power_on is not None:
            self._power_on.cancel()
        if self._pace is not None:
            self._pace.cancel()
        await super().close()

    def connected(self) -> None:
        """Count the hosts that have come (sockets only)."""
        self.hosts += 1

    def state(self) -> Table:
        """Adds paper, cover, error, power, the drawer and what has been printed."""
        seen = self._sensors
        return {
            **super().state(),
            "power": "on" if seen.on and self._power_on is None else "off",
            "paper": seen.paper,
            "cover": "open" if seen.cover_open else "closed",
            "error": seen.error,
            "drawer_open": bool(seen.open_drawers),
            "open_pins": [_PINS[connector] for connector in sorted(seen.open_drawers)],
            "kicks": self.kicks,
            "receipts": self.receipts,
            "last_receipt": self._last_text,
            "strip": self._strip.text(),
            "buffered_bytes": len(self._buffer) + len(self._waiting),
            "unknown_commands": self._reader.unknown_commands,
            "lines": self.screen.lines() if self.screen is not None else None,
        }

    # --- what arrives -------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Take bytes from the host."""
        if not self._sensors.on or self._pulling is not None:
            return
        if self._at_byte is not None:
            left, then = self._at_byte
            if len(data) >= left:
                self._at_byte = None
                self._obey(data[:left])
                then()
                return
            self._at_byte = (left - len(data), then)
        self._obey(data)

    def _obey(self, data: bytes) -> None:
        self._obey_real_time(data)
        if self._bytes_per_s:
            self._waiting += data
            self._keep_pace()
        else:
            self._buffer += data
        self._go_on()

    def _go_on(self) -> None:
        self._reader.read(self._buffer)
        held = len(self._waiting) + (len(self._buffer) if self.stuck() else 0)
        if self._full != (held >= self._buffer_bytes):
            self._full = not self._full
            if self._full:
                self.wire.pause()
            else:
                self.wire.resume()

    def _keep_pace(self) -> None:
        if self._pace is None and self._waiting:
            self._pace = asyncio.get_running_loop().call_later(_PACE_S, self._next_piece)

    def _next_piece(self) -> None:
        self._pace = None
        if not self.stuck():
            piece = max(1, int(self._bytes_per_s * _PACE_S)) if self._bytes_per_s else len(self._waiting)
            self._buffer += self._waiting[:piece]
            del self._waiting[:piece]
        self._keep_pace()
        self._go_on()

    def _obey_real_time(self, data: bytes) -> None:
        if b"\x10" not in data and not self._tail:
            return
        stream = self._tail + data
        end = 0
        for match in _REAL_TIME.finditer(stream):
            end = match.end()
            command = match[0]
            if command[1] == 0x04:
                self.questions += 1
                self.wire.send(self._sensors.real_time(command[2]))
            elif command[1] == 0x14:
                self.kick(command[3], command[4] * 100)
            elif command[2] == 0x02 and self._sensors.error == "cutter":
                # DLE ENQ 2: recover, dropping what is buffered
                self._buffer.clear()
                self._waiting.clear()
                self._change(error="none")
        rest = stream[max(end, len(stream) - _REAL_TIME_LONGEST + 1) :]
        start = rest.find(b"\x10")
        self._tail = rest[start:] if start >= 0 else b""

    # --- what the reader drives -----------------------------------------------------------------------

    def stuck(self) -> bool:
        """True when nothing can be printed now."""
        return self._sensors.stuck

    def put(self, item: Item) -> None:
        """Print one item."""
        self._strip.items.append(item)
        if self._at_line is not None and isinstance(item, Line):
            left, then = self._at_line
            self._at_line = (left - 1, then)
            if left <= 1:
                self._at_line = None
                then()

    def cut(self) -> None:
        """Cut: the strip becomes a receipt."""
        strip, self._strip = self._strip, Strip()
        text = strip.text()
        if not strip.items:
            return
        self.receipts += 1
        self._last, self._last_text = strip, text
        number = f"{self.receipts:04d}"
        (self._directory / f"{number}.txt").write_text(text + "\n", encoding="utf-8")
        line = {"number": self.receipts, "text": text, "time": datetime.now(UTC).isoformat()}
        with (self._directory / "paper.jsonl").open("a", encoding="utf-8") as record:
            record.write(json.dumps(line, ensure_ascii=False) + "\n")
        if self._pictures:
            self._draw(strip, self._directory / f"{number}.png")

    def kick(self, connector: int, on_ms: int) -> None:
        """Pulse a drawer connector; only the drawer that hangs there opens."""
        self.kicks += 1
        if connector in self._connectors and on_ms > 0:
            self._change(open_drawers=self._sensors.open_drawers | {connector})

    def automatic_status(self, mask: int) -> None:
        """GS a; a mask other than 0 is answered at once."""
        self._mask = mask
        self._report()

    def display(self, data: bytes) -> None:
        """Pass on what is for the display that hangs behind the printer."""
        if self.screen is not None:
            self.screen.feed(data)

    def reply(self, data: bytes) -> None:
        """Send a reply of the print queue (proof of printing among them)."""
        if self._proof or data[:2] != b"\x37\x22":
            self.wire.send(data)

    def status_request(self, number: int) -> None:
        """GS r 1: paper sensors; GS r 2: drawer."""
        self.wire.send(self._sensors.queued(number))

    # --- status ---------------------------------------------------------------------------------------

    def _report(self) -> None:
        if self._mask and self._sensors.on:
            self.wire.send(self._sensors.automatic())

    def _change(self, **changes: object) -> None:
        """Something moves; `changes` are fields of `Sensors`."""
        before, self._sensors = self._sensors, dataclasses.replace(self._sensors, **changes)  # type: ignore[arg-type]
        if self._sensors.tells(before):
            self._report()

    # --- power ------------------------------------------------------------------------------------------

    def _switch_off(self, off_ms: int | None = _OFF_MS) -> None:
        self._change(on=False)
        self._at_byte = None
        self._mask = 0
        self._buffer.clear()
        self._waiting.clear()
        self._tail = b""
        self._full = False
        self._reader.reset()
        if self.screen is not None:
            self.screen.power_on()  # its power comes from the printer
        self.wire.power_off()
        if off_ms is not None:
            self._power_on = asyncio.create_task(self._switch_on(off_ms), name=f"{self.name} power")

    async def _switch_on(self, after_ms: int = 0) -> None:
        await asyncio.sleep(after_ms / 1000)
        self._change(on=True)
        await self.wire.power_on()
        self.wire.resume()
        self._power_on = None

    # --- actions ------------------------------------------------------------------------------------------

    async def _set_paper(self, arguments: Mapping[str, Any]) -> None:
        to = one_of(arguments, "to", ("ok", "near_end", "out"))
        self._at_line = None
        if "after_lines" in arguments:
            self._at_line = (get(arguments, "after_lines", int), lambda: self._change(paper="end"))
            return
        self._change(paper="end" if to == "out" else to)
        self._go_on()

    async def _set_cover(self, arguments: Mapping[str, Any]) -> None:
        to = one_of(arguments, "to", ("open", "closed"))
        self._at_line = None
        if "after_lines" in arguments:
            self._at_line = (get(arguments, "after_lines", int), lambda: self._change(cover_open=True))
            return
        self._change(cover_open=to == "open")
        self._go_on()

    async def _cable(self, arguments: Mapping[str, Any]) -> None:
        """Also in mid-job: what comes after `after_bytes` is lost on the way."""
        if "after_bytes" in arguments and one_of(arguments, "to", ("pull",)):
            self._at_byte = (get(arguments, "after_bytes", int), self._pull)
        else:
            await super()._cable(arguments)

    def _pull(self) -> None:
        def pulled(_: object) -> None:
            self._pulling = None

        self._pulling = asyncio.create_task(self.wire.pull(), name=f"{self.name} cable")
        self._pulling.add_done_callback(pulled)

    async def _set_pace(self, arguments: Mapping[str, Any]) -> None:
        self._bytes_per_s = get(arguments, "bytes_per_s", int)

    async def _set_error(self, arguments: Mapping[str, Any]) -> None:
        self._change(error=one_of(arguments, "to", tuple(ERRORS)))
        self._go_on()

    async def _set_power(self, arguments: Mapping[str, Any]) -> None:
        to = one_of(arguments, "to", ("cycle", "off", "on"))
        if self._power_on is not None:
            self._power_on.cancel()
            self._power_on = None
        if to == "on":
            await self._switch_on()
        elif "after_bytes" in arguments:
            off_ms = None if to == "off" else _OFF_MS
            self._at_byte = (get(arguments, "after_bytes", int), lambda: self._switch_off(off_ms))
        else:
            self._switch_off(None if to == "off" else _OFF_MS)

    async def _set_drawer(self, arguments: Mapping[str, Any]) -> None:
        pin = get(arguments, "pin", int, _PINS[self._connectors[0]])
        if pin not in (_PINS[connector] for connector in self._connectors):
            raise BadRequest(f"pin is {pin}; there is a drawer on {[_PINS[one] for one in self._connectors]}")
        one = {_PINS.index(pin)}
        opened = one_of(arguments, "to", ("open", "closed")) == "open"
        before = self._sensors.open_drawers
        self._change(open_drawers=before | one if opened else before - one)

    async def _receipt(self, arguments: Mapping[str, Any]) -> Table:
        return {"number": self.receipts, "text": self._last_text}

    async def _screen(self, arguments: Mapping[str, Any]) -> Table:
        return self.screen.state() if self.screen is not None else {}

    async def _screen_picture(self, arguments: Mapping[str, Any]) -> Table:
        return {"png": png(self.screen)} if self.screen is not None else {}

    async def _picture(self, arguments: Mapping[str, Any]) -> Table:
        path = self._directory / "picture.png"
        self._draw(self._last or self._strip, path)
        return {"path": str(path)}

    def _draw(self, strip: Strip, path: Path) -> None:
        from drivers.virtual.picture import draw  # needs the drawing library, which only pictures pay for

        draw(strip, self._width_dots).save(path)
