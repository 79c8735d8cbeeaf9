"""What reads what devices and labels and tills say, and is in no catalogue: fed and counted as the parsers are.

A function of one whole input is a `Reader`: what it refuses, with an error that it promises, is noise; any other error
is a finding. Each also looks at what was read, as whoever reads it next would.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drivers import hid
from drivers.errors import BadDocument, WrongDevice
from drivers.events import Noise, Scan
from drivers.printers import document
from drivers.scales.usb_hid_scale import UsbHidScale
from drivers.scanners.hid_pos import HidPosScanner
from drivers.scanners.label import Label
from drivers.virtual.escpos_reader import EscposReader
from drivers.virtual.paper import Item, Line
from edge.config import VariableMeasure
from edge.devices import codes
from edge.devices.rejected import Rejected


@dataclass(frozen=True, slots=True)
class Read:
    """Something was understood."""

    what: Any


class Reader:
    """`read` as a parser: one input, one event. It raises `Refused` for what makes no sense."""

    idle_ms = None
    pending = False

    def __init__(self, read: Callable[[bytes], Any]) -> None:
        self._read = read

    def receive(self, data: bytes) -> Sequence[Any]:
        """Read one whole input."""
        try:
            return [Read(self._read(data))]
        except Refused as refused:
            return [Noise(data, str(refused))]

    def idle(self) -> Sequence[Any]:
        """Nothing is ever begun."""
        return ()

    def cut_off(self) -> Sequence[Any]:
        """Nothing is ever begun."""
        return ()


class Refused(Exception):
    """The function under test said that this is nothing, as it promises to."""


class Contradiction(Exception):
    """What was read does not hold together."""


# -- HID report descriptors --------------------------------------------------------------------------------------------


def descriptor(data: bytes) -> int:
    """A descriptor, and a report of the device that it describes; how many fields there are."""
    try:
        reports = hid.parse(data)
    except hid.BadDescriptor as error:
        raise Refused(str(error)) from None
    report = (data * 2)[:64]
    for field in reports.fields[:32]:
        value, usage = field.number(report), field.usage(report)
        if usage is not None and usage not in field.usages:
            raise Contradiction(f"usage {usage} of {field}")
        if value is not None and not field.data(report) and field.size_bits >= 8:
            raise Contradiction(f"a value and no data of {field}")
        if field.kind != "input" and len(reports.written(field, 1)) < reports.sizes[field.kind, field.report_id]:
            raise Contradiction(f"a report that is too short for {field}")
    for protocol in (HidPosScanner(), UsbHidScale()):
        try:
            protocol.describe(hid.HidDevice(0x0C2E, 0x0B81, reports))
        except WrongDevice:
            continue
        protocol.receive(report)
        protocol.cut_off()
    return len(reports.fields)


DESCRIPTORS = [
    bytes.fromhex(one.replace(" ", ""))
    for one in (
        # a scale, as the usage tables print it: page 8D, usage 20, a data report 3 and a control report
        "058d0920a101850309 70a102750895011501250809 7109720973097409750976097709788100c0"
        "75089501150125 0c0951095209530954095509560957095809590 95a095b095c8100"
        "1581257f0941810275109501150027ffff00000940810285020980950175018102 9102c0",
        # a scanner: page 8C, usage 2, length, identifiers, data, more follows
        "058c0902a101850275089501150026ff00053b093b8102058c09fb09fc09fd9503810209fe9538810209ff75019501810275078103c0",
        # a keyboard with lights
        "05010906a101050719e029e71500250175019508810295017508810195057501050819012905910295017503910195067508150025"
        "65050719002965 8100c0",
    )
]


# -- scanned texts -----------------------------------------------------------------------------------------------------

_MEASURES = (
    VariableMeasure(prefix="22", item_digits=5, value="price", value_digits=5, decimals=2),
    VariableMeasure(prefix="02", item_digits=4, value="weight", value_digits=5, decimals=3, verifier=True),
)


def scanned(data: bytes) -> str | None:
    """A label as a scanner sends it; the GTIN in it."""
    scan = Label().read(data.decode("utf-8", errors="replace"), data)
    if not isinstance(scan, Scan):
        raise Refused(scan.reason)
    try:
        reading = codes.read(scan.text, scan.aim, _MEASURES, 2)
    except Rejected as rejected:
        raise Refused(str(rejected)) from None
    gtin = reading.gtin
    if gtin is not None and not (len(gtin) == 14 and gtin.isdigit() and codes.check_digit_fits(gtin)):
        raise Contradiction(f"a GTIN {gtin!r} in {scan.text!r}")
    return gtin


LABELS = [
    b"4006381333931",
    b"]E04006381333931",
    b"]E496385074",
    b"]E001234565",
    b"]E39771234567003+05",
    b"]E3977123456700305",
    b"2212345012345",
    b"]E00212340012340",
    b"]I114006381333938",
    b"]C1010950600013435217261231\x1d10ABC123",
    b"]e00109506000134352310300048239200120",
    b"]d2\x1d0109506000134352211234567",
    b"]Q1https://id.gs1.org/01/09506000134352/10/ABC123?17=261231",
    b"]A0LANE-3",
]


# -- documents of tills ------------------------------------------------------------------------------------------------


def till_document(data: bytes) -> int:
    """A document as a till sends it, which must come back from its own JSON the same; how many elements."""
    try:
        sent = json.loads(data)
    except (ValueError, RecursionError):
        raise Refused("no JSON") from None
    try:
        elements = document.from_json(sent if isinstance(sent, list) else [sent])
    except BadDocument as error:
        raise Refused(str(error)) from None
    if document.from_json(json.loads(json.dumps(document.to_json(elements)))) != elements:
        raise Contradiction("another document after a way through JSON")
    return len(elements)


DOCUMENTS = [
    json.dumps(one).encode()
    for one in (
        [{"kind": "text", "text": "Total", "align": "center", "bold": True, "width": 2, "height": 8, "font": "B"}],
        [{"kind": "row", "left": "Bananas", "right": "1.20", "bold": False, "width": 1, "height": 2}],
        [{"kind": "columns", "texts": ["a", "b"], "widths": [0, 8], "aligns": ["left", "right"], "font": "A"}],
        [{"kind": "rule", "character": "="}, {"kind": "feed", "lines": 3}, {"kind": "cut", "partial": False}],
        [{"kind": "barcode", "data": "(01)09506000134352", "symbology": "GS1-128", "height_dots": 80, "width": 3}],
        [{"kind": "qr", "data": "https://example.org", "size": 6, "level": "H"}],
        [{"kind": "image", "png": "iVBORw0KGgo=", "align": "right"}, {"kind": "kick", "pin": 5, "pulse_ms": 200}],
    )
]


# -- the virtual printer's reader --------------------------------------------------------------------------------------


class Paper:
    """An `EscposReader` and the mechanics below it: bytes in, what comes out on paper and line out."""

    idle_ms = None

    def __init__(self) -> None:
        self._done: list[Read] = []
        self._buffer = bytearray()
        self._reader = EscposReader(self)

    @property
    def pending(self) -> bool:
        """True while a command is begun."""
        return bool(self._buffer)

    def receive(self, data: bytes) -> Sequence[Any]:
        """Obey what is whole."""
        self._buffer += data
        self._reader.read(self._buffer)
        done, self._done = self._done, []
        return done

    def idle(self) -> Sequence[Any]:
        """A printer waits for the rest of a command as long as it takes."""
        return ()

    def cut_off(self) -> Sequence[Any]:
        """Switch it off and on."""
        self._buffer.clear()
        self._reader.reset()
        return ()

    def stuck(self) -> bool:
        """Never: its paper has no end."""
        return False

    def put(self, item: Item) -> None:
        """Print one item; what came in how many pieces does not show on paper."""
        shown = "".join(text for text, _ in item.runs) if isinstance(item, Line) else item
        self._done.append(Read(shown))

    def cut(self) -> None:
        """Cut the paper."""
        self._done.append(Read("cut"))

    def kick(self, connector: int, on_ms: int) -> None:
        """Pulse a drawer connector."""
        self._done.append(Read((connector, on_ms)))

    def automatic_status(self, mask: int) -> None:
        """Note which changes are reported."""
        self._done.append(Read(mask))

    def display(self, data: bytes) -> None:
        """Nothing hangs behind it."""

    def reply(self, data: bytes) -> None:
        """Answer the host."""
        self._done.append(Read(data))

    def status_request(self, number: int) -> None:
        """Answer a question in the queue."""
        self._done.append(Read(number))


RECEIPTS = [
    b"\x1b@\x1b!\x30Store 7\n\x1ba\x01\x1bE\x01Total 1.20\n\x1dV\x00",
    b"\x1bt\x10caf\xe9\x09x\n\x1d!\x11BIG\n\x1bd\x03\x1dVB\x10",
    b"\x1dh\x50\x1dw\x02\x1dH\x02\x1dk\x43\x0d4006381333931",
    b"\x1dk\x49\x0a{B12345678\x1dk\x04CODE39\x00",
    b"\x1d(k\x03\x001C\x04\x1d(k\x03\x001E1\x1d(k\x07\x001P0abcd\x1d(k\x03\x001Q0",
    b"\x1dv0\x00\x02\x00\x02\x00\xaa\x55\x0f\xf0\x1b*\x21\x02\x00\x01\x02\x03\x04\x05\x06\n",
    b"\x1d(L\x0c\x000p0\x01\x011\x08\x00\x01\x00\xff\x00\x1d(L\x02\x0002",
    b"\x1da\xff\x1dr\x01\x1dI\x42\x1d(H\x06\x0000A001\x10\x04\x01\x1bp\x00\x32\x32",
    b"\x1b=\x02\x0cHELLO\x1b=\x01\x1bD\x08\x10\x00a\tb\n\x1c.\x1c(A\x02\x000\x01",
]

READERS: Mapping[str, tuple[Callable[[], Any], Sequence[bytes]]] = {
    "hid-descriptor": (lambda: Reader(descriptor), DESCRIPTORS),
    "scanned-text": (lambda: Reader(scanned), LABELS),
    "till-document": (lambda: Reader(till_document), DOCUMENTS),
    "virtual-paper": (Paper, RECEIPTS),
}
"""By name: how one is made, and what it is fed with at first."""
