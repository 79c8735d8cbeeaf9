"""The network as a process of its own, steered by lines of JSON over a unix socket.

    {"do": "cut", "direction": "up"}      both (the default), up or down
    {"do": "restore"}  {"do": "reset"}  {"do": "forget"}  {"do": "refuse"}
    {"do": "shape", "rtt_ms": 50, "up_kbit": 2000, "down_kbit": 10000}      what is left out stays as it is
    {"do": "state"}

Each line is answered by one: `{"ok": true, ...}` with the state after it, or `{"ok": false, "error": "..."}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any, cast

from demo.wan.relay import Direction, Wan

SHAPES = ("rtt_ms", "up_kbit", "down_kbit")
COUNT_EVERY_S = 1.0


class Log:
    """Lines of JSON: what was done to the network, and each second's bytes while any pass."""

    def __init__(self, file: IO[str] | None) -> None:
        self._file = file
        self._started = time.monotonic()

    def write(self, **what: Any) -> None:
        """One line, with `at_s` from the start."""
        if self._file:
            self._file.write(json.dumps({"at_s": round(time.monotonic() - self._started, 3), **what}) + "\n")
            self._file.flush()


def state_of(wan: Wan) -> dict[str, Any]:
    """What is counted: bytes that arrived, connections, cuts."""
    return {
        "up_bytes": wan.up.carried_bytes,
        "down_bytes": wan.down.carried_bytes,
        "waiting_bytes": wan.waiting_bytes,
        "connections": wan.connections,
        "connections_made": wan.connections_made,
        "whole": wan.whole,
        "cuts": wan.cuts,
        "cut_s": round(wan.cut_s, 3),
    }


async def do(wan: Wan, order: dict[str, Any]) -> None:
    """Do what one line says. ValueError: it says nothing that can be done."""
    match order.get("do"):
        case "cut":
            direction = order.get("direction", "both")
            if direction not in ("up", "down", "both"):
                raise ValueError(f"direction is up, down or both, not {direction!r}")
            await wan.cut(cast(Direction, direction))
        case "restore":
            await wan.restore()
        case "refuse":
            await wan.refuse()
        case "reset":
            wan.reset()
        case "forget":
            wan.forget()
        case "shape":
            shape = {name: float(order[name]) for name in SHAPES if name in order}
            if any(value < 0 for value in shape.values()):
                raise ValueError(f"none of {', '.join(SHAPES)} is below 0")
            wan.shape(**shape)
        case "state":
            pass
        case other:
            raise ValueError(f"there is no {other!r}: cut, restore, reset, forget, refuse, shape or state")


@contextlib.asynccontextmanager
async def listening(wan: Wan, path: Path, log: Log) -> AsyncIterator[None]:
    """Take orders at the unix socket `path` meanwhile."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                try:
                    order = json.loads(line)
                    await do(wan, order)
                    answer = {"ok": True, **state_of(wan)}
                except (ValueError, TypeError, AttributeError) as error:
                    answer = {"ok": False, "error": str(error)}
                else:
                    if order["do"] != "state":
                        log.write(**order)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()

    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(serve, str(path))
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)


async def run(wan: Wan, control: Path | None, log: Log) -> None:
    """Be the network until SIGTERM or SIGINT; the first line printed is the port."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with wan, contextlib.AsyncExitStack() as stack:
        if control:
            await stack.enter_async_context(listening(wan, control, log))
        print(wan.port, flush=True)
        before = (0, 0)
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), COUNT_EVERY_S)
            now = (wan.up.carried_bytes, wan.down.carried_bytes)
            if now != before:
                log.write(up_bytes=now[0] - before[0], down_bytes=now[1] - before[1], connections=wan.connections)
                before = now
        log.write(end=True, **state_of(wan))
