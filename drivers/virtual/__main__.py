"""Virtual devices as a process: `python -m drivers.virtual --state DIR --control SOCKET DEVICE...`.

DEVICE is KIND:NAME[:tcp:PORT][:key=value...]:

    serial-scanner:scanner-1                a pty linked at DIR/ttyscanner-1
    serial-scanner:scanner-2:suffix=crlf    with an option of its own
    keyboard-scanner:keyboard-1             key events on the unix socket DIR/keyboard-1.events
    hid-pos-scanner:scanner-3               HID reports on the unix socket DIR/scanner-3.reports
    toledo-8217:scale-1:unit=lb             a scale on DIR/ttyscale-1
    escpos-printer:printer-1:tcp:9101       a printer on a TCP port (0: any free one)

KIND is a protocol of the catalogue; a wrong option is answered with those that the kind takes.

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
from drivers.virtual.twin import Twin
from drivers.virtual.twins import build


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
