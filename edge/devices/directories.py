"""Watches the directories that device nodes and their links appear in, through inotify.

Strategy: a path is watched in its directory or, where that is not there (/dev/serial goes with the last adapter), in
the nearest one above that is. What appears, or changes its permissions (udev sets them after the node is there), is
told by its path; what is watched is looked at anew whenever a directory on the way came or went.

Source: inotify(7).
"""

from __future__ import annotations

import asyncio
import ctypes
import fnmatch
import logging
import os
import struct
from collections.abc import Callable, Iterable, Iterator

log = logging.getLogger(__name__)

_IN_ATTRIB, _IN_MOVED_TO, _IN_CREATE = 0x4, 0x80, 0x100
_IN_DELETE_SELF, _IN_MOVE_SELF = 0x400, 0x800
_IN_Q_OVERFLOW, _IN_IGNORED, _IN_ONLYDIR = 0x4000, 0x8000, 0x1000000
_WATCHED = _IN_ATTRIB | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR
_GONE = _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_IGNORED | _IN_Q_OVERFLOW
_HEAD = struct.Struct("iIII")
_READ_BYTES = 16 * 1024


class Directories:
    """Calls `appeared` with each of `paths` that came, or became another; the last part of a path may be a pattern.

    `start` within a running event loop.
    """

    def __init__(self, paths: Iterable[str], appeared: Callable[[str], None]) -> None:
        self._paths = {os.path.abspath(path): path for path in paths}
        self._appeared = appeared
        self._fd = -1
        self._awaited: dict[int, dict[str, set[str]]] = {}
        """Watch -> name or pattern that is awaited there -> paths."""
        self._nearest: dict[str, tuple[str, int]] = {}
        """Path -> the directory that it is watched in, and the watch on that."""

    def start(self) -> bool:
        """Watch; False where the kernel does not let us (the limit of inotify instances is reached)."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            log.warning("directories are not watched: %s", os.strerror(ctypes.get_errno()))
            return False
        self._look()
        asyncio.get_running_loop().add_reader(self._fd, self._readable)
        return True

    def close(self) -> None:
        """Watch nothing any more."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _look(self) -> set[str]:
        """Watch each path in the nearest directory that is there; returns the paths for which that is another now."""
        before, old = dict(self._nearest), set(self._awaited)
        self._awaited.clear()
        for path in self._paths:
            directory, name = os.path.split(path)
            watch = self._add(directory)
            while watch < 0 and directory != "/":
                directory, name = os.path.split(directory)
                watch = self._add(directory)
            self._nearest[path] = directory, watch
            self._awaited.setdefault(watch, {}).setdefault(name, set()).add(path)
        for watch in old - set(self._awaited):
            self._libc.inotify_rm_watch(self._fd, watch)
        return {path for path in self._paths if before.get(path) != self._nearest[path]}

    def _add(self, directory: str) -> int:
        watch: int = self._libc.inotify_add_watch(self._fd, os.fsencode(directory), _WATCHED)
        return watch

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        paths: set[str] = set()
        anew = False
        for watch, mask, name in _events(data):
            anew = anew or bool(mask & _GONE)
            if mask & _IN_Q_OVERFLOW:
                paths.update(self._paths)
            for awaited, those in self._awaited.get(watch, {}).items():
                if fnmatch.fnmatchcase(name, awaited):
                    paths |= those
        if anew or any(self._nearest[path][0] != os.path.dirname(path) for path in paths):
            paths |= self._look()
        for path in paths:
            self._appeared(self._paths[path])


def _events(data: bytes) -> Iterator[tuple[int, int, str]]:
    """``struct inotify_event``: watch, mask, cookie, length of the name; then the name, filled up with NULs."""
    at = 0
    while at < len(data):
        watch, mask, _, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        yield watch, mask, os.fsdecode(data[at : at + length].rstrip(b"\0"))
        at += length
