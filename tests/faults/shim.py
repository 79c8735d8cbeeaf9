"""Faults of the disk and jumps of the clock for a real process: `Shim` builds and steers ``shim.c``.

Strategy: a process that is started with `Shim.env` meets, below one folder, what the test turns on: a disk with so many
bytes left, I/O errors, a file system gone read-only; and everywhere a wall clock that is off, and a kernel that says
whether it is synchronised. All of it while the process runs, through a file that both have mapped. The clock of the
test itself stays as it is.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
import subprocess
import tempfile
from enum import IntFlag
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
_FIELDS = ("limited", "free_bytes", "failing", "error", "failures_left", "wall_ns", "sync", "failed")
_NUMBER = struct.Struct("=q")


class Calls(IntFlag):
    """Kinds of calls that can be made to fail; the numbers are those of ``shim.c``."""

    WRITE = 1
    SYNC = 2
    READ = 4
    OPEN_FOR_WRITING = 8


@cache
def library() -> Path:
    """The compiled shim, built once per process that asks, in a folder that goes with it."""
    folder = tempfile.TemporaryDirectory(prefix="tillgate-shim-")
    _kept.append(folder)
    built = Path(folder.name) / "shim.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", built, SOURCE, "-ldl"], check=True
    )
    return built


_kept: list[tempfile.TemporaryDirectory[str]] = []


class Shim:
    """The faults below `folder`, which must exist. `control` is where its file goes (default: beside the folder)."""

    def __init__(self, folder: Path, control: Path | None = None) -> None:
        file = control or folder.with_name(folder.name + ".faults")
        file.write_bytes(bytes(_NUMBER.size * len(_FIELDS)))
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), 0)
        self.env = {
            **os.environ,
            "LD_PRELOAD": str(library()),
            "TILLGATE_SHIM_CONTROL": str(file.resolve()),
            "TILLGATE_SHIM_FOLDER": str(folder.resolve()),
        }
        """The environment to start a process with."""

    def below(self, path: Path) -> None:
        """For processes that start from now on: only files below this folder, or this file itself, are hit."""
        self.env["TILLGATE_SHIM_FOLDER"] = str(path.resolve())

    # -- the disk ------------------------------------------------------------------------------------------------------

    def fill(self, free_bytes: int) -> None:
        """From now on the disk has so many bytes left; files that grow use them up, then ENOSPC."""
        self._set("free_bytes", free_bytes)
        self._set("limited", 1)

    def free(self) -> None:
        """The disk is as large again as it really is."""
        self._set("limited", 0)

    @property
    def free_bytes(self) -> int:
        """What is left of `fill`."""
        return self._get("free_bytes")

    def io_error(
        self,
        on: bool = True,
        *,
        calls: Calls = Calls.WRITE | Calls.SYNC,
        error: int = errno.EIO,
        times: int = -1,
    ) -> None:
        """These calls fail with this errno, so many `times` (-1: until it is turned off)."""
        self._set("failing", 0)
        self._set("error", error)
        self._set("failures_left", times)
        self._set("failing", int(calls) if on else 0)

    def read_only(self, on: bool = True) -> None:
        """The file system is remounted read-only, as a kernel does after an error: EROFS on opening and writing."""
        self.io_error(on, calls=Calls.WRITE | Calls.OPEN_FOR_WRITING, error=errno.EROFS)

    @property
    def failed(self) -> int:
        """How many calls were made to fail since the beginning."""
        return self._get("failed")

    # -- the clock -----------------------------------------------------------------------------------------------------

    def jump(self, seconds: float) -> None:
        """The wall clock is off by so many seconds from now on (not added to an earlier jump)."""
        self._set("wall_ns", int(seconds * 1_000_000_000))

    def synced(self, yes: bool | None) -> None:
        """What the kernel says of its clock; None: what it really says."""
        self._set("sync", 0 if yes is None else 1 if yes else 2)

    def _set(self, name: str, value: int) -> None:
        _NUMBER.pack_into(self._map, _FIELDS.index(name) * _NUMBER.size, value)

    def _get(self, name: str) -> int:
        return int(_NUMBER.unpack_from(self._map, _FIELDS.index(name) * _NUMBER.size)[0])
