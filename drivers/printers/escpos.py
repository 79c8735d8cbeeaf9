"""Documents to ESC/POS bytes: python-escpos encodes text and styles, and nothing of it carries.

Each printed line goes one of two ways. Where the model's code pages have every character, its own letters print it;
where they do not, and for right-to-left text always (printers set code pages from left to right), the whole line is
drawn as a picture on the same grid of cells, so that columns stay aligned. Control characters in a text would be
commands, so they never get there. Characters that neither way can print are printed as "?" and reported.

python-escpos is imported at the first use, which takes a moment and a dozen megabytes (`preload`); the fonts at the
first line that needs them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drivers.drawers.pulse import PrinterDrawer, PrinterDrawerOptions
from drivers.errors import BadDocument
from drivers.printers import barcodes, escpos_library, fonts
from drivers.printers import document as doc
from drivers.printers import qr as qr_codes
from drivers.printers.bidi import base_level, has_right_to_left
from drivers.printers.pictures import from_modules, from_png, print_picture
from drivers.printers.profiles import PrinterProfile
from drivers.printers.typeset import Look, Placed, Typesetter, cells, typesetter, wrap

if TYPE_CHECKING:
    from PIL.Image import Image

REPLACEMENT = "?"
_TAB_COLUMNS = 4
_CUT_FEED_LINES = 6
_SMALLEST_CELL_DOTS = 8
_MOST_PICTURE_BYTES = 8 * 1024 * 1024
_JOINERS = "\u200c\u200d"
_PLAIN_STYLE: dict[str, object] = {
    "align": "left",
    "bold": False,
    "underline": 0,
    "invert": False,
    "font": "a",
    "size": (1, 1),
}


@dataclass(frozen=True, slots=True)
class Encoded:
    """Bytes for the printer, and the characters that it could not print and got "?" for, each once."""

    data: bytes
    replaced: str


def preload() -> None:
    """Import the encoder now: the first receipt does not wait for it (blocks; call it in a thread)."""
    escpos_library.load()


def encode(document: Sequence[doc.Element], profile: PrinterProfile) -> Encoded:
    """Encode `document` for one model; raises BadDocument for what that model cannot print.

    The bytes start from the printer's default settings and return to them; they neither initialise the
    printer nor ask for status: `PrinterDriver.send` does.
    """
    writer = _Writer(profile)
    for index, element in enumerate(document):
        try:
            writer.element(element)
        except ValueError as error:
            raise BadDocument(index, str(error)) from error
    return Encoded(writer.finish(), "".join(writer.replaced))


@dataclass(frozen=True, slots=True)
class _Part:
    """A text on a line: in the box of `columns` from column `start`."""

    text: str
    start: int
    columns: int
    align: doc.Align


class _Writer:
    """Walks over elements, sends a style only where it changes, collects what could not be printed."""

    def __init__(self, profile: PrinterProfile) -> None:
        self.replaced: dict[str, None] = {}
        self._profile = profile
        self._device: Any = escpos_library.recorder(profile)
        self._covered = escpos_library.covered(profile)
        self._style: dict[str, object] = dict(_PLAIN_STYLE)
        self._picture_bytes = 0

    def element(self, element: doc.Element) -> None:
        match element:
            case doc.Text():
                self._text(element)
            case doc.Row():
                self._row(element)
            case doc.Columns():
                self._columns(element)
            case doc.Rule():
                grid = self._grid("A")
                character = self._printable(element.character)
                count = grid.columns // max(1, cells(character))
                self._line(grid, Look(), [_Part(character * count, 0, grid.columns, "left")])
            case doc.Barcode():
                self._barcode(element)
            case doc.Qr():
                self._qr(element)
            case doc.Image():
                self._picture(from_png(element.png, self._profile.width_dots), element.align)
            case doc.Feed():
                self._device.print_and_feed(element.lines)
            case doc.Cut():
                self._set()
                if self._profile.cutter:
                    self._device.cut(mode="PART" if element.partial else "FULL")
                else:
                    self._device.print_and_feed(_CUT_FEED_LINES)
            case doc.Kick():
                options = PrinterDrawerOptions("", pin=element.pin, pulse_ms=element.pulse_ms)
                self._device._raw(PrinterDrawer(options).queued_pulse())

    def finish(self) -> bytes:
        self._set()
        output: bytes = self._device.output
        return output

    def _set(self, **style: object) -> None:
        wanted = {**_PLAIN_STYLE, **style}
        changed: dict[str, Any] = {key: value for key, value in wanted.items() if self._style[key] != value}
        if size := changed.pop("size", None):
            changed.update(custom_size=True, width=size[0], height=size[1])
        if changed:
            self._device.set(**changed)
        self._style = wanted

    # -- text ------------------------------------------------------------------------------------------------------

    def _grid(self, letters: doc.Font, width: int = 1) -> _Grid:
        columns = self._profile.columns
        if letters == "B":
            columns = self._profile.small_columns or columns
        return _Grid(letters, columns // width, self._profile.width_dots // columns)

    def _text(self, text: doc.Text) -> None:
        grid = self._grid(text.font, text.width)
        look = Look(text.bold, text.underline, text.invert, text.width, text.height)
        for paragraph in self._printable(text.text).split("\n"):
            base = base_level(paragraph)
            for line in self._wrapped(grid, paragraph, grid.columns, self._must_draw(paragraph)):
                if base or self._must_draw(line):
                    self._draw_alone(grid, look, line, base, text.align)
                else:
                    self._style_for(grid, look, text.align)
                    self._device.text(line + "\n")

    def _row(self, row: doc.Row) -> None:
        grid = self._grid("A", row.width)
        look = Look(bold=row.bold, width=row.width, height=row.height)
        left, right = (self._printable(side).replace("\n", " ") for side in (row.left, row.right))
        drawn = self._must_draw(left + right)
        columns = grid.columns
        lefts, rights = (self._wrapped(grid, side, columns, drawn) for side in (left, right))
        taken = grid.columns_of(rights[0], drawn) + 1 if rights[0] else 0
        if grid.columns_of(lefts[-1], drawn) + taken > columns:
            if columns - taken >= columns // 4:
                lefts = self._wrapped(grid, left, columns - taken, drawn)
            else:
                lefts.append("")  # beside a right part this long there is no room: it gets a line of its own
        for line in lefts[:-1]:
            self._line(grid, look, [_Part(line, 0, columns, "left")])
        last = _Part(lefts[-1], 0, columns, "left")
        self._line(grid, look, [last, _Part(rights[0], 0, columns, "right")])
        for line in rights[1:]:
            self._line(grid, look, [_Part(line, 0, columns, "right")])

    def _columns(self, table: doc.Columns) -> None:
        grid = self._grid(table.font)
        look = Look(bold=table.bold)
        gaps = len(table.widths) - 1
        rest = grid.columns - gaps - sum(table.widths)
        if rest < table.widths.count(0):
            raise ValueError(f"columns of {sum(table.widths)} and {gaps} gaps do not fit into {grid.columns}")
        texts = [self._printable(text).replace("\n", " ") for text in table.texts]
        drawn = self._must_draw("".join(texts))
        boxes: list[tuple[int, int, doc.Align, list[str]]] = []
        start = 0
        for text, width, align in zip(texts, table.widths, table.aligns, strict=True):
            width = width or rest
            boxes.append((start, width, align, self._wrapped(grid, text, width, drawn)))
            start += width + 1
        for at in range(max(len(lines) for _, _, _, lines in boxes)):
            parts = [_Part(lines[at], start, width, align) for start, width, align, lines in boxes if at < len(lines)]
            self._line(grid, look, parts)

    def _wrapped(self, grid: _Grid, text: str, columns: int, drawn: bool) -> list[str]:
        if drawn:
            return wrap(text, columns * grid.column_dots, grid.typesetter.measure)
        return wrap(text, columns, cells)

    def _line(self, grid: _Grid, look: Look, parts: list[_Part]) -> None:
        if self._must_draw("".join(part.text for part in parts)):
            placed = []
            for part in parts:
                free = part.columns * grid.column_dots - grid.typesetter.measure(part.text)
                left = part.start * grid.column_dots + max(0, _indent(free, part.align))
                placed.append(Placed(left, part.text))
            width = grid.columns * grid.column_dots
            self._picture(grid.typesetter.draw(placed, width, look), "left")
            return
        line = " " * grid.columns
        for part in parts:
            at = part.start + _indent(part.columns - len(part.text), part.align)
            line = line[:at] + part.text + line[at + len(part.text) :]
        self._style_for(grid, look, "left")
        self._device.text(line.rstrip() + "\n")

    def _draw_alone(self, grid: _Grid, look: Look, text: str, base: int, align: doc.Align) -> None:
        width = grid.typesetter.measure(text, base)
        whole = -(-width // 8) * 8 or 8
        placed = Placed(_indent(whole - width, align), text, base)
        self._picture(grid.typesetter.draw([placed], whole, look), align)

    def _style_for(self, grid: _Grid, look: Look, align: doc.Align) -> None:
        self._set(
            align=align,
            bold=look.bold,
            underline=int(look.underline),
            invert=look.invert,
            font=grid.font.lower(),
            size=(look.width, look.height),
        )

    def _must_draw(self, text: str) -> bool:
        if text.isascii():
            return False
        return has_right_to_left(text) or any(one not in self._covered and not one.isascii() for one in text)

    def _printable(self, text: str) -> str:
        if text.isascii() and text.isprintable():
            return text
        text = unicodedata.normalize("NFC", text).expandtabs(_TAB_COLUMNS)
        joins = any(fonts.needs_shaping(one) for one in text)
        out: list[str] = []
        base = " "
        for one in text:
            if unicodedata.category(one) == "Cf":  # direction marks, joiners: nothing to see
                if joins and one in _JOINERS:
                    out.append(one)
                continue
            mark = unicodedata.category(one) in ("Mn", "Me")
            covered = one in self._covered and not mark and not has_right_to_left(one)  # from right to left: drawn
            native = one == "\n" or " " <= one <= "~" or covered
            if native or fonts.can_draw(one, base if mark else None):
                out.append(one)
            else:
                self.replaced[one] = None
                out.append(REPLACEMENT)
            base = base if mark else one
        return "".join(out)

    # -- codes and pictures ----------------------------------------------------------------------------------------

    def _barcode(self, barcode: doc.Barcode) -> None:
        checked = barcodes.check(barcode.data, barcode.symbology)
        native = self._profile.native_barcodes
        modules = "" if native else barcodes.modules_of(checked)
        if modules is None:
            raise ValueError(f"{self._profile.name} draws no {barcode.symbology}; choose another kind of barcode")
        needed = checked.width_dots(barcode.width) if native else len(modules) * barcode.width
        self._fits(needed, barcode.symbology)
        # Printers write GS1 data without the brackets that GS1 asks for, so they are told to write nothing.
        own_words = barcode.text if not native or barcode.symbology == "GS1-128" else "none"
        words = doc.Text(checked.text, align="center")
        if own_words == "above":
            self._text(words)
        if native:
            self._set(align="center")
            place = barcode.text if own_words == "none" else "none"
            self._device._raw(checked.command(barcode.height_dots, barcode.width, place))
        else:
            height = barcode.height_dots // 3 + 1 if self._profile.picture == "columns" else barcode.height_dots
            self._picture(from_modules(modules, barcode.width, height), "center")
        if own_words == "below":
            self._text(words)

    def _qr(self, qr: doc.Qr) -> None:
        self._fits(qr_codes.width_modules(qr.data, qr.level) * qr.size, "the QR code")
        if self._profile.native_qr:
            self._set(align="center")
            self._device._raw(qr_codes.command(qr.data, qr.size, qr.level))
        else:
            self._picture(qr_codes.picture(qr.data, qr.size, qr.level), "center")

    def _fits(self, needed_dots: int, what: str) -> None:
        limit = self._profile.width_dots
        if needed_dots > limit:
            raise ValueError(
                f"{what} needs {needed_dots} dots, the paper has {limit}; make it smaller or its data shorter"
            )

    def _picture(self, picture: Image, align: doc.Align) -> None:
        self._set(align=align)
        data = print_picture(picture, self._profile.picture)
        self._picture_bytes += len(data)
        if self._picture_bytes > _MOST_PICTURE_BYTES:
            raise ValueError("its pictures and drawn lines make more than 8 MiB; print it in parts")
        self._device._raw(data)


@dataclass(frozen=True, slots=True)
class _Grid:
    """The columns of a line, at normal width `column_dots` each; for pictures, letters are never below 8 dots."""

    font: doc.Font
    columns: int
    column_dots: int

    @property
    def typesetter(self) -> Typesetter:
        return typesetter(max(_SMALLEST_CELL_DOTS, self.column_dots))

    def columns_of(self, text: str, drawn: bool) -> int:
        return -(-self.typesetter.measure(text) // self.column_dots) if drawn else cells(text)


def _indent(free: int, align: doc.Align) -> int:
    return {"left": 0, "center": free // 2, "right": free}[align]
