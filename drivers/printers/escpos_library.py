"""python-escpos without its side effects: its encoder of text, styles and cuts, on a device that only records."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import platform
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from drivers.printers.profiles import PrinterProfile

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


@cache
def load() -> tuple[Any, Any, Any]:
    """Import the library (takes a moment and a dozen megabytes); its get_profile, Dummy and Encoder."""
    return _import()


def recorder(profile: PrinterProfile) -> Any:
    """A device of the library that keeps what it is sent in `output`."""
    _, dummy, encoder = load()
    return dummy(profile=profile.escpos_profile, magic_encode_args={"encoder": encoder(dict(code_pages(profile)))})


def code_pages(profile: PrinterProfile) -> Mapping[str, int]:
    """The code pages that a model has, in order of preference, with their numbers for ESC t."""
    slots: Mapping[str, int]
    if profile.code_pages is not None:
        slots = {page: number for number, page in profile.code_pages}
    else:
        get_profile, _, _ = load()
        known = get_profile(profile.escpos_profile).get_code_pages()
        slots = {page: int(number) for page, number in known.items()}
    return {page: slots[page] for page in _CODE_PAGES if page in slots}


@cache
def covered(profile: PrinterProfile) -> frozenset[str]:
    """The characters beyond ASCII that the code pages of a model have."""
    decoded = (
        bytes((code,)).decode(page.lower(), errors="ignore") for page in code_pages(profile) for code in range(128, 256)
    )
    return frozenset(character for character in decoded if character and character.isprintable())


def _import() -> tuple[Any, Any, Any]:
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
        from escpos.capabilities import get_profile
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
    return get_profile, Dummy, Encoder
