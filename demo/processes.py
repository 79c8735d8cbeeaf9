"""The demo's children: started with a log file each, watched, and stopped by their own pid.

Every child is told by the kernel to end when this process ends, however it ends (PR_SET_PDEATHSIG, set by util-linux's
setpriv, which then becomes the child). Each has a session of its own, so that Ctrl-C reaches only us and we stop them
in order.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "TERM", "--")
STOP_WITHIN_S = 20.0
LOG_LINES_SHOWN = 12


class CannotRun(Exception):
    """The demo store cannot run; the text says what to do."""


@dataclass(slots=True)
class Child:
    """One process that this demo started."""

    name: str
    log_file: Path
    process: asyncio.subprocess.Process = field(repr=False)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    async def first_line(self, within_s: float) -> bytes:
        """The first line it says on standard output (only for a child started with `talks`)."""
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(within_s):
                line = await self.process.stdout.readline()
        except TimeoutError:
            raise CannotRun(f"{self.name} did not get ready within {within_s:g} s.\n{self.last_words()}") from None
        if not line:
            raise CannotRun(f"{self.name} ended before it was ready.\n{self.last_words()}")
        return line

    async def ended(self) -> CannotRun:
        """Wait until it ends by itself, which it should not; what to tell a person then."""
        code = await self.process.wait()
        return CannotRun(f"{self.name} ended by itself (status {code}).\n{self.last_words()}")

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n".join([f"The end of {self.log_file}:", *(f"    {line}" for line in lines)])

    async def stop(self) -> None:
        """SIGTERM; SIGKILL when that was not enough."""
        if self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


async def start(name: str, command: Sequence[str | Path], log_dir: Path, *, talks: bool = False) -> Child:
    """Start a child. Its output goes to `log_dir`/`name`.log; with `talks`, its standard output comes to us."""
    log_dir.mkdir(parents=True, exist_ok=True)
    log_file = log_dir / f"{name}.log"
    with log_file.open("ab") as log:
        try:
            process = await asyncio.create_subprocess_exec(
                *DIE_WITH_PARENT,
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if talks else log,
                stderr=log,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise CannotRun(
                f"cannot start {name}: {error.filename} is missing (Debian: apt install util-linux)"
            ) from None
    return Child(name, log_file, process)


async def run(
    name: str, command: Sequence[str | Path], log_dir: Path, *, good: tuple[int, ...] = (0,), within_s: float = 60.0
) -> str:
    """Run a command to its end and return what it printed; CannotRun when its exit status is not among `good`."""
    child = await start(name, command, log_dir, talks=True)
    try:
        async with asyncio.timeout(within_s):
            output, _ = await child.process.communicate()
    except TimeoutError:
        await child.stop()
        raise CannotRun(f"{name} did not end within {within_s:g} s.\n{child.last_words()}") from None
    if child.process.returncode not in good:
        raise CannotRun(f"{name} failed (status {child.process.returncode}).\n{child.last_words()}")
    return output.decode()


def find_mosquitto() -> str:
    """The broker's program; CannotRun with the package to install."""
    # Debian keeps it in sbin, which is not on everybody's path.
    path = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
    found = shutil.which("mosquitto", path=path)
    if found is None:
        raise CannotRun("mosquitto is missing, the broker of every store. On Debian: apt install mosquitto")
    return found


def kill_9(pid_file: Path) -> int | None:
    """SIGKILL the process of a pid file, as a crash would; its pid, or None when it is not running at the moment."""
    try:
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGKILL)
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return None
    return pid
