"""A gateway of its own for a benchmark: real broker and edge processes in a temporary folder, on free ports."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.bus import topics
from edge.bus.address import Address
from edge.bus.broker import prepare
from edge.bus.client import Client, Message
from edge.children import DIE_WITH_PARENT, broker_settings
from edge.config import StoreConfig, load

EDGE = (sys.executable, "-m", "edge.daemon")
BRIDGE = (sys.executable, "-m", "cloud_bridge.daemon")
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
    """A running gateway. `address` is where tills connect; `processes` by name."""

    config: StoreConfig
    address: Address
    processes: dict[str, asyncio.subprocess.Process]
    log: Path


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
    tables: str, *, edge: Sequence[str] = EDGE, folder: Path | None = None, bridge: bool = False
) -> AsyncIterator[Gateway]:
    """A broker, an edge and with `bridge` a bridge, with these TOML `tables` besides store and bus; stopped at the end.

    Without `folder` it has one of its own, removed at the end. With the same `folder` again it goes on from there.
    """
    with contextlib.ExitStack() as stack:
        root = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tillgate-bench-")))
        file, bus_port = root / "store.toml", free_port()
        file.write_text(
            f'state_dir = "state"\n[store]\nid = "BENCH"\n[bus]\nport = 0\nplain_port = {bus_port}\n{tables}'
        )
        config = load(file)
        log = root / "log.txt"
        out = stack.enter_context(log.open("ab"))
        processes: dict[str, asyncio.subprocess.Process] = {}
        commands = {"broker": prepare(broker_settings(config)), "edge": [*edge, "--config", str(file)]}
        if bridge:
            commands["bridge"] = [*BRIDGE, "--config", str(file)]
        try:
            for name, command in commands.items():
                processes[name] = await asyncio.create_subprocess_exec(
                    *DIE_WITH_PARENT, *command, stdout=out, stderr=out, start_new_session=True
                )
            await _serving(config, processes, log)
            yield Gateway(config, Address(host="127.0.0.1", port=bus_port), processes, log)
        finally:
            for process in reversed(processes.values()):
                if process.returncode is None:
                    process.send_signal(signal.SIGTERM)
                    await process.wait()


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
