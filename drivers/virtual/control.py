"""The control socket of the virtual devices: one JSON object per line over a unix socket, both ways.

    {"device": "scanner-1", "do": "scan", "text": "4006381333931"}   ->   {"ok": true, ...}
    {"device": "scanner-1", "do": "sing"}                            ->   {"ok": false, "error": "..."}
    {"do": "devices"}                                                ->   {"ok": true, "devices": {...}}

Requests of one connection are answered in order; `Control` is the client.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from drivers.virtual.twin import BadRequest, Table, Twin

_LINE_LIMIT_BYTES = 1 << 20


class ControlServer:
    """Serves a set of twins, by name, on a unix socket."""

    def __init__(self, twins: Mapping[str, Twin], path: Path) -> None:
        self._twins = twins
        self._path = path
        self._server: asyncio.Server | None = None
        self._talking: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        """Listen; an old socket file in the way is replaced."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._talk, self._path, limit=_LINE_LIMIT_BYTES)

    async def close(self) -> None:
        """Stop listening and hang up."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._talking):
            writer.close()
        self._path.unlink(missing_ok=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._talking.add(writer)
        try:
            while line := await reader.readline():
                answer = await self.answer(line)
                writer.write(json.dumps(answer, ensure_ascii=False).encode("utf-8") + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # the client went away, or sent a line without end: nobody is left to tell
        finally:
            self._talking.discard(writer)
            writer.close()

    async def answer(self, line: bytes) -> Table:
        """Obey one request line."""
        try:
            request = json.loads(line)
        except ValueError:
            return {"ok": False, "error": "this is not JSON; send one object per line"}
        if not isinstance(request, dict):
            return {"ok": False, "error": "this is not an object; send one object per line"}
        if request.get("do") == "devices":
            return {"ok": True, "devices": {name: twin.state() for name, twin in self._twins.items()}}
        twin = self._twins.get(str(request.get("device")))
        if twin is None:
            return {"ok": False, "error": f"device is unknown; there are {', '.join(self._twins) or 'none'}"}
        try:
            return {"ok": True, **await twin.do(str(request.get("do")), request)}
        except BadRequest as error:
            return {"ok": False, "error": str(error)}


class Control:
    """A client of the control socket: `async with Control(path) as control: await control.do("scale-1", "unload")`."""

    def __init__(self, path: Path | str) -> None:
        self._path = str(path)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_unix_connection(self._path, limit=_LINE_LIMIT_BYTES)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(ConnectionError):
                await self._writer.wait_closed()

    async def do(self, device: str, action: str, **arguments: Any) -> Table:
        """Do one thing to a device; returns its answer, raises BadRequest (refused) or ConnectionError (gone)."""
        return await self._ask({"device": device, "do": action, **arguments})

    async def devices(self) -> Table:
        """The state of every device, by name."""
        devices: Table = (await self._ask({"do": "devices"}))["devices"]
        return devices

    async def _ask(self, request: Table) -> Table:
        assert self._reader is not None, "use it within `async with`"
        assert self._writer is not None
        async with self._turn:
            self._writer.write(json.dumps(request).encode("utf-8") + b"\n")
            line = await self._reader.readline()
        if not line:
            raise ConnectionResetError("the virtual devices have gone; start them again")
        answer: Table = json.loads(line)
        if not answer.pop("ok"):
            raise BadRequest(answer["error"])
        return answer
