"""A till's own ledger: lines of JSON, appended, on disk before anything else happens.

    {"made": event, "class": ...}                     the fact, before it is sent
    {"sent": id}                                      it left, once more
    {"accepted": id, "class", "seq", "epoch"}         the gateway's promise
    {"refused": id, "problem": {...}}                 the gateway will never take it
    {"asked": request id}  {"answered": request id, "ok": ..., "code": ...}

A line cut off at the end is what a crash leaves: it was never acted upon, and is cut away on opening.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Line = dict[str, Any]


def read(path: Path) -> Iterator[Line]:
    """Every whole line."""
    if path.exists():
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                yield json.loads(line)


class Ledger:
    """The file, open for appending."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        whole = path.read_bytes()
        os.ftruncate(self._file, whole.rfind(b"\n") + 1)

    def write(self, line: Line, *, sync: bool = True) -> None:
        """Append one line; with `sync` it is on the disk when this returns."""
        os.write(self._file, json.dumps(line).encode() + b"\n")
        if sync:
            os.fdatasync(self._file)
