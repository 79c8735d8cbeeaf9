"""HQ's end for a benchmark: a cloud broker, a PostgreSQL of its own, and receivers, all as real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from bench.gateway import free_port
from bench.processes import Processes, cpu_of_all_s, family, mosquitto

BROKER_CONF = "allow_anonymous true\nuser root\npersistence false\nmax_queued_messages 0\nset_tcp_nodelay true\n"
READY_WITHIN_S = 60.0


@dataclass(slots=True)
class Headquarters:
    """What runs: `cloud_port` of the broker, `url` of the database."""

    cloud_port: int
    url: str
    database: asyncio.subprocess.Process
    receivers: list[asyncio.subprocess.Process] = field(default_factory=list)
    broker: asyncio.subprocess.Process | None = None

    def cpu_s(self) -> dict[str, float]:
        """CPU time so far of broker, receivers and database."""
        assert self.broker is not None
        return {
            "cloud_broker": cpu_of_all_s([self.broker.pid]),
            "hq": cpu_of_all_s(process.pid for process in self.receivers),
            "database": cpu_of_all_s(family(self.database.pid)),
        }


@contextlib.asynccontextmanager
async def headquarters(
    processes: Processes, *, receivers: int = 1, prefix: Sequence[str] = (), confirm_key: Path | None = None
) -> AsyncIterator[Headquarters]:
    """All of it, ready. `prefix` goes before each command of HQ (``nice``, ``chrt``); `confirm_key`: receivers sign."""
    async with postgres(processes, prefix) as (url, database):
        hq = Headquarters(free_port(), url, database)
        hq.broker = await cloud_broker(processes, hq.cloud_port, prefix)
        for _ in range(receivers):
            hq.receivers.append(
                await processes.start(
                    *prefix,
                    *(sys.executable, "-m", "edge.cli", "hq", "receive"),
                    *("--url", url, "--broker", f"127.0.0.1:{hq.cloud_port}"),
                    *(("--confirm-key", str(confirm_key)) if confirm_key else ()),
                )
            )
        yield hq


async def cloud_broker(processes: Processes, port: int, prefix: Sequence[str] = ()) -> asyncio.subprocess.Process:
    """A mosquitto that keeps what nobody has fetched yet in memory, without a limit; answers when this returns."""
    conf = processes.log.with_name(f"broker-{port}.conf")
    conf.write_text(f"listener {port} 127.0.0.1\n{BROKER_CONF}")
    process = await processes.start(*prefix, mosquitto(), "-c", conf)
    async with asyncio.timeout(READY_WITHIN_S):
        while not await answers(port):
            if process.returncode is not None:
                raise RuntimeError(f"mosquitto ended at once:\n{processes.last_words()}")
            await asyncio.sleep(0.02)
    return process


async def answers(port: int) -> bool:
    """Whether somebody listens on this port of loopback."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@contextlib.asynccontextmanager
async def postgres(
    processes: Processes, prefix: Sequence[str] = ()
) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """A PostgreSQL with its defaults, thrown away at the end: its URL and the server's process."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)
    on_path = shutil.which("postgres")
    if not found and not on_path:
        raise RuntimeError("PostgreSQL is not installed. On Debian: apt install postgresql")
    binaries = found[0].parent if found else Path(str(on_path)).parent
    folder = Path(tempfile.mkdtemp(prefix="tillgate-bench-pg-"))
    user: list[str] = []
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        user = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups", "--"]
    port = free_port()
    data = ("-D", folder / "data")
    try:
        made = await processes.start(
            binaries / "initdb", *data, "-U", "hq", "-A", "trust", "-E", "UTF8", user=user, cwd=folder
        )
        if await made.wait() != 0:
            raise RuntimeError(f"initdb failed:\n{processes.last_words()}")
        server = await processes.start(
            *prefix,
            binaries / "postgres",
            *(*data, "-k", folder, "-p", str(port), "-c", "listen_addresses=127.0.0.1"),
            user=user,
            cwd=folder,
            by=signal.SIGINT,
        )
        url = f"postgresql+psycopg://hq@127.0.0.1:{port}/postgres"
        engine = create_engine(url)
        async with asyncio.timeout(READY_WITHIN_S):
            while not await asyncio.to_thread(_open, engine):
                await asyncio.sleep(0.05)
        engine.dispose()
        yield url, server
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _open(engine: Engine) -> bool:
    try:
        with engine.connect() as db:
            db.execute(text("SELECT 1"))
    except OperationalError:
        return False
    return True
