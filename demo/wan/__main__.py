"""A wide area network between a port and a server: python -m demo.wan --listen 0 --to 127.0.0.1:1883 --rtt-ms 50."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from pathlib import Path

from demo.wan import control
from demo.wan.relay import Wan


def main() -> int:
    """Read the command line and be the network."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.wan",
        description="A wide area network: a TCP relay on 127.0.0.1 with delay, bandwidth, cuts, resets and refusals.",
        epilog=f"over --control: {control.__doc__}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--listen", type=int, default=0, metavar="PORT", help="0 (the default) picks one")
    parser.add_argument("--to", required=True, metavar="HOST:PORT", help="the server at the other side")
    parser.add_argument("--rtt-ms", type=float, default=0, metavar="N", help="round trip: half of it each way")
    parser.add_argument("--up-kbit", type=float, default=0, metavar="N", help="bandwidth to the server, kbit/s")
    parser.add_argument("--down-kbit", type=float, default=0, metavar="N", help="bandwidth from the server, kbit/s")
    parser.add_argument("--control", type=Path, metavar="UNIX_SOCKET", help="take orders there, one JSON object a line")
    parser.add_argument("--json-log", type=Path, metavar="FILE", help="write there what happened and what passed")
    options = parser.parse_args()
    host, _, port = options.to.rpartition(":")
    if not port.isdigit():
        parser.error(f"--to wants HOST:PORT, not {options.to!r}")
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(options.json_log.open("w", encoding="utf-8")) if options.json_log else None

        async def go() -> None:
            wan = Wan(
                int(port),
                cloud_host=host or "127.0.0.1",
                port=options.listen,
                rtt_ms=options.rtt_ms,
                up_kbit=options.up_kbit,
                down_kbit=options.down_kbit,
                tell=lambda text: print(text, file=sys.stderr, flush=True),
            )
            await control.run(wan, options.control, control.Log(file))

        asyncio.run(go())
    return 0


if __name__ == "__main__":
    sys.exit(main())
