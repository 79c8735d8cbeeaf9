"""A store whose disk has failed: the mark it leaves for its next life, and how it finds out that the disk is well.

Strategy: after an error nobody in the process knows what is on the disk. The commit whose fsync failed may be there or
not, and the kernel takes pages that it could not write for clean, so that a later fsync succeeds and proves nothing. So
nothing goes on from memory. The mark says what had been acknowledged; while the disk stays bad the process lives (scans
and devices go on, facts are refused and stay with the tills); when the disk takes a few fresh bytes and gives them
back, the process ends to be started again, and its next life reads the file as after a power cut: first the kernel
forgets what it holds of it in memory, then all of it is read, and everything acknowledged must be in it.

Source: fsync(2), "Errors"; posix_fadvise(2); A. Rebello et al., "Can Applications Recover from fsync Failures?",
USENIX ATC 2020.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from edge.bus.messages.facts import FactClass
from edge.supervisor import Pauses

log = logging.getLogger(__name__)

PROBE_BYTES = 64 * 1024
PAUSES = Pauses(first_s=0.5, longest_s=30.0)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a failed life knew: its epoch and the highest sequence per class that it had acknowledged."""

    epoch: str = ""
    heads: Mapping[FactClass, int] = field(default_factory=dict)


def marker(path: Path) -> Path:
    """The file that exists when the store failed in its last life and must be read whole before it is used."""
    return path.with_name(path.name + ".suspect")


def leave_mark(path: Path, mark: Mark) -> None:
    """Leave the mark as well as the disk lets us: an empty one still has the file read whole."""
    try:
        marker(path).touch()
        heads = {fact_class.value: seq for fact_class, seq in mark.heads.items()}
        marker(path).write_bytes(orjson.dumps({"epoch": mark.epoch, "heads": heads}))
    except OSError as error:
        log.error("cannot leave a mark to have the file examined: %s", error)


def read_mark(path: Path) -> Mark | None:
    """The mark of the last life; None when it left none. One that cannot be read says only that there is one."""
    try:
        content = marker(path).read_bytes()
    except FileNotFoundError:
        return None
    except OSError:
        return Mark()
    try:
        told = orjson.loads(content)
        return Mark(str(told["epoch"]), {FactClass(name): int(seq) for name, seq in told["heads"].items()})
    except (ValueError, KeyError, TypeError, AttributeError):
        return Mark()


def forget_cached(path: Path) -> None:
    """Have the kernel drop what it holds of the file and its log in memory: what is read next comes from the disk."""
    for part in (path, path.with_name(path.name + "-wal")):
        if not part.exists():
            continue
        descriptor = os.open(part, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def probe(path: Path) -> None:
    """Write fresh bytes beside the file and read them back from the disk; OSError when it does not give them back."""
    beside = path.with_name(path.name + ".probe")
    content = os.urandom(PROBE_BYTES)
    try:
        with beside.open("wb", buffering=0) as file:
            file.write(content)
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if beside.read_bytes() != content:
            raise OSError(f"{beside} does not hold what was written to it")
    finally:
        try:
            beside.unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot remove %s: %s", beside, error)


async def until_well(path: Path, pauses: Pauses = PAUSES) -> None:
    """Return when a probe has gone well; the pause before the next grows each time."""
    attempt = 0
    while True:
        attempt += 1
        await asyncio.sleep(pauses.before(attempt))
        try:
            await asyncio.to_thread(probe, path)
        except OSError as error:
            if attempt == 1:
                log.error("the disk does not take what is written beside %s: %s; trying on", path, error)
        else:
            return
