r"""HID report descriptors: what the reports of a USB device hold, bit by bit. Pure: bytes in, frozen tables out.

Document: USB-IF "Device Class Definition for Human Interface Devices (HID)" 1.11, section 6.2.2 (report descriptor).

    item:   prefix  [data, 0, 1, 2 or 4 bytes, little endian]       prefix:  tag(4) type(2) size(2); size 3 = 4 bytes
    main    8 input   9 output   B feature   A collection   C end collection
    global  0 usage page   1 logical minimum   7 report size   8 report id   9 report count   A push   B pop   ...
    local   0 usage   1 usage minimum   2 usage maximum   ...        forgotten after each main item

The strategy: one walk over the items; each input, output or feature item becomes one `Field` per usage, with its place
in the report as hidraw hands it over (with the report id in front, when reports are numbered). Padding only takes room.
A usage is written with its page in the upper 16 bits: 0x8C0002 is usage 2 of page 0x8C.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

ReportKind = Literal["input", "output", "feature"]

DESCRIPTOR_LIMIT_BYTES = 4096
"""More, the kernel does not keep (HID_MAX_DESCRIPTOR_SIZE)."""
_REPORT_LIMIT_BITS = 8 * 16384
_DEPTH_LIMIT = 64
_FIELDS_LIMIT = 4096
_RANGES_LIMIT = 64
_KINDS: dict[int, ReportKind] = {0x8: "input", 0x9: "output", 0xB: "feature"}
_COLLECTION, _END_COLLECTION = 0xA, 0xC
_APPLICATION = 0x01
_LONG_ITEM = 0xFE
_APPLICATION_NAMES = {
    0x01_0002: "a mouse",
    0x01_0006: "a keyboard",
    0x8C_0002: "a bar code scanner",
    0x8D_0020: "a scale",
    0x8E_0001: "a magnetic stripe reader",
}


class BadDescriptor(ValueError):
    """These bytes are no report descriptor; the text says where they stop making sense."""


@dataclass(frozen=True, slots=True)
class Field:
    """A value, or `count` values in a row, within one report.

    `first_bit` counts from the report's first byte as it is read, lowest bit first. An `array` holds indices: the
    value `minimum` means the first of `usages`, and so on; otherwise the one usage says what the value is.
    """

    kind: ReportKind
    report_id: int
    usages: Sequence[int]
    first_bit: int
    size_bits: int
    count: int = 1
    minimum: int = 0
    array: bool = False

    def number(self, report: bytes) -> int | None:
        """The (first) value in this report, signed when negative values are foreseen; None: it is too short."""
        if 8 * len(report) < self.first_bit + self.size_bits:
            return None
        value = int.from_bytes(report, "little") >> self.first_bit & ((1 << self.size_bits) - 1)
        if self.minimum < 0 and value >> (self.size_bits - 1):
            value -= 1 << self.size_bits
        return value

    def usage(self, report: bytes) -> int | None:
        """The usage that an array field names in this report; None: none of those it may name."""
        value = self.number(report)
        place = -1 if value is None else value - self.minimum
        return self.usages[place] if 0 <= place < len(self.usages) else None

    def data(self, report: bytes) -> bytes:
        """All values as bytes, for fields of whole bytes; shorter when the report is."""
        return report[self.first_bit // 8 : (self.first_bit + self.count * self.size_bits) // 8]


@dataclass(frozen=True, slots=True)
class ReportDescriptor:
    """What a device's reports hold. `applications` are the usages of its top-level collections: what it is."""

    applications: tuple[int, ...]
    fields: tuple[Field, ...]
    numbered: bool
    sizes: dict[tuple[ReportKind, int], int]
    """The length in bytes of each report, its id included, by kind and id (0 when they are not numbered)."""
    raw: bytes = b""
    """The descriptor as it was read."""

    def find(self, kind: ReportKind, usage: int) -> Field | None:
        """The first field of this kind that is, or whose array may name, `usage`."""
        return next((field for field in self.fields if field.kind == kind and usage in field.usages), None)

    def written(self, field: Field, value: int) -> bytes:
        """An output or feature report with this one value, as hidraw wants it: its id in front, or a zero."""
        bits = (value & ((1 << field.size_bits) - 1)) << field.first_bit
        size = self.sizes[field.kind, field.report_id]
        if self.numbered:
            return (bits | field.report_id).to_bytes(size, "little")
        return b"\0" + bits.to_bytes(size, "little")


@dataclass(frozen=True, slots=True)
class HidDevice:
    """Who a device says it is: USB vendor and product, and what its reports hold."""

    vendor: int
    product: int
    reports: ReportDescriptor

    def __str__(self) -> str:
        kinds = [
            _APPLICATION_NAMES.get(usage, f"usage {usage & 0xFFFF:#x} of page {usage >> 16:#x}")
            for usage in self.reports.applications
        ]
        return f"{' and '.join(kinds) or 'nothing that it names'} ({self.vendor:04x}:{self.product:04x})"


@dataclass(slots=True)
class _Globals:
    """The state that lasts from item to item, and that push and pop keep."""

    page: int = 0
    minimum: int = 0
    size_bits: int = 0
    count: int = 0
    report_id: int = 0

    def copy(self) -> _Globals:
        return _Globals(self.page, self.minimum, self.size_bits, self.count, self.report_id)


def parse(descriptor: bytes) -> ReportDescriptor:
    """Read a report descriptor; raises BadDescriptor."""
    if len(descriptor) > DESCRIPTOR_LIMIT_BYTES:
        raise BadDescriptor(f"longer than {DESCRIPTOR_LIMIT_BYTES} bytes")
    return _Walk(descriptor).result()


