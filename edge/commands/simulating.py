"""A virtual device where the gateway looks for a real one: `tillgate devices simulate`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from drivers import catalog
from drivers.virtual.by_hand import explained, read_line
from drivers.virtual.report_wire import ReportWire
from drivers.virtual.twin import BadRequest, Twin
from drivers.virtual.twins import TWINS, build_at, options_of
from drivers.virtual.wire import PtyWire, TcpWire, UnixWire, Wire
from edge.config import Device, StoreConfig
from edge.startup import complain

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_OTHER_NAMES = {"code_page": "page", "vendor": "maker"}
"""What twins call an option that stands for how the device itself is set."""


class CannotBeThere(Exception):
    """No virtual device can stand in that place; the text says which can."""


@asynccontextmanager
async def placed(
    config: StoreConfig, device: Device, at: str | None = None, paper: Path | None = None, *, pictures: bool = False
) -> AsyncIterator[Twin]:
    """The twin of `device`, there for as long as the block runs; raises CannotBeThere."""
    twin = twin_of(config, device, at, paper, pictures=pictures)
    await twin.open()
    try:
        yield twin
    finally:
        await twin.close()


def twin_of(
    config: StoreConfig, device: Device, at: str | None = None, paper: Path | None = None, *, pictures: bool = False
) -> Twin:
    """The twin of `device`, set up as the configuration says that the device is; not opened. Raises CannotBeThere."""
    if device.protocol not in TWINS:
        through = catalog.DEVICES[device.protocol].through
        told = f"it hangs on {device.options[through]}: simulate that" if through else "there is no twin of its kind"
        raise CannotBeThere(f"{device.id} ({device.protocol}): {told}")
    folder = paper or config.state_dir / "simulated"
    folder.mkdir(parents=True, exist_ok=True)
    wire = _wire(device, at)
    try:
        twin = build_at(device.protocol, device.id, wire, folder, _options(config, device), pictures=pictures)
    except (KeyError, ValueError) as error:
        raise CannotBeThere(f"{device.id}: no twin is set up so: {error.args[0]}") from None
    if device.protocol == "escpos-printer" and not _profile(device).real_time_status:
        twin.wire.silent = True  # its cable carries nothing back
    return twin


def _options(config: StoreConfig, device: Device) -> dict[str, object]:
    """The options of the device that its twin has too, and what other devices tell of this one."""
    known, chosen = options_of(device.protocol), catalog.read_device(device.protocol, device.options)
    named = {_OTHER_NAMES.get(one.name, one.name): getattr(chosen, one.name) for one in fields(chosen)}
    options = {key: value for key, value in named.items() if key in known and value not in (None, "auto")}
    if options.get("maker") == "other":
        options["maker"] = "zebra"  # one that wants no feature report before it speaks
    if device.protocol == "serial-drawer":
        options["status"] = chosen.status != "none"
    if device.protocol == "escpos-printer":
        profile = _profile(device)
        options |= {"proof": profile.proves_printing, "width_dots": profile.width_dots}
        drawers = _hanging_on(config, device, "printer-drawer")
        options["drawer_pins"] = "+".join(str(pin) for pin in sorted({one.pin for one in drawers})) or "2"
        if any(one.open_when == "low" for one in drawers):
            options["drawer_open"] = "low"
        options["display"] = next((one.commands for one in _hanging_on(config, device, "printer-display")), "")
    return options


def _profile(device: Device) -> Any:
    from drivers.printers.profiles import PROFILES

    return PROFILES[catalog.read_device(device.protocol, device.options).model]


def _hanging_on(config: StoreConfig, carrier: Device, kind: str) -> list[Any]:
    """The options of the devices of `kind` that `carrier` carries."""
    return [
        catalog.read_device(kind, one.options)
        for one in config.devices
        if one.protocol == kind and one.options.get(catalog.DEVICES[kind].through or "") == carrier.id
    ]


def _wire(device: Device, at: str | None) -> Wire:
    link, entry = device.transport or {}, TWINS[device.protocol]
    kind = link.get("kind")
    if at is not None and at.startswith("tcp:"):
        if "tcp" not in catalog.DEVICES[device.protocol].transports or not at[4:].isdigit():
            raise CannotBeThere(f"--at {at}: a {device.protocol} cannot be there; say --at PATH")
        return TcpWire(int(at[4:]))
    if at is not None:
        wire = UnixWire if entry.events else ReportWire if entry.reports else PtyWire
        return wire(_free(Path(at)))
    if kind == "tcp":
        if link.get("host") not in _LOOPBACK:
            raise CannotBeThere(f"{device.id} is at {link.get('host')}, which is not this machine; say --at tcp:PORT")
        return TcpWire(int(link.get("port", catalog.read_transport(device.protocol, "tcp", _without_kind(link)).port)))
    if kind == "serial" and "path" in link:
        return PtyWire(_free(Path(link["path"])))
    if kind == "event-socket":
        return UnixWire(_free(Path(link["path"])))
    if kind == "report-socket":
        return ReportWire(_free(Path(link["path"])))
    raise CannotBeThere(
        f"{device.id} is reached by {kind}{'' if kind != 'serial' else ' and what it is'}: only a kernel with the real "
        f"device has that. Say --at PATH, and give a copy of the configuration the transport that is then printed"
    )


def _without_kind(link: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in link.items() if key != "kind"}


def _free(path: Path) -> Path:
    """A path where nothing real stands: nothing at all, a socket or a link that an earlier twin left."""
    real = os.path.realpath(path)
    if path.exists() and not (path.is_socket() or (path.is_symlink() and real.startswith("/dev/pts/"))):
        raise CannotBeThere(f"{path} exists: unplug the real device first, or say --at PATH")
    if not path.parent.is_dir():
        raise CannotBeThere(f"{path.parent} is not there; make the folder, or say --at PATH")
    return path


def transport_to(twin: Twin) -> dict[str, Any]:
    """How a gateway finds a twin: the ``transport`` of a configuration."""
    wire = twin.wire
    if isinstance(wire, TcpWire):
        return {"kind": "tcp", "host": "127.0.0.1", "port": wire.port}
    names = {UnixWire: "event-socket", ReportWire: "report-socket", PtyWire: "serial"}
    return {"kind": names[type(wire)], "path": wire.address}


async def simulate(config: StoreConfig, device: Device, at: str | None, paper: Path | None, pictures: bool) -> int:
    """Run the twin and obey the keyboard (or whatever stands in for it) until it ends; returns the exit status."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    try:
        async with placed(config, device, at, paper, pictures=pictures) as twin:
            if at is not None:
                pairs = ", ".join(f"{key} = {json.dumps(value)}" for key, value in transport_to(twin).items())
                print(f"a gateway finds it with   transport = {{ {pairs} }}", flush=True)
            hand = await _hand(loop)
            asking = "What shall be done to it? (help, Ctrl-D)" if hand else "Nobody is at a keyboard; SIGTERM ends it."
            print(f"{device.id} is at {twin.wire.address}. {asking}", flush=True)
            ending = asyncio.ensure_future(ended.wait())
            while hand is not None and not ended.is_set():
                reading = asyncio.ensure_future(hand.readline())
                await asyncio.wait((reading, ending), return_when=asyncio.FIRST_COMPLETED)
                if not reading.done() or not (line := reading.result()):
                    reading.cancel()
                    break
                print(await _obey(twin, line.decode("utf-8", errors="replace").strip()), flush=True)
            if hand is None:
                await ending
            ending.cancel()
    except (CannotBeThere, OSError) as error:
        return complain(str(error))
    return 0


async def _hand(loop: asyncio.AbstractEventLoop) -> asyncio.StreamReader | None:
    """What is typed, piped in, or stands in a file; None where that is /dev/null, as in the background."""
    mode = os.fstat(sys.stdin.fileno()).st_mode
    if stat.S_ISCHR(mode) and not sys.stdin.isatty():
        return None
    reader = asyncio.StreamReader()
    if stat.S_ISREG(mode):  # no event tells of a file: it is there at once
        reader.feed_data(sys.stdin.buffer.read())
        reader.feed_eof()
    else:
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def _obey(twin: Twin, line: str) -> str:
    if line in ("", "help"):
        return explained(twin)
    try:
        action, values = read_line(line)
        return json.dumps(await twin.do(action, values), ensure_ascii=False)
    except (BadRequest, ValueError) as error:
        return f"no: {error}"
