"""Processes as systemd keeps them (``Restart=always``): started again a moment after they end, however they end.

Each gets SIGKILL from the kernel when the suite itself ends, however that ends (PR_SET_PDEATHSIG, by util-linux's
setpriv, which then becomes the process: same pid). Their output goes to one log file each.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

RESTART_AFTER_S = 0.1  # systemd's own default
STOP_WITHIN_S = 20.0
RUNS_WITHIN_S = 30.0

Ended = Callable[[str, int, bool], None]
"""Called with name, status and whether the end was wanted."""


def a_port() -> int:
    """A TCP port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Kept:
    """One process that is kept running."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log_file: Path,
        on_end: Ended,
        *,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.lives = 0
        self._command = [*as_user(user), "setpriv", "--pdeathsig", "KILL", "--", *map(str, command)]
        self._log_file = log_file
        self._on_end = on_end
        self._env = env
        self._stop_signal = stop_signal
        self._process: asyncio.subprocess.Process | None = None
        self._started = asyncio.Event()
        self._wanted_dead = False
        self._killed = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to keep it."""
        self._task = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def kill(self) -> bool:
        """SIGKILL, as soon as it runs; False when it did not run within a time."""
        try:
            await asyncio.wait_for(self._started.wait(), RUNS_WITHIN_S)
        except TimeoutError:
            return False
        self._signal(signal.SIGKILL)
        return True

    async def kill_next_life(self, life: int, after_s: float) -> bool:
        """SIGKILL so long after the beginning of the first life after `life`."""
        try:
            async with asyncio.timeout(RUNS_WITHIN_S):
                while self.lives <= life or not self._started.is_set():
                    await asyncio.sleep(0.005)
        except TimeoutError:
            return False
        await asyncio.sleep(after_s)
        return await self.kill()

    async def finish(self, within_s: float) -> bool:
        """Ask it to end and let it stay so; False when it did not end by itself and was killed."""
        if self._task is None:
            return True
        if not self._started.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._started.wait(), RUNS_WITHIN_S)
        task, self._task = self._task, None
        self._wanted_dead = True
        self._signal(self._stop_signal)
        try:
            await asyncio.wait_for(asyncio.shield(task), within_s)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await task
            return False
        return True

    async def stop(self) -> None:
        """End it for good."""
        await self.finish(STOP_WITHIN_S)

    def last_words(self, lines: int = 15) -> str:
        """The end of its log."""
        text = self._log_file.read_text(encoding="utf-8", errors="replace") if self._log_file.exists() else ""
        return "\n".join([f"the end of {self._log_file}:", *(f"    {line}" for line in text.splitlines()[-lines:])])

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._killed = True
            if number == signal.SIGKILL:
                self._started.clear()  # it is gone, though we have not heard of it yet
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _keep(self) -> None:
        while not self._wanted_dead:
            self._killed = False
            with self._log_file.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._env,
                    start_new_session=True,
                )
            self.lives += 1
            self._started.set()
            status = await self._process.wait()
            self._started.clear()
            self._on_end(self.name, status, self._killed)
            if not self._wanted_dead:
                await asyncio.sleep(RESTART_AFTER_S)


def as_user(user: str | None) -> list[str]:
    """What stands before a command to run it as `user`."""
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"] if user else []
