"""Runs the gateway's processes as children: broker, edge, bridge. In the field systemd does this instead.

Strategy: each is started again with growing pauses when it ends by itself, and has a pid file under ``run/`` in the
state folder. Each is told to end when this process ends, however it ends (prctl PR_SET_PDEATHSIG, set by util-linux's
setpriv, which then becomes the process: same pid).

Stopping is in reverse order of starting, so that edge can still say good-bye on the bus.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from edge.access.broker_identity import BrokerIdentity, ensure_broker_identity, stand_in
from edge.bus.broker import BrokerFailed, BrokerProcess, BrokerSettings, TlsListener, prepare
from edge.config import StoreConfig
from edge.supervisor import Bug, caught, keep_running

log = logging.getLogger(__name__)

DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "TERM", "--")
STOP_WITHIN_S = 10.0


class Ended(Exception):
    """A child has ended by itself; the text says how."""


@dataclass(slots=True)
class Child:
    """One process: `command` as given to exec, `pid_file` written while it runs, `log_file` or this one's stderr."""

    name: str
    command: Sequence[str]
    pid_file: Path
    log_file: Path | None = None
    process: asyncio.subprocess.Process | None = field(default=None, init=False)

    async def live(self) -> None:
        """Start it and stay with it: something for `keep_running`. Raises Ended."""
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(self.log_file.open("ab")) if self.log_file else None
            self.process = await asyncio.create_subprocess_exec(
                *DIE_WITH_PARENT,
                *self.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        write_pid(self.pid_file, self.process.pid)
        log.info("%s runs as process %d", self.name, self.process.pid)
        try:
            code = await self.process.wait()
        finally:
            forget_pid(self.pid_file)
        raise Ended(f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}")

    async def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL when it has not ended in time."""
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


def write_pid(file: Path, pid: int | None) -> None:
    """Say which process it is, for people; a disk that does not take it keeps nothing from running."""
    try:
        file.write_text(f"{pid}\n")
    except OSError as error:
        log.warning("cannot write %s: %s", file, error)


def forget_pid(file: Path) -> None:
    """The process has ended."""
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        log.warning("cannot remove %s: %s", file, error)


def broker_settings(config: StoreConfig) -> BrokerSettings:
    """The store's broker as its configuration wants it."""
    files = BrokerIdentity.of(config.state_dir).files
    return BrokerSettings(
        state_dir=config.state_dir / "run",
        socket=config.broker_socket,
        tls=TlsListener(files, config.bus.host, config.bus.port) if config.bus.port else None,
        plain_port=config.bus.plain_port,
    )


async def run(config: StoreConfig, log_dir: Path | None) -> None:
    """Run broker, edge and bridge until SIGINT or SIGTERM. Raises BrokerFailed when there is no mosquitto."""
    settings, config_file = broker_settings(config), config.file.resolve()
    run_dir = config.state_dir / "run"
    for folder in (config.state_dir, run_dir):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if log_dir:
        log_dir.mkdir(parents=True, exist_ok=True)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await _prove(config)
    prepare(settings)  # what is missing is said before anything runs
    commands = {
        "edge": [sys.executable, "-m", "edge.daemon", "--config", str(config_file)],
        "bridge": [sys.executable, "-m", "cloud_bridge.daemon", "--config", str(config_file)],
    }
    children = [
        Child(name, command, run_dir / f"{name}.pid", log_dir / f"{name}.log" if log_dir else None)
        for name, command in commands.items()
    ]
    async with asyncio.TaskGroup() as group:
        broker = group.create_task(_keep_broker(config, settings, run_dir / "broker.pid"), name="broker")
        kept = [
            group.create_task(keep_running(child.name, child.live, expected=(Ended,)), name=child.name)
            for child in children
        ]
        await stop.wait()
        for child, task in reversed(list(zip(children, kept, strict=True))):
            task.cancel()
            await child.stop()
        broker.cancel()


async def _prove(config: StoreConfig) -> None:
    """See that the broker has a certificate; whatever is wrong with it, edge tells people and the broker starts."""
    if not config.bus.port:
        return
    proof = await caught("the broker's proof of who it is", asyncio.to_thread(ensure_broker_identity, config))
    if isinstance(proof, Bug):
        await caught("what stands in for it", asyncio.to_thread(stand_in, config))
    elif proof.fault is not None:
        log.error("the broker starts with what there is: %s", proof.fault)


async def _keep_broker(config: StoreConfig, settings: BrokerSettings, pid_file: Path) -> NoReturn:
    broker = BrokerProcess(settings)

    async def live() -> None:
        await _prove(config)
        await broker.start()
        write_pid(pid_file, broker.pid)
        try:
            await broker.wait()
        finally:
            forget_pid(pid_file)
            await broker.stop()

    await keep_running("broker", live, expected=(BrokerFailed,))
