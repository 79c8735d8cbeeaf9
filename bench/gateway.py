"""A gateway of its own for a benchmark: real broker and edge processes in a temporary folder, on free ports.

With ``tls`` it has both listeners: the plain one on loopback, and mutual TLS by a store authority of its own, where
tills come in that have enrolled as any till does. So the two are compared on one gateway, in turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edge.access.broker_identity import ensure_broker_identity
from edge.bus import topics
from edge.bus.address import Address
from edge.bus.broker import prepare
from edge.bus.client import Client, Message
from edge.children import DIE_WITH_PARENT, broker_settings
from edge.commands.desk import ask
from edge.config import StoreConfig, load
from edge.till import enrol

EDGE = (sys.executable, "-m", "edge.daemon")
BRIDGE = (sys.executable, "-m", "cloud_bridge.daemon")
ENROLLED_WITHIN_S = 30.0
_COMMITTING_EACH = """
import sys
from edge.journal import store
store.BATCH_COUNT = 1
from edge import daemon
sys.exit(daemon.main())
"""
EDGE_COMMITTING_EACH = (sys.executable, "-c", _COMMITTING_EACH)
"""The same edge, but every fact has a commit and an fsync of its own."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway. `address` is where tills connect without TLS; `processes` by name."""

    config: StoreConfig
    address: Address
    processes: dict[str, asyncio.subprocess.Process]
    log: Path

    def plain(self, lane: str) -> Address:
        """Where the till of `lane` connects without TLS."""
        return self.address

    async def enrolled(self, count: int) -> Callable[[str], Address]:
        """Enrol the tills of lanes 1 to `count`, as any till: who asks gets where a lane connects, with its files."""
        addresses = {}
        for lane in map(str, range(1, count + 1)):
            made = await ask(self.config, "lanes.invite", {"lane": lane}, ENROLLED_WITHIN_S)
            folder = self.log.parent / "tills" / lane
            identity = await enrol(made["text"], folder, lane=lane, host="127.0.0.1", port=self.config.enrolment.port)
            addresses[lane] = identity.bus()
        return addresses.__getitem__

    async def restart_broker(self) -> float:
        """Kill the broker and start it again; returns when it was started, in seconds of `time.perf_counter`."""
        broker = self.processes["broker"]
        broker.kill()
        await broker.wait()
        with self.log.open("ab") as out:
            at = time.perf_counter()
            self.processes["broker"] = await start(prepare(broker_settings(self.config)), out)
        return at


def free_port() -> int:
    """A TCP port on loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def lanes_toml(count: int) -> str:
    """`count` lanes named 1 to `count`."""
    return "".join(f'[[lanes]]\nid = "{number}"\n' for number in range(1, count + 1))


@contextlib.asynccontextmanager
async def gateway(
    tables: str,
    *,
    edge: Sequence[str] = EDGE,
    folder: Path | None = None,
    bridge: bool = False,
    tls: bool = False,
) -> AsyncIterator[Gateway]:
    """A broker, an edge and with `bridge` a bridge, with these TOML `tables` besides store and bus; stopped at the end.

    With `tls` also a TLS listener on loopback, and one for enrolment. Without `folder` it has one of its own, removed
    at the end. With the same `folder` again it goes on from there.
    """
    with contextlib.ExitStack() as stack:
        root = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tillgate-bench-")))
        file, bus_port = root / "store.toml", free_port()
        ports = f"port = {free_port()}\n[enrolment]\nport = {free_port()}" if tls else "port = 0"
        bus = f'[bus]\nhost = "127.0.0.1"\nadvertise = false\nplain_port = {bus_port}\n{ports}\n'
        file.write_text(f'state_dir = "state"\n[store]\nid = "BENCH"\n{bus}{tables}')
        config = load(file)
        config.state_dir.mkdir(exist_ok=True)
        if tls and (fault := ensure_broker_identity(config).fault):
            raise RuntimeError(f"the broker has no certificate: {fault}")
        log = root / "log.txt"
        out = stack.enter_context(log.open("ab"))
        processes: dict[str, asyncio.subprocess.Process] = {}
        commands = {"broker": prepare(broker_settings(config)), "edge": [*edge, "--config", str(file)]}
        if bridge:
            commands["bridge"] = [*BRIDGE, "--config", str(file)]
        try:
            for name, command in commands.items():
                processes[name] = await start(command, out)
            await _serving(config, processes, log)
            yield Gateway(config, Address(host="127.0.0.1", port=bus_port), processes, log)
        finally:
            for process in reversed(processes.values()):
                if process.returncode is None:
                    process.send_signal(signal.SIGTERM)
                    await process.wait()


async def start(command: Sequence[str], out: IO[bytes]) -> asyncio.subprocess.Process:
    """One of the gateway's processes, in a session of its own as systemd would; it ends with us."""
    return await asyncio.create_subprocess_exec(
        *DIE_WITH_PARENT, *command, stdout=out, stderr=out, start_new_session=True
    )


async def _serving(config: StoreConfig, processes: dict[str, asyncio.subprocess.Process], log: Path) -> None:
    """Wait until the gateway says that it serves."""
    said = asyncio.Event()

    def heard(message: Message) -> None:
        message.ack()
        if b'"state":"serving"' in message.payload:
            said.set()

    client = Client(Address(socket=config.broker_socket), client_id="bench-watch", clean_start=True)
    client.on_message(topics.GATEWAY_STATUS, heard)
    async with client:
        waits = asyncio.create_task(said.wait())
        ends = [asyncio.create_task(process.wait()) for process in processes.values()]
        await asyncio.wait([waits, *ends], timeout=30, return_when=asyncio.FIRST_COMPLETED)
        for task in (waits, *ends):
            task.cancel()
        if not said.is_set():
            raise RuntimeError(f"the gateway does not serve; its log:\n{log.read_text()[-3000:]}")
