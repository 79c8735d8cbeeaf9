"""Captures: what a device really sent, and what it means. One folder each.

    bytes.rx         what came over the line, as it came
    expected.jsonl   the events, one JSON object per line, without `raw` and the moment
    protocol.json    {"kind": ..., "options": {...}} and, where needed:
                       "asked": [1, 2]    the real-time questions that a printer was asked before
                       "records": true    key events of the kernel, stored as a 64-bit machine has them
                       "reports": 6       reports of this many bytes (hidraw): the kernel never splits one
    README           device, firmware, how and when it was recorded, or which document the bytes are printed in

A capture is replayed by a fresh parser of its kind; the same folder serves the tests and `tillgate devices replay`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from drivers import catalog
from drivers.errors import BadOption
from drivers.events import Event
from drivers.protocol import DeviceProtocol
from drivers.transports.base import Lost, Receive

_STORED_RECORD = struct.Struct("<qqHHi")
_NATIVE_RECORD = struct.Struct("llHHi")

Table = dict[str, Any]


class BadCapture(Exception):
    """A folder is no capture that can be replayed; the text names the file and what would be right."""


@dataclass(frozen=True, slots=True)
class Capture:
    """One capture. `sent` is what the device sent, in this machine's own form; `expected` are the events as tables."""

    kind: str
    options: Mapping[str, Any]
    sent: bytes
    expected: tuple[Table, ...] = ()
    notes: str = ""
    asked: tuple[int, ...] = ()
    records: bool = False
    report_bytes: int = 0

    @property
    def step_bytes(self) -> int:
        """The smallest piece that can arrive by itself: a byte, a key event, a report."""
        return _NATIVE_RECORD.size if self.records else self.report_bytes or 1

    def protocol(self) -> DeviceProtocol:
        """A fresh parser, set up as the device's was; raises BadOption."""
        return new_protocol(self.kind, self.options, self.asked)

    def meaning(self) -> list[Table]:
        """What a fresh parser makes of it, as it arrived, in the form of `expected`; raises BadOption."""
        return plain(replay(self.protocol(), self.pieces() if self.report_bytes else [self.sent]))

    def pieces(self) -> list[bytes]:
        """What was sent, in the smallest pieces."""
        step = self.step_bytes
        return [self.sent[start : start + step] for start in range(0, len(self.sent), step)]


def load(folder: Path) -> Capture:
    """Read a capture; raises BadCapture."""
    try:
        spec = json.loads((folder / "protocol.json").read_text(encoding="utf-8"))
        stored = (folder / "bytes.rx").read_bytes()
        lines = (folder / "expected.jsonl").read_text(encoding="utf-8").splitlines()
        notes = (folder / "README").read_text(encoding="utf-8")
        records = bool(spec.get("records"))
        if records and len(stored) % _STORED_RECORD.size:
            raise BadCapture(f"{folder / 'bytes.rx'}: expected whole key events of {_STORED_RECORD.size} bytes")
        return Capture(
            kind=spec["kind"],
            options=spec["options"],
            sent=_native(stored) if records else stored,
            expected=tuple(json.loads(line) for line in lines),
            notes=notes,
            asked=tuple(spec.get("asked", ())),
            records=records,
            report_bytes=int(spec.get("reports", 0)),
        )
    except OSError as error:
        raise BadCapture(
            f"{error.filename}: {error.strerror}; a capture has four files (see drivers/README.md)"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise BadCapture(f"{folder}: cannot be read ({error}); see drivers/README.md for its files") from error


def save(capture: Capture, folder: Path) -> None:
    """Write a capture to a new folder; raises BadCapture when there is something already."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise BadCapture(f"{folder} exists; choose a new folder, so that no capture is lost") from None
    spec: Table = {"kind": capture.kind, "options": dict(capture.options)}
    if capture.asked:
        spec["asked"] = list(capture.asked)
    if capture.records:
        spec["records"] = True
    if capture.report_bytes:
        spec["reports"] = capture.report_bytes
    (folder / "bytes.rx").write_bytes(_stored(capture.sent) if capture.records else capture.sent)
    lines = (json.dumps(table, ensure_ascii=False) + "\n" for table in capture.expected)
    (folder / "expected.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "protocol.json").write_text(json.dumps(spec) + "\n", encoding="utf-8")
    (folder / "README").write_text(capture.notes, encoding="utf-8")


def new_protocol(kind: str, options: Mapping[str, Any], asked: Sequence[int] = ()) -> DeviceProtocol:
    """A parser of `kind` that is joined to nothing; raises BadOption for a kind or option that there is not."""
    entry = catalog.DEVICES.get(kind)
    if entry is None or entry.build is None:
        parsers = ", ".join(name for name, one in catalog.DEVICES.items() if one.build is not None)
        raise BadOption("kind", f"is {kind!r}; expected one of {parsers}")
    protocol = entry.build(catalog.read_device(kind, options), _Nowhere(), lambda _: None, None).protocol
    if asked:
        protocol.asking(asked)  # type: ignore[attr-defined]  # printers are asked, and answer in that order
    return protocol


def replay(protocol: DeviceProtocol, pieces: Iterable[bytes]) -> list[Event]:
    """Feed the pieces; what is still begun at their end, silence ends."""
    events: list[Event] = []
    for piece in pieces:
        events += protocol.receive(piece)
    if protocol.pending:
        events += protocol.idle()
    return events


def plain(events: Iterable[Event]) -> list[Table]:
    """Events as tables of plain values: what `expected.jsonl` holds."""
    tables = []
    for event in events:
        table: Table = {"event": type(event).__name__, **asdict(event)}
        for key in ("raw", "captured_ns"):
            table.pop(key, None)
        if table.get("code") == "garbled":
            del table["code"]  # of a Noise that has no better
        tables.append({key: value.hex() if isinstance(value, bytes) else value for key, value in table.items()})
    return tables


class _Nowhere:
    """A transport that leads nowhere, for parsers that are fed by hand."""

    name = "capture"

    async def open(self, receive: Receive, lost: Lost) -> None:
        """Nothing to open."""

    def write(self, data: bytes) -> None:
        """Nobody listens."""

    async def drain(self) -> None:
        """Nothing waits."""

    async def close(self) -> None:
        """Nothing to close."""


def _converted(data: bytes, old: struct.Struct, new: struct.Struct) -> bytes:
    return b"".join(new.pack(*record) for record in old.iter_unpack(data[: len(data) - len(data) % old.size]))


def _native(data: bytes) -> bytes:
    return _converted(data, _STORED_RECORD, _NATIVE_RECORD)


def _stored(data: bytes) -> bytes:
    return _converted(data, _NATIVE_RECORD, _STORED_RECORD)
