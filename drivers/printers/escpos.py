"""Documents to ESC/POS bytes: python-escpos encodes, and nothing of it carries.

Only its encoder is used, on a device that records. Three of its habits are kept away from the paper: one
Chinese character turns a whole string into GB18030, so text is cut into what the code pages cover before it
gets there; control characters in a text would be commands, so they never get there; and a picture may hold
bytes that a printer obeys at once (DLE EOT, DLE ENQ, DLE DC4), so one dot is added where that happens.

The library is imported at the first use, which takes a moment and a dozen megabytes (`preload`). Characters
that no code page of the printer covers are printed as "?" and reported; printing them as pictures is the next
step.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import pickle
import platform
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from drivers.drawers.pulse import PrinterDrawer, PrinterDrawerOptions
from drivers.errors import BadDocument
from drivers.printers import document as doc
from drivers.printers.profiles import PrinterProfile

REPLACEMENT = "?"
_PICKLE_DIR = "ESCPOS_CAPABILITIES_PICKLE_DIR"

# Single-byte pages whose meaning python-escpos and printers agree on; the order is the order of preference.
_CODE_PAGES = (
    "CP437",
    "CP850",
    "CP858",
    "CP1252",
    "CP852",
    "CP866",
    "CP737",
    "CP860",
    "CP863",
    "CP865",
    "CP862",
    "CP1250",
    "CP1251",
    "CP1253",
    "CP1254",
    "CP1257",
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Bytes for the printer, and the characters that it could not print and got "?" for, each once."""

    data: bytes
    replaced: str


def preload() -> None:
    """Import the encoder now: the first receipt does not wait for it (blocks; call it in a thread)."""
    _library()


def encode(document: Sequence[doc.Element], profile: PrinterProfile) -> Encoded:
    """Encode `document` for one model; raises BadDocument for what that model cannot print.

    The bytes start from the printer's default settings and return to them; they neither initialise the
    printer nor ask for status: `PrinterDriver.send` does.
    """
    writer = _Writer(profile)
    for index, element in enumerate(document):
        writer.element(index, element)
    return Encoded(writer.finish(), "".join(writer.replaced))


