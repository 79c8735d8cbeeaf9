"""Virtual devices as a process: `python -m drivers.virtual --state DIR --control SOCKET DEVICE...`.

DEVICE is KIND:NAME[:tcp:PORT][:key=value...]:

    scanner:scanner-1                     a pty linked at DIR/ttyscanner-1
    scanner:scanner-2:suffix=crlf         its options: suffix, prefix
    keyboard:keyboard-1                   key events on the unix socket DIR/keyboard-1.events
    scale:scale-1:unit=kg:capacity=15     Toledo 8217 on DIR/ttyscale-1; parity=shown for a line read as 8N1
    printer:printer-1:tcp:9101            ESC/POS on a TCP port (0: any free one) or, without tcp, on a pty;
                                          its options: drawer_open=high|low, drawer_pin=2|5, proof=no,
                                          buffer_bytes=N

When all are there, one line of JSON goes to standard output: {"ready": true, "devices": {name: address}}.
SIGTERM or SIGINT ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from drivers.virtual.control import ControlServer
from drivers.virtual.keyboard import VirtualKeyboard
from drivers.virtual.printer import VirtualPrinter
from drivers.virtual.scale import VirtualScale
from drivers.virtual.scanner import SUFFIXES, VirtualScanner
from drivers.virtual.twin import Twin
from drivers.virtual.wire import PtyWire, TcpWire, UnixWire, Wire

_OPTIONS = {
    "scanner": {"suffix", "prefix"},
    "keyboard": set[str](),
    "scale": {"unit", "capacity", "parity"},
    "printer": {"drawer_open", "drawer_pin", "proof", "buffer_bytes"},
}


def build(spec: str, directory: Path, *, pictures: bool = False) -> Twin:
    """Build the twin that `spec` (see above) describes; raises ValueError saying what would be right."""
    kind, _, rest = spec.partition(":")
    name, *parts = rest.split(":")
    if kind not in _OPTIONS or not name:
        raise ValueError(f"{spec!r}: expected KIND:NAME with a kind of {', '.join(_OPTIONS)}")
    port: int | None = None
    if parts[:1] == ["tcp"]:
        if kind != "printer" or len(parts) < 2 or not parts[1].isdigit():
            raise ValueError(f"{spec!r}: expected printer:{name}:tcp:PORT")
        port = int(parts[1])
        parts = parts[2:]
    options = dict(part.partition("=")[::2] for part in parts)
    if unknown := set(options) - _OPTIONS[kind]:
        known = ", ".join(sorted(_OPTIONS[kind])) or "no options"
        raise ValueError(f"{spec!r}: {unknown.pop()} is unknown; a {kind} takes {known}")
    wire: Wire = PtyWire(directory / f"tty{name}") if port is None else TcpWire(port)
    if kind == "scanner":
        if options.get("suffix", "cr") not in SUFFIXES:
            raise ValueError(f"{spec!r}: expected a suffix of {', '.join(SUFFIXES)}")
        return VirtualScanner(name, wire, **options)
    if kind == "keyboard":
        return VirtualKeyboard(name, UnixWire(directory / f"{name}.events"))
    if kind == "scale":
        return VirtualScale(name, wire, **options)
    return VirtualPrinter(
        name,
        wire,
        directory / name,
        pictures=pictures,
        buffer_bytes=int(options.get("buffer_bytes", 4096)),
        drawer_open=options.get("drawer_open", "high"),
        drawer_pin=int(options.get("drawer_pin", 2)),
        proof=options.get("proof", "yes") != "no",
    )


async def serve(twins: Sequence[Twin], control: Path) -> None:
    """Run the twins and their control socket until a signal comes."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with AsyncExitStack() as stack:
        for twin in twins:
            await twin.open()
            stack.push_async_callback(twin.close)
        server = ControlServer({twin.name: twin for twin in twins}, control)
        await server.open()
        stack.push_async_callback(server.close)
        addresses = {twin.name: twin.wire.address for twin in twins}
        sys.stdout.write(json.dumps({"ready": True, "devices": addresses}) + "\n")
        sys.stdout.flush()
        await ended.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and serve; returns the exit status."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m drivers.virtual",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--state", type=Path, required=True, help="directory for ptys, sockets and paper")
    parser.add_argument("--control", type=Path, required=True, help="unix socket that takes requests")
    parser.add_argument("--pictures", action="store_true", help="draw every receipt as a PNG when it is cut")
    parser.add_argument("device", nargs="+", help="KIND:NAME[:tcp:PORT][:key=value...]")
    given = parser.parse_args(arguments)
    given.state.mkdir(parents=True, exist_ok=True)
    try:
        twins = [build(spec, given.state, pictures=given.pictures) for spec in given.device]
    except ValueError as error:
        parser.error(str(error))
    asyncio.run(serve(twins, given.control))
    return 0


if __name__ == "__main__":
    sys.exit(main())
