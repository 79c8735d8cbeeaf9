"""Be the hand at a virtual device: `python -m drivers.virtual.by_hand --control SOCKET DEVICE DO [KEY=VALUE...]`.

    scanner-1 scan text=4006381333931        printer-1 paper to=out
    scale-1 load kg=0.482                    printer-1 drawer to=closed
    scale-1 motion on:=true                  devices                    (what there is, and how it is)

KEY=VALUE is a text, KEY:=VALUE is JSON (numbers, true, false).
The device's answer goes to standard output as one JSON object. Exit status 2: it was refused, or nobody listens.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from drivers.virtual.control import Control
from drivers.virtual.twin import BadRequest


async def _do(control: Path, device: str, action: str | None, arguments: dict[str, Any]) -> dict[str, Any]:
    async with Control(control) as twins:
        if action is None:
            return await twins.devices()
        return await twins.do(device, action, **arguments)


def _value(text: str) -> tuple[str, Any]:
    """One KEY=VALUE or KEY:=JSON; ValueError when it is neither."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ValueError(f"{text!r} is no KEY=VALUE")
    if key.endswith(":"):
        return key[:-1], json.loads(value)
    return key, value


def read_line(line: str) -> tuple[str, dict[str, Any]]:
    """One line of a keyboard, ``DO [KEY=VALUE...]``, as an action and its arguments; ValueError when it is none."""
    action, *values = shlex.split(line)
    return action, dict(_value(one) for one in values)


def main(arguments: list[str] | None = None) -> int:
    """Do one thing to one device; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m drivers.virtual.by_hand",
        description="Be the hand at a virtual device.",
        epilog=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--control", type=Path, required=True, metavar="SOCKET", help="the devices' control socket")
    parser.add_argument("device", help="its name; `devices` alone lists all")
    parser.add_argument(
        "do", nargs="?", help="what to do: scan, load, unload, paper, cover, drawer, cable, power, state, ..."
    )
    parser.add_argument("values", nargs="*", metavar="KEY=VALUE", help="the action's arguments")
    given = parser.parse_args(arguments)
    if given.do is None and given.device != "devices":
        parser.error(f"what shall {given.device} do? For example: state")
    try:
        values = dict(_value(one) for one in given.values)
    except ValueError as error:
        parser.error(str(error))
    try:
        answer = asyncio.run(_do(given.control, given.device, given.do, values))
    except BadRequest as error:
        print(f"{given.device}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"no virtual devices listen on {given.control} ({error.strerror}): start them first", file=sys.stderr)
        return 2
    print(json.dumps(answer, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