class _Writer:
    """Walks over elements, sends a style only where it changes, collects what could not be printed."""

    def __init__(self, profile: PrinterProfile) -> None:
        library = _library()
        self.replaced: dict[str, None] = {}
        self._library = library
        self._profile = profile
        self._device = library.recorder(profile.escpos_profile)
        self._pages = library.code_pages(profile.escpos_profile)
        self._style: dict[str, object] = dict(_PLAIN_STYLE)

    def element(self, index: int, element: doc.Element) -> None:
        match element:
            case doc.Text():
                self._set(
                    align=element.align,
                    bold=element.bold,
                    underline=int(element.underline),
                    invert=element.invert,
                    size=(element.width, element.height),
                )
                self._line(element.text)
            case doc.Row():
                self._row(element)
            case doc.Rule():
                self._set()
                self._line(element.character * self._profile.columns)
            case doc.Barcode():
                self._barcode(index, element)
            case doc.Qr():
                self._qr(element)
            case doc.Image():
                self._image(index, element)
            case doc.Feed():
                self._device.print_and_feed(element.lines)
            case doc.Cut():
                self._set()
                self._device.cut(mode="PART" if element.partial else "FULL")
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

    def _line(self, text: str) -> None:
        self._device.text(self._printable(text) + "\n")

    def _printable(self, text: str) -> str:
        characters = []
        for character in text.expandtabs(4):
            if character == "\n" or " " <= character <= "~" or character in self._pages:
                characters.append(character)
            else:
                self.replaced[character] = None
                characters.append(REPLACEMENT)
        return "".join(characters)

    def _row(self, row: doc.Row) -> None:
        self._set(bold=row.bold, size=(row.width, row.height))
        columns = self._profile.columns // row.width
        right = row.right[:columns]
        lines = textwrap.wrap(row.left, columns) or [""]
        if len(lines[-1]) + 1 + len(right) > columns:
            *lines, last = textwrap.wrap(row.left, max(1, columns - len(right) - 1)) or [""]
            lines.append(last)
        for line in lines[:-1]:
            self._line(line)
        self._line(lines[-1] + right.rjust(columns - len(lines[-1])))

    def _barcode(self, index: int, barcode: doc.Barcode) -> None:
        self._set(align="center")
        code128 = barcode.symbology == "CODE128"
        native = bool(self._device.profile.supports("barcodeB" if code128 else "barcodeA"))
        if not barcode.data.isascii() or not barcode.data.isprintable():
            raise BadDocument(index, "a barcode holds printable ASCII characters only")
        # The printer wants code set B chosen in the data, where "{" is the escape character.
        code = "{B" + barcode.data.replace("{", "{{") if code128 and native else barcode.data
        try:
            self._device.barcode(
                code,
                barcode.symbology,
                height=barcode.height_dots,
                width=barcode.width,
                pos={"below": "BELOW", "above": "ABOVE", "none": "OFF"}[barcode.text],
                align_ct=False,
                function_type="B" if code128 else "A",
                force_software=not native,
            )
        except self._library.errors as error:
            wrong = f"{barcode.data!r} cannot be printed as {barcode.symbology}"
            raise BadDocument(index, f"{wrong}; check its length and characters") from error

    def _qr(self, qr: doc.Qr) -> None:
        self._set(align="center")
        level = "LMQH".index(qr.level)
        self._device.qr(qr.data, ec=level, size=qr.size, native=self._profile.native_qr)
        if self._profile.native_qr:
            self._device.text("\n")

    def _image(self, index: int, image: doc.Image) -> None:
        from PIL import Image as Picture  # the encoder has loaded it already
        from PIL import UnidentifiedImageError

        self._set(align=image.align)
        try:
            with Picture.open(io.BytesIO(image.png), formats=("PNG",)) as picture:
                width, height = picture.size
                limit = self._profile.width_dots
                if width > 4 * limit or height > 4096:
                    message = f"the picture has {width} x {height} dots, of at most {4 * limit} x 4096"
                    raise BadDocument(index, message)
                size = (width, height) if width <= limit else (limit, max(1, height * limit // width))
                drawn = picture.convert("RGBA").resize(size)
            self._device.image(drawn, impl="bitImageRaster")
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise BadDocument(index, "the picture is no PNG that can be read") from error


_PLAIN_STYLE: dict[str, object] = {
    "align": "left",
    "bold": False,
    "underline": 0,
    "invert": False,
    "size": (1, 1),
}


def quiet_picture(data: bytes) -> bytes:
    """Return raster bytes without real-time commands: one dot is added to each DLE that begins one."""
    for second in (0x04, 0x05, 0x14):
        data = data.replace(bytes((0x10, second)), bytes((0x18, second)))
    return data


@dataclass(frozen=True, slots=True)
class _Library:
    recorder: Callable[[str], Any]
    code_pages: Callable[[str], frozenset[str]]
    errors: tuple[type[Exception], ...]


@cache
def _library() -> _Library:
    get_profile, dummy, encoder, errors = _import()

    def pages(name: str) -> dict[str, int]:
        slots: dict[str, str] = get_profile(name).get_code_pages()
        return {page: int(slots[page]) for page in _CODE_PAGES if page in slots}

    class Recorder(dummy):  # type: ignore[misc,valid-type]
        """Records; the library's own extension point (`_raw`) is where pictures pass by."""

        def _raw(self, msg: bytes) -> None:
            if msg.startswith((b"\x1dv0", b"\x1b3")):  # raster pictures; column pictures between line spacings
                msg = msg[:8] + quiet_picture(msg[8:])
            super()._raw(msg)

    def recorder(name: str) -> Any:
        return Recorder(profile=name, magic_encode_args={"encoder": encoder(pages(name))})

    @cache
    def covered(name: str) -> frozenset[str]:
        decoded = (
            bytes((code,)).decode(page.lower(), errors="ignore") for page in pages(name) for code in range(0x80, 0x100)
        )
        return frozenset(character for character in decoded if character.isprintable() and character)

    return _Library(recorder, covered, errors)


def _import() -> tuple[Any, Any, Any, tuple[type[Exception], ...]]:
    """Import python-escpos without its side effects.

    On import it parses a large table with a slow YAML parser (a second on a Raspberry Pi) unless it finds a
    pickle of it, leaves a directory in /tmp, and installs a handler on the root logger. The pickle is made
    here, from the same file as JSON, in a directory that goes away again.
    """
    handlers = list(logging.getLogger().handlers)
    tempdir, pickle_dir = tempfile.tempdir, os.environ.get(_PICKLE_DIR)
    scratch = tempfile.mkdtemp(prefix="tillgate-escpos-")
    table_path = os.path.join(scratch, f"{platform.python_version()}.capabilities.pickle")
    try:
        table = json.loads((resources.files("escpos") / "capabilities.json").read_text(encoding="utf-8"))
        with open(table_path, "wb") as file:
            pickle.dump(table, file)
        os.environ[_PICKLE_DIR] = tempfile.tempdir = scratch
        import escpos.escpos
        from barcode.errors import BarcodeError
        from escpos.capabilities import get_profile
        from escpos.exceptions import Error
        from escpos.magicencode import Encoder
        from escpos.printer import Dummy
    finally:
        tempfile.tempdir = tempdir
        os.environ.pop(_PICKLE_DIR, None)
        if pickle_dir is not None:
            os.environ[_PICKLE_DIR] = pickle_dir
        os.unlink(table_path)
        for directory in (*(entry.path for entry in os.scandir(scratch)), scratch):
            with contextlib.suppress(OSError):  # not empty: somebody else's file, made in this moment
                os.rmdir(directory)
        logging.getLogger().handlers[:] = handlers
    vars(escpos.escpos)["print"] = lambda *_: None  # it tells standard output about every barcode
    return get_profile, Dummy, Encoder, (Error, BarcodeError)
