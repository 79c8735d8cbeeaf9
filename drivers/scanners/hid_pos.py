r"""HID POS bar code scanners: whole reports of text with its AIM identifier, no keyboard and no line settings.

Documents: USB-IF "HID Point of Sale Usage Tables" 1.02, usage page 0x8C (bar code scanner); Hand Held Products "USB
Interfaces User's Guide" 2020-5B, page 1-11, whose input report Honeywell, Access-IS and others send to this day:

    byte   0      1        2    3   4     5 ... 60         61            62         63, bit 0
           02     length   ]    c   m     data             symbology     reserved   more follows
           id              AIM identifier of ISO 15424     of the maker

Access-IS "LSR118 Product Manual" B.1.1 prints a code of 60 bytes: 56 (0x38) with bit 0 of byte 63 set, then 4. Some
scanners keep one byte free in front of the AIM identifier. Report descriptors may name other places by usage:

    8C:FB, FC, FD  symbology identifiers 1-3      8C:FE  decoded data      8C:FF  decoded data continued
    01:3B          byte count (length)

Honeywell scanners report nothing before feature report 254 (`FE 01`) has been sent.

The strategy: find the places in the descriptor, else take those above; join the reports of a code while more follows
and the identifier stays the same. Parts carry no number: a part that is lost in the middle cannot be seen, but a last
part that does not come is a code cut off after `GAP_CUTS_CODE_MS`, never a shorter one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from drivers.errors import WrongDevice
from drivers.events import Event, Noise, Scan
from drivers.hid import Field, HidDevice, ReportDescriptor
from drivers.scanners.label import FRAME_LIMIT_BYTES, Label

GAP_CUTS_CODE_MS = 500
SCANNER = 0x8C_0002
_AIM_1, _AIM_2, _AIM_3 = 0x8C_00FB, 0x8C_00FC, 0x8C_00FD
_DATA, _CONTINUED, _BYTE_COUNT = 0x8C_00FE, 0x8C_00FF, 0x01_003B
_HONEYWELL_VENDORS = frozenset((0x0C2E, 0x0536, 0x23D0))  # Honeywell (Metrologic), Hand Held Products, Youjie
_HONEYWELL_ENABLE = b"\xfe\x01"
_MENU_ANSWER = "Z6"
_LABEL = Label(aim="never")  # the identifier has a place of its own


@dataclass(frozen=True, slots=True)
class HidPosScannerOptions:
    """`vendor`: does it want Honeywell's feature report; "auto" sends it to those who are Honeywell's and have it."""

    vendor: Literal["auto", "honeywell", "other"] = "auto"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things stand in an input report. None: it has no such field."""

    report_id: int | None
    length_at: int | None
    aim_at: tuple[int, ...] | None
    data_at: int
    data_bytes: int
    more_bit: int | None
    described: bool = False
    """The device itself says so: a report without an identifier is of this layout too."""


_NUMBERED = Layout(report_id=2, length_at=1, aim_at=(2, 3, 4), data_at=5, data_bytes=56, more_bit=8 * 63)
_NUMBERED_ONE_ON = Layout(report_id=2, length_at=1, aim_at=(3, 4, 5), data_at=6, data_bytes=56, more_bit=8 * 63)
_BARE = Layout(report_id=None, length_at=0, aim_at=(1, 2, 3), data_at=4, data_bytes=56, more_bit=8 * 62)
_BARE_ONE_ON = Layout(report_id=None, length_at=0, aim_at=(2, 3, 4), data_at=5, data_bytes=56, more_bit=8 * 62)


@dataclass(frozen=True, slots=True)
class _Part:
    """What one report says. `aim` is None when the report has none."""

    aim: str | None
    data: bytes
    more: bool


