"""A virtual device where the gateway looks for a real one: `tillgate devices simulate`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from drivers.virtual.by_hand import read_line
from drivers.virtual.report_wire import ReportWire
from drivers.virtual.twin import BadRequest, Twin
from drivers.virtual.twins import TWINS, build_at, options_of
from drivers.virtual.wire import PtyWire, TcpWire, UnixWire, Wire
from edge.config import Device, StoreConfig
from edge.startup import complain

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class CannotBeThere(Exception):
    """No virtual device can stand in that place; the text says which can."""


@asynccontextmanager
async def placed(config: StoreConfig, device: Device, at: str | None, paper: Path | None) -> AsyncIterator[Twin]:
    """The twin of `device`, there for as long as the block runs; raises CannotBeThere."""
    if device.protocol not in TWINS:
        carrier = next((device.options[key] for key in ("printer", "scanner") if key in device.options), None)
        told = f"it hangs on {carrier}: simulate that" if carrier else "there is no virtual device of its kind"
        raise CannotBeThere(f"{device.id} ({device.protocol}): {told}")
    known = options_of(device.protocol)
    options = {key: value for key, value in device.options.items() if key in known}
    folder = paper or config.state_dir / "simulated"
    folder.mkdir(parents=True, exist_ok=True)
    twin = build_at(device.protocol, device.id, _wire(device, at), folder, options)
    await twin.open()
    try:
        yield twin
    finally:
        await twin.close()


def _wire(device: Device, at: str | None) -> Wire:
    link = device.transport or {}
    kind, entry = link.get("kind"), TWINS[device.protocol]
    if at is not None and at.startswith("tcp:"):
        return TcpWire(int(at[4:]))
    if at is not None:
        wire = UnixWire if entry.events else ReportWire if entry.reports else PtyWire
        return wire(_free(Path(at)))
    if kind == "tcp":
        if link.get("host") not in _LOOPBACK:
            raise CannotBeThere(f"{device.id} is at {link.get('host')}, which is not this machine; say --at tcp:PORT")
        return TcpWire(int(link["port"]))
    if kind == "serial" and "path" in link:
        return PtyWire(_free(Path(link["path"])))
    if kind == "event-socket":
        return UnixWire(_free(Path(link["path"])))
    if kind == "report-socket":
        return ReportWire(_free(Path(link["path"])))
    raise CannotBeThere(
        f"{device.id} is reached by {kind}: only the kernel makes that. Say --at PATH, and let a copy of the "
        "configuration look for it there (transport serial, event-socket, report-socket or tcp)"
    )


def _free(path: Path) -> Path:
    """A path where nothing real stands: nothing at all, a socket or a link that an earlier twin left."""
    real = os.path.realpath(path)
    if path.exists() and not (path.is_socket() or (path.is_symlink() and real.startswith("/dev/pts/"))):
        raise CannotBeThere(f"{path} exists: unplug the real device first, or say --at PATH")
    if not path.parent.is_dir():
        raise CannotBeThere(f"{path.parent} is not there; make the folder, or say --at PATH")
    return path


async def simulate(config: StoreConfig, device: Device, at: str | None, paper: Path | None) -> int:
    """Run the twin and obey the keyboard (or whatever stands in for it) until it ends; returns the exit status."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    try:
        async with placed(config, device, at, paper) as twin:
            print(f"{device.id} is at {twin.wire.address}. What shall be done to it? (help, Ctrl-D)", flush=True)
            reader = asyncio.StreamReader()
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
            ending = asyncio.ensure_future(ended.wait())
            while not ended.is_set():
                reading = asyncio.ensure_future(reader.readline())
                await asyncio.wait((reading, ending), return_when=asyncio.FIRST_COMPLETED)
                if not reading.done() or not (line := reading.result()):
                    reading.cancel()
                    break
                print(await _obey(twin, line.decode("utf-8", errors="replace").strip()), flush=True)
            ending.cancel()
    except (CannotBeThere, PermissionError) as error:
        return complain(str(error))
    return 0


async def _obey(twin: Twin, line: str) -> str:
    if line in ("", "help"):
        return f"{twin.name} takes: {', '.join(twin.actions)}  (for example: state, cable to=pull)"
    try:
        action, values = read_line(line)
        return json.dumps(await twin.do(action, values), ensure_ascii=False)
    except (BadRequest, ValueError) as error:
        return f"no: {error}"
