"""What a receipt is made of: a list of small frozen elements, as JSON and as objects.

As JSON each element is an object with `kind` and the fields of its class: `{"kind": "row", "left": "Bananas
0.482 kg", "right": "1.20"}`. Unknown kinds, unknown fields and wrong types are refused with the index of the
element. Sizes are multiples of the normal character; nothing is in millimetres.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from drivers.errors import BadDocument, BadOption
from drivers.options import read_options
from drivers.printers.barcodes import Symbology

Align = Literal["left", "center", "right"]
Font = Literal["A", "B"]
"""A is the printer's normal letters, B its small ones."""


def _between(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name}: is {value}; expected {low} to {high}")


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text (or several, with line feeds), wrapped by words. `width` and `height` are multiples 1 to 8.

    "left" is the left edge of the paper, for right-to-left text too.
    """

    text: str
    align: Align = "left"
    bold: bool = False
    underline: bool = False
    invert: bool = False
    width: int = 1
    height: int = 1
    font: Font = "A"

    def __post_init__(self) -> None:
        """Refuse sizes that printers do not have."""
        _between("width", self.width, 1, 8)
        _between("height", self.height, 1, 8)


@dataclass(frozen=True, slots=True)
class Row:
    """Text at the left edge and text at the right edge of one line; long ones wrap."""

    left: str
    right: str
    bold: bool = False
    width: int = 1
    height: int = 1

    def __post_init__(self) -> None:
        """Refuse sizes that printers do not have."""
        _between("width", self.width, 1, 8)
        _between("height", self.height, 1, 8)


@dataclass(frozen=True, slots=True)
class Columns:
    """Texts side by side, one blank column apart; each wraps within its own width.

    `widths` are in characters; at most one is 0: it takes what the others leave. Left out, `aligns` are all "left".
    """

    texts: tuple[str, ...]
    widths: tuple[int, ...]
    aligns: tuple[Align, ...] = ()
    bold: bool = False
    font: Font = "A"

    def __post_init__(self) -> None:
        """Refuse what is no table."""
        _between("texts", len(self.texts), 1, 8)
        if len(self.widths) != len(self.texts) or any(width < 0 for width in self.widths) or self.widths.count(0) > 1:
            raise ValueError("widths: give one for each text, at most one of them 0 (the rest of the line)")
        if not self.aligns:
            object.__setattr__(self, "aligns", ("left",) * len(self.texts))
        if len(self.aligns) != len(self.texts):
            raise ValueError("aligns: give one for each text, or none")


@dataclass(frozen=True, slots=True)
class Rule:
    """A line across the paper, made of one character."""

    character: str = "-"

    def __post_init__(self) -> None:
        """Refuse anything but one character."""
        if len(self.character) != 1:
            raise ValueError(f"character: is {self.character!r}; expected exactly one character")


@dataclass(frozen=True, slots=True)
class Barcode:
    """A barcode, centred. A check digit that is left out is added. `width`: dots of a narrow bar. GS1-128 data is
    written with its application identifiers in brackets: (01)09506000134352(10)ABC.
    """

    data: str
    symbology: Symbology = "CODE128"
    height_dots: int = 64
    width: int = 2
    text: Literal["below", "above", "none"] = "below"

    def __post_init__(self) -> None:
        """Refuse sizes that printers do not have."""
        _between("height_dots", self.height_dots, 1, 255)
        _between("width", self.width, 2, 6)


@dataclass(frozen=True, slots=True)
class Qr:
    """A QR code, centred. `size` is dots per module, 1 to 16; `level` the error correction."""

    data: str
    size: int = 4
    level: Literal["L", "M", "Q", "H"] = "M"

    def __post_init__(self) -> None:
        """Refuse what no printer can draw."""
        _between("size", self.size, 1, 16)
        if not 1 <= len(self.data.encode("utf-8")) <= 2000:
            raise ValueError("data: is empty or too long; expected 1 to 2000 bytes")


@dataclass(frozen=True, slots=True)
class Image:
    """A PNG picture (base64 in JSON), printed in black and white, shrunk to the paper's width if wider."""

    png: bytes
    align: Align = "center"


@dataclass(frozen=True, slots=True)
class Feed:
    """Empty lines, 1 to 255."""

    lines: int = 1

    def __post_init__(self) -> None:
        """Refuse what does not fit the command."""
        _between("lines", self.lines, 1, 255)


@dataclass(frozen=True, slots=True)
class Cut:
    """Feed to the knife and cut."""

    partial: bool = True


@dataclass(frozen=True, slots=True)
class Kick:
    """Open the drawer at this point of the job; `pin` 2 or 5 of the drawer connector."""

    pin: Literal[2, 5] = 2
    pulse_ms: int = 100

    def __post_init__(self) -> None:
        """Refuse pulses that cannot be written."""
        _between("pulse_ms", self.pulse_ms, 2, 510)


Element = Text | Row | Columns | Rule | Barcode | Qr | Image | Feed | Cut | Kick

KINDS: Mapping[str, type[Element]] = {
    "text": Text,
    "row": Row,
    "columns": Columns,
    "rule": Rule,
    "barcode": Barcode,
    "qr": Qr,
    "image": Image,
    "feed": Feed,
    "cut": Cut,
    "kick": Kick,
}


def from_json(document: Sequence[Mapping[str, Any]]) -> tuple[Element, ...]:
    """Read a document as a till sends it; raises BadDocument with the index of the first element at fault."""
    return tuple(_element(index, table) for index, table in enumerate(document))


def _element(index: int, table: Mapping[str, Any]) -> Element:
    if not isinstance(table, Mapping):
        raise BadDocument(index, f"is {type(table).__name__}; expected an object with a kind")
    kind = table.get("kind")
    cls = KINDS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise BadDocument(index, f"kind is {kind!r}; expected one of {', '.join(KINDS)}")
    fields = {key: value for key, value in table.items() if key != "kind"}
    if cls is Image and isinstance(fields.get("png"), str):
        try:
            fields["png"] = base64.b64decode(fields["png"], validate=True)
        except ValueError as error:  # binascii's own, and another one for letters that are not ASCII
            raise BadDocument(index, "png is not base64") from error
    try:
        return read_options(cls, fields)
    except BadOption as error:
        raise BadDocument(index, str(error)) from error


def to_json(document: Sequence[Element]) -> list[dict[str, Any]]:
    """Write a document as `from_json` reads it."""
    names = {cls: kind for kind, cls in KINDS.items()}
    tables: list[dict[str, Any]] = []
    for element in document:
        table: dict[str, Any] = {"kind": names[type(element)], **dataclasses.asdict(element)}
        if isinstance(element, Image):
            table["png"] = base64.b64encode(element.png).decode("ascii")
        tables.append(table)
    return tables
