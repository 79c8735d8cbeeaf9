"""Captures: what a device really sent, and what it means. One folder each.

    bytes.rx         what came over the line, as it came
    expected.jsonl   the events, one JSON object per line, without `raw` and the moment
    protocol.json    {"kind": ..., "options": {...}} and, where needed:
                       "asked": [1, 2]    the real-time questions that a printer was asked before
                       "asked": [[0, [1, 2]], [2, []]]    ... or when: after so many bytes, these; none: those that have
                                          no reply were given up
                       "records": true    key events of the kernel, stored as a 64-bit machine has them
                       "reports": 6       reports of this many bytes (hidraw): the kernel never splits one
                       "reports": [6, 3]  ... or of these lengths, one after the other
                       "hid": {"vendor": "0c2e", "product": "0b81", "descriptor": "058c..."}   who sent the reports
    README           device, firmware, how and when it was recorded, or which document the bytes are printed in

A capture is replayed by a fresh parser of its kind; the same folder serves the tests and `tillgate devices replay`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from drivers import catalog
from drivers.errors import BadOption
from drivers.events import Event
from drivers.hid import HidDevice, parse
from drivers.protocol import DeviceProtocol
from drivers.transports.base import Lost, Receive

_STORED_RECORD = struct.Struct("<qqHHi")
_NATIVE_RECORD = struct.Struct("llHHi")

Table = dict[str, Any]
Questions = tuple[int, ...]
"""Real-time questions to a printer, by number; none: those that have no reply are given up."""


class BadCapture(Exception):
    """A folder is no capture that can be replayed; the text names the file and what would be right."""


@dataclass(frozen=True, slots=True)
class Capture:
    """One capture. `sent` is what the device sent, in this machine's own form; `expected` are the events as tables.

    `asked`: what a printer was asked, each with the number of bytes that had come by then. `reports`: the length of
    each report; empty for a stream. `hid`: vendor, product and report descriptor as `protocol.json` has them.
    """

    kind: str
    options: Mapping[str, Any]
    sent: bytes
    expected: tuple[Table, ...] = ()
    notes: str = ""
    asked: tuple[tuple[int, Questions], ...] = ()
    records: bool = False
    reports: tuple[int, ...] = ()
    hid: Mapping[str, str] | None = None

    @property
    def step_bytes(self) -> int:
        """The smallest piece that can arrive by itself: a byte, a key event, the longest report."""
        return _NATIVE_RECORD.size if self.records else max(self.reports, default=1)

    def protocol(self) -> DeviceProtocol:
        """A fresh parser, set up and asked as the device's was before anything came; raises BadOption, WrongDevice."""
        return new_protocol(self.kind, self.options, [numbers for at, numbers in self.asked if at == 0], self.hid)

    def meaning(self) -> list[Table]:
        """What a fresh parser makes of it, as it arrived, in the form of `expected`; raises as `protocol`."""
        return plain(replay(self.protocol(), self.steps()))

    def pieces(self) -> list[bytes]:
        """What was sent, in the smallest pieces."""
        return [step for step in self.steps(smallest=True) if isinstance(step, bytes)]

    def steps(self, *, smallest: bool = False, end: int | None = None) -> list[bytes | Questions]:
        """What arrived and what was asked meanwhile, in order, of the first `end` bytes.

        Bytes come in the `smallest` pieces, or as long ones as can be: up to a question, a report at a time.
        """
        end = len(self.sent) if end is None else end
        asked = [one for one in self.asked if 0 < one[0] <= end]
        cuts = {end, *(at for at, _ in asked)}
        if self.reports:
            cuts |= set(accumulate(self.reports))
        elif smallest:
            cuts |= set(range(0, end, self.step_bytes))
        steps: list[bytes | Questions] = []
        begin = 0
        for cut in sorted(cuts):
            if begin < cut <= end:
                steps.append(self.sent[begin:cut])
                begin = cut
            steps += [numbers for at, numbers in asked if at == cut]
        return steps


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
            asked=_read_asked(spec.get("asked", [])),
            records=records,
            reports=_read_reports(spec.get("reports", []), len(stored)),
            hid=spec.get("hid"),
        )
    except OSError as error:
        raise BadCapture(
            f"{error.filename}: {error.strerror}; a capture has four files (see drivers/README.md)"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise BadCapture(f"{folder}: cannot be read ({error}); see drivers/README.md for its files") from error


def _read_asked(asked: list[Any]) -> tuple[tuple[int, Questions], ...]:
    if all(isinstance(one, int) for one in asked):
        return ((0, tuple(asked)),) if asked else ()
    return tuple((int(at), tuple(map(int, numbers))) for at, numbers in asked)


def _read_reports(reports: int | list[int], size: int) -> tuple[int, ...]:
    if isinstance(reports, int):
        return tuple(min(reports, size - at) for at in range(0, size, reports))
    if reports and sum(reports) != size:
        raise ValueError(f"reports of {sum(reports)} bytes together, and bytes.rx has {size}")
    return tuple(map(int, reports))


def save(capture: Capture, folder: Path) -> None:
    """Write a capture to a new folder; raises BadCapture when there is something already."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise BadCapture(f"{folder} exists; choose a new folder, so that no capture is lost") from None
    spec: Table = {"kind": capture.kind, "options": dict(capture.options)}
    if capture.asked:
        at, numbers = capture.asked[0]
        spec["asked"] = list(numbers) if len(capture.asked) == 1 and at == 0 else capture.asked
    if capture.records:
        spec["records"] = True
    if capture.reports:
        spec["reports"] = capture.reports[0] if len(set(capture.reports)) == 1 else capture.reports
    if capture.hid:
        spec["hid"] = dict(capture.hid)
    (folder / "bytes.rx").write_bytes(_stored(capture.sent) if capture.records else capture.sent)
    lines = (json.dumps(table, ensure_ascii=False) + "\n" for table in capture.expected)
    (folder / "expected.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "protocol.json").write_text(json.dumps(spec) + "\n", encoding="utf-8")
    (folder / "README").write_text(capture.notes, encoding="utf-8")


def new_protocol(
    kind: str,
    options: Mapping[str, Any],
    asked: Sequence[Questions] = (),
    hid: Mapping[str, str] | None = None,
) -> DeviceProtocol:
    """A parser of `kind` that is joined to nothing; raises BadOption for a kind or option that there is not.

    `hid` is the device whose reports it is to read; raises WrongDevice when they are no such device's.
    """
    entry = catalog.DEVICES.get(kind)
    if entry is None or entry.build is None:
        parsers = ", ".join(name for name, one in catalog.DEVICES.items() if one.build is not None)
        raise BadOption("kind", f"is {kind!r}; expected one of {parsers}")
    protocol = entry.build(catalog.read_device(kind, options), _Nowhere(), lambda _: None, None).protocol
    if hid is not None:
        reports = parse(bytes.fromhex(hid["descriptor"]))
        described: Any = protocol
        described.describe(HidDevice(int(hid["vendor"], 16), int(hid["product"], 16), reports))
    for numbers in asked:
        feed(protocol, numbers)
    return protocol


def replay(protocol: DeviceProtocol, steps: Iterable[bytes | Questions]) -> list[Event]:
    """Feed the pieces and ask the questions; what is still begun at their end, silence ends."""
    events: list[Event] = []
    for step in steps:
        events += feed(protocol, step)
    if protocol.pending:
        events += protocol.idle()
    return events


def feed(protocol: DeviceProtocol, step: bytes | Questions) -> Sequence[Event]:
    """Let the parser hear a piece, or know of questions (only printers are asked, and answer in that order)."""
    if isinstance(step, bytes):
        return protocol.receive(step)
    asked: Any = protocol
    if step:
        asked.asking(step)
    else:
        asked.stop_expecting()
    return ()


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
