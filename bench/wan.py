"""The lines of the bridge's benchmarks, and the WAN emulator that makes them, as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bench.processes import Processes

EMULATOR = (sys.executable, "-m", "demo.wan")


@dataclass(frozen=True, slots=True)
class Line:
    """A line between store and HQ: `rtt_ms` round trip, `up_kbit` towards HQ, None: no limit. `key` names figures."""

    key: str
    name: str
    rtt_ms: int = 0
    up_kbit: int | None = None


LINES = (
    Line("rtt0", "0 ms"),
    Line("rtt50", "50 ms", rtt_ms=50),
    Line("rtt50_2mbit", "50 ms, 2 Mbit/s up", rtt_ms=50, up_kbit=2_000),
)


class Emulator:
    """A running emulator: where to connect, and what it has counted."""

    def __init__(self, port: int, control: Path) -> None:
        self.port = port
        self._control = control
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def counts(self) -> tuple[int, int]:
        """Bytes that have arrived so far: up, down."""
        state = await self.order("state")
        return state["up_bytes"], state["down_bytes"]

    async def order(self, what: str) -> dict[str, Any]:
        """Have it do something (see `demo/wan/control.py`); its state afterwards."""
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(str(self._control))
        reader, writer = self._streams
        writer.write(orjson.dumps({"do": what}) + b"\n")
        answer: dict[str, Any] = orjson.loads(await reader.readline())
        return answer

    def close(self) -> None:
        """Let go of the control socket."""
        if self._streams is not None:
            self._streams[1].close()


@contextlib.asynccontextmanager
async def emulator(
    processes: Processes, line: Line, to_port: int, prefix: Sequence[str] = (), *, log: Path | None = None
) -> AsyncIterator[Emulator]:
    """The emulator of `line` in front of a port on loopback. `prefix` goes before its command; `log` gets each second's
    bytes.
    """
    control = processes.log.with_name(f"wan-{to_port}.sock")
    control.unlink(missing_ok=True)
    arguments = ["--listen", "0", "--to", f"127.0.0.1:{to_port}", "--control", str(control)]
    if line.rtt_ms:
        arguments += ["--rtt-ms", str(line.rtt_ms)]
    if line.up_kbit:
        arguments += ["--up-kbit", str(line.up_kbit)]
    if log:
        arguments += ["--json-log", str(log)]
    process = await processes.start(*prefix, *EMULATOR, *arguments, talks=True)
    assert process.stdout is not None
    said = await process.stdout.readline()
    if not said:
        raise RuntimeError(f"the WAN emulator ended at once:\n{processes.last_words()}")
    running = Emulator(int(said), control)
    try:
        yield running
    finally:
        running.close()
