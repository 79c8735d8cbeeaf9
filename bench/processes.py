"""The processes of a benchmark: started with one log, watched from /proc, stopped in reverse order."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.children import DIE_WITH_PARENT

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
STOP_WITHIN_S = 20.0


class Processes:
    """Use it as ``async with``: at the end everything that was started is stopped, last first."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._file = log.open("ab")
        self._running: list[tuple[asyncio.subprocess.Process, signal.Signals]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process, by in reversed(self._running):
            await stop(process, by)
        self._file.close()

    async def start(
        self,
        *command: str | Path,
        talks: bool = False,
        by: signal.Signals = signal.SIGTERM,
        user: Sequence[str] = (),
        cwd: Path | None = None,
    ) -> asyncio.subprocess.Process:
        """Start one, in a session of its own as systemd would.

        With `talks` its standard output comes to us. `user` is a setpriv that changes who it runs as.
        """
        process = await asyncio.create_subprocess_exec(
            *user,
            *DIE_WITH_PARENT,
            *(str(part) for part in command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if talks else self._file,
            stderr=self._file,
            cwd=cwd,
            start_new_session=True,
            limit=1024 * 1024,
        )
        self._running.append((process, by))
        return process

    def last_words(self) -> str:
        """The end of the log."""
        return self.log.read_text(errors="replace")[-3000:]


async def stop(process: asyncio.subprocess.Process, by: signal.Signals = signal.SIGTERM) -> None:
    """End it: with `by`, and with SIGKILL when that was not enough."""
    if process.returncode is not None:
        return
    process.send_signal(by)
    try:
        async with asyncio.timeout(STOP_WITHIN_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def mosquitto() -> str:
    """The broker's program, which Debian keeps off everybody's path."""
    return shutil.which("mosquitto") or "/usr/sbin/mosquitto"


def cpu_s(pid: int) -> float:
    """CPU time of a process, user and system, with that of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / TICKS_PER_S


def family(pid: int) -> list[int]:
    """A process and its children."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [pid, *(int(child) for child in listed.split())]


def cpu_of_all_s(pids: Iterable[int]) -> float:
    """CPU time of several; one that has ended meanwhile counts with its parent."""
    total = 0.0
    for pid in pids:
        try:
            total += cpu_s(pid)
        except FileNotFoundError:
            continue
    return total


def pss_mb(pid: int) -> float:
    """Proportional set size in MB (10^6 bytes)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"the kernel does not tell the memory of process {pid}")
