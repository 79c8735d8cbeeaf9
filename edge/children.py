"""Runs the gateway's processes as children: broker, edge, bridge. In the field systemd does this instead.

Strategy: one `Child` per process, each restarted with backoff when it ends by itself, each with a pid file under
``run/`` in the state folder, and each told to end when this process ends, however it ends (prctl PR_SET_PDEATHSIG, set
by util-linux's setpriv, which then becomes the process: same pid).
Stopping is in reverse order of starting, so that edge can still say good-bye on the bus.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge.bus.broker import BrokerSettings, prepare

log = logging.getLogger(__name__)

DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "TERM", "--")
STOP_WITHIN_S = 10.0
FIRST_BACKOFF_S = 0.2
LONGEST_BACKOFF_S = 10.0
GOOD_LIFE_S = 30.0
"""A child that lived this long starts again without delay."""


@dataclass(slots=True)
class Child:
    """One process: `command` as given to exec, `pid_file` written while it runs, `log_file` or this one's stderr."""

    name: str
    command: Sequence[str]
    pid_file: Path
    log_file: Path | None = None
    process: asyncio.subprocess.Process | None = field(default=None, init=False)
    stopping: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def keep(self) -> None:
        """Start it, and start it again whenever it ends, until `stop`."""
        backoff_s = FIRST_BACKOFF_S
        while not self.stopping.is_set():
            started = time.monotonic()
            code = await self._live_once()
            if self.stopping.is_set():
                return
            if time.monotonic() - started > GOOD_LIFE_S:
                backoff_s = FIRST_BACKOFF_S
            log.warning("%s ended (%s); starting it again in %.1f s", self.name, _ended(code), backoff_s)
            await asyncio.sleep(backoff_s)
            backoff_s = min(LONGEST_BACKOFF_S, backoff_s * 2)

    async def _live_once(self) -> int:
        command = [*DIE_WITH_PARENT, *self.command]
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(self.log_file.open("ab")) if self.log_file else None
            self.process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        self.pid_file.write_text(f"{self.process.pid}\n")
        log.info("%s runs as process %d", self.name, self.process.pid)
        try:
            return await self.process.wait()
        finally:
            self.pid_file.unlink(missing_ok=True)

    async def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL when it has not ended in time."""
        self.stopping.set()
        process = self.process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                await process.wait()
        except TimeoutError:
            log.error("%s does not end; killing process %d", self.name, process.pid)
            process.kill()
            await process.wait()


def _ended(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


async def run(config_file: Path, settings: BrokerSettings, state_dir: Path, log_dir: Path | None) -> None:
    """Run broker, edge and bridge until SIGINT or SIGTERM."""
    run_dir = state_dir / "run"
    run_dir.mkdir(parents=True, exist_ok=True)
    if log_dir:
        log_dir.mkdir(parents=True, exist_ok=True)
    commands = {
        "broker": prepare(settings),
        "edge": [sys.executable, "-m", "edge.daemon", "--config", str(config_file)],
        "bridge": [sys.executable, "-m", "cloud_bridge.daemon", "--config", str(config_file)],
    }
    children = [
        Child(name, command, run_dir / f"{name}.pid", log_dir / f"{name}.log" if log_dir else None)
        for name, command in commands.items()
    ]
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(child.keep(), name=child.name) for child in children]
        await stop.wait()
        for child in reversed(children):
            await child.stop()
        for task in tasks:
            task.cancel()