class _Walk:
    """One walk over a descriptor."""

    def __init__(self, descriptor: bytes) -> None:
        self._raw = descriptor
        self._now = _Globals()
        self._kept: list[_Globals] = []
        self._usages: list[tuple[int, bool]] = []
        self._range: list[int | None] = [None, None]
        self._ranges: list[range] = []
        self._depth = 0
        self._applications: list[int] = []
        self._fields: list[Field] = []
        self._bits: dict[tuple[ReportKind, int], int] = {}
        items = list(_items(descriptor))
        self._numbered = any(kind == 1 and tag == 8 for kind, tag, _ in items)
        for kind, tag, data in items:
            if kind == 0:
                self._main(tag, data)
            elif kind == 1:
                self._global(tag, data)
            elif kind == 2:
                self._local(tag, data)
        if self._depth:
            raise BadDescriptor("a collection that is not ended")

    def result(self) -> ReportDescriptor:
        extra = 8 if self._numbered else 0
        sizes = {key: (bits + extra + 7) // 8 for key, bits in self._bits.items()}
        return ReportDescriptor(tuple(self._applications), tuple(self._fields), self._numbered, sizes, self._raw)

    def _main(self, tag: int, data: bytes) -> None:
        if tag == _COLLECTION:
            if not self._depth and data[:1] == bytes((_APPLICATION,)):
                self._applications += self._named()[:1]
            self._depth += 1
            if self._depth > _DEPTH_LIMIT:
                raise BadDescriptor(f"more than {_DEPTH_LIMIT} collections within each other")
        elif tag == _END_COLLECTION:
            self._depth -= 1
            if self._depth < 0:
                raise BadDescriptor("the end of a collection that was not begun")
        elif tag in _KINDS:
            self._field(_KINDS[tag], int.from_bytes(data, "little"))
        self._usages.clear()
        self._ranges.clear()
        self._range = [None, None]

    def _field(self, kind: ReportKind, flags: int) -> None:
        now = self._now
        key = (kind, now.report_id)
        begin = self._bits.get(key, 0)
        self._bits[key] = begin + now.size_bits * now.count
        if self._bits[key] > _REPORT_LIMIT_BITS:
            raise BadDescriptor(f"a report longer than {_REPORT_LIMIT_BITS // 8} bytes")
        named = self._named()
        if flags & 1 or not named or not now.size_bits or not now.count:  # constant: padding
            return
        begin += 8 if self._numbered else 0
        if not flags & 2:
            place = Field(kind, now.report_id, named, begin, now.size_bits, now.count, now.minimum, array=True)
            self._fields.append(place)
            return
        if len(self._fields) + min(len(named), now.count) > _FIELDS_LIMIT:
            raise BadDescriptor(f"more than {_FIELDS_LIMIT} fields")
        for index in range(min(len(named), now.count)):
            last = index == len(named) - 1  # what is left over belongs to the last usage
            count = now.count - index if last else 1
            first_bit = begin + index * now.size_bits
            self._fields.append(
                Field(kind, now.report_id, (named[index],), first_bit, now.size_bits, count, now.minimum)
            )

    def _named(self) -> Sequence[int]:
        """The usages of this main item; those of two bytes or less belong to the page that holds now."""
        if self._ranges and not self._usages:
            return self._ranges[0]
        names = [usage if whole else self._now.page << 16 | usage for usage, whole in self._usages]
        return (*names, *(usage for one in self._ranges for usage in one))

    def _global(self, tag: int, data: bytes) -> None:
        now, value = self._now, int.from_bytes(data, "little")
        match tag:
            case 0x0:
                now.page = value
            case 0x1:
                now.minimum = int.from_bytes(data, "little", signed=True)
            case 0x7:
                now.size_bits = value
            case 0x8:
                if not 1 <= value <= 255:
                    raise BadDescriptor(f"report id {value}")
                now.report_id = value
            case 0x9:
                now.count = value
            case 0xA:
                self._kept.append(now.copy())
            case 0xB:
                if not self._kept:
                    raise BadDescriptor("a pop without a push")
                self._now = self._kept.pop()

    def _local(self, tag: int, data: bytes) -> None:
        value = int.from_bytes(data, "little")
        if tag == 0x0:
            self._usages.append((value, len(data) == 4))
        elif tag in (0x1, 0x2):
            self._range[tag - 1] = value if len(data) == 4 else self._now.page << 16 | value
            first, last = self._range
            if first is not None and last is not None:
                if last < first or last - first > 0xFFFF:
                    raise BadDescriptor("a usage maximum below its minimum")
                if len(self._ranges) >= _RANGES_LIMIT:
                    raise BadDescriptor(f"more than {_RANGES_LIMIT} ranges of usages in one item")
                self._ranges.append(range(first, last + 1))
                self._range = [None, None]


def _items(descriptor: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, tag and data of every short item; long items are reserved and passed over."""
    at = 0
    while at < len(descriptor):
        prefix = descriptor[at]
        if prefix == _LONG_ITEM:
            at += 3 + (descriptor[at + 1] if at + 1 < len(descriptor) else 0)
            continue
        size = (0, 1, 2, 4)[prefix & 3]
        data = descriptor[at + 1 : at + 1 + size]
        if len(data) < size:
            raise BadDescriptor(f"cut off after {len(descriptor)} bytes")
        yield prefix >> 2 & 3, prefix >> 4, data
        at += 1 + size