class HidPosScanner:
    """Whole reports in, `Scan` and `Noise` out."""

    def __init__(self, options: HidPosScannerOptions | None = None) -> None:
        self._vendor = (options or HidPosScannerOptions()).vendor
        self._layouts: tuple[Layout, ...] = (_NUMBERED, _NUMBERED_ONE_ON, _BARE)
        self._raw = bytearray()
        self._data = bytearray()
        self._aim: str | None = None
        self._begun = False
        self._skipping = False
        self.idle_ms: int | None = GAP_CUTS_CODE_MS

    def describe(self, device: HidDevice) -> Sequence[bytes]:
        """Learn the places in its reports; return the feature report that a Honeywell scanner wants.

        Raises WrongDevice when it is no bar code scanner.
        """
        reports = device.reports
        if SCANNER not in reports.applications:
            raise WrongDevice(
                f"is {device}, where a HID POS bar code scanner is configured; correct the path, or scan the code of "
                "its manual that sets it to HID POS (a scanner that is a keyboard is a keyboard-scanner)"
            )
        found = _layout(reports)
        if found is not None:
            self._layouts = (found,)
        else:
            self._layouts = (_NUMBERED, _NUMBERED_ONE_ON) if reports.numbered else (_BARE, _BARE_ONE_ON)
        has_mode = ("feature", _HONEYWELL_ENABLE[0]) in reports.sizes
        wanted = self._vendor == "auto" and device.vendor in _HONEYWELL_VENDORS and has_mode
        return (_HONEYWELL_ENABLE,) if wanted or self._vendor == "honeywell" else ()

    @property
    def pending(self) -> bool:
        """True while a code is begun whose next part has not come."""
        return self._begun or self._skipping

    def receive(self, data: bytes) -> Sequence[Event]:
        """Take one whole report."""
        if not data:
            return ()
        part = self._part(data)
        if part is None:
            return (*self.cut_off(), Noise(data, "not a report of scanned data"))
        if self._skipping:
            self._skipping = part.more
            return ()
        events: list[Event] = []
        if self._begun and part.aim != self._aim:
            events += self.cut_off()  # the rest of the code before never came
        self._begun = True
        self._aim = part.aim
        self._raw += data
        self._data += part.data
        if not part.more:
            events.append(self._judge(bytes(self._raw), bytes(self._data), part.aim))
            self._forget()
        elif len(self._data) > FRAME_LIMIT_BYTES:
            events.append(
                Noise(bytes(self._raw[:FRAME_LIMIT_BYTES]), f"longer than {FRAME_LIMIT_BYTES} bytes", "too_long")
            )
            self._forget()
            self._skipping = True
        return events

    def idle(self) -> Sequence[Event]:
        """The next part of a code did not come."""
        return self.cut_off()

    def cut_off(self) -> Sequence[Event]:
        """Forget a code begun; it is reported, never delivered short."""
        raw = bytes(self._raw)
        self._forget()
        return [Noise(raw, "cut off", "cut_off")] if raw else []

    def _forget(self) -> None:
        self._raw.clear()
        self._data.clear()
        self._begun = self._skipping = False

    def _part(self, report: bytes) -> _Part | None:
        for layout in self._layouts:
            part = _read(layout, report)
            if part is not None:
                return part
        return None

    @staticmethod
    def _judge(raw: bytes, data: bytes, aim: str | None) -> Event:
        if aim == _MENU_ANSWER:
            return Noise(raw, "an answer to a menu command, not a code")
        try:
            text = data.rstrip(b"\r\n").decode("utf-8")  # a suffix for other interfaces may have stayed programmed
        except UnicodeDecodeError:
            return Noise(raw, "not UTF-8", "not_text")
        label = _LABEL.read(text, raw)
        return replace(label, aim=aim) if isinstance(label, Scan) else label


def _read(layout: Layout, report: bytes) -> _Part | None:
    """What a report says when it is laid out so; None when it cannot be."""
    if layout.report_id is not None and report[0] != layout.report_id:
        return None
    aim = None
    if layout.aim_at is not None:
        if max(layout.aim_at) >= len(report):
            return None
        identifier = bytes(report[at] for at in layout.aim_at)
        if identifier.strip(b"\0"):  # none at all: a symbology that has no identifier
            if identifier[:1] != b"]" or not (identifier[1:].isascii() and identifier[1:].isalnum()):
                return None
            aim = identifier[1:].decode("ascii")
        elif not layout.described:
            return None
    data = report[layout.data_at : layout.data_at + layout.data_bytes]
    if layout.length_at is not None:
        length = report[layout.length_at]
        if length > len(data):
            return None
        data = data[:length]
    else:
        data = data.rstrip(b"\0")
    more = False
    if layout.more_bit is not None:
        byte, bit = divmod(layout.more_bit, 8)
        more = byte < len(report) and bool(report[byte] >> bit & 1)
    return _Part(aim, data, more)


def _layout(reports: ReportDescriptor) -> Layout | None:
    """Where the descriptor says that things stand; None when it does not name the data."""
    data = reports.find("input", _DATA)
    if data is None or data.size_bits != 8 or data.first_bit % 8:
        return None

    def beside(usage: int) -> Field | None:
        found = reports.find("input", usage)
        return found if found is not None and found.report_id == data.report_id else None

    aims = [beside(usage) for usage in (_AIM_1, _AIM_2, _AIM_3)]
    length, more = beside(_BYTE_COUNT), beside(_CONTINUED)
    return Layout(
        report_id=data.report_id if reports.numbered else None,
        length_at=length.first_bit // 8 if length is not None else None,
        aim_at=tuple(one.first_bit // 8 for one in aims if one is not None) if all(aims) else None,
        data_at=data.first_bit // 8,
        data_bytes=data.count,
        more_bit=more.first_bit if more is not None else None,
        described=True,
    )
