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
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from drivers.virtual.control import Control
from drivers.virtual.twin import BadRequest, Twin

ACTIONS: Mapping[str, tuple[str, str]] = {
    "cable": ("cable to=pull", "pulls the cable; to=plug: puts it in again"),
    "silence": ("silence on:=true", "says nothing any more; on:=false: speaks again"),
    "split": ("split on:=true", "sends byte by byte"),
    "garble": ("garble on:=true", "every bit pattern comes wrong"),
    "late": ("late ms:=250", "answers come so much later"),
    "noise": ("noise hex=00fe1b", "rubbish on the line; without hex: some of ours"),
    "state": ("state", "everything worth knowing of it"),
    "scan": (
        "scan text=4006381333931",
        "scans a label; aim=E0: its AIM identifier; raw=...: bytes in hex instead",
    ),
    "cut_scan": ("cut_scan text=4006381333931", "a scan that stops in the middle"),
    "lose_events": ("lose_events text=4006381333931", "a scan of which the kernel drops some keys"),
    "load": ("load value=1.06", "puts it on the plate; also kg=, g=, lb=, oz=; settle_ms:=500: it moves so long"),
    "weigh": ("weigh value=1.06", "the same as load"),
    "unload": ("unload", "takes everything off"),
    "motion": ("motion on:=true", "somebody leans on the plate"),
    "over": ("over", "more on it than it can weigh"),
    "under": ("under", "below zero: something that was tared away is gone"),
    "fault": ("fault to=fault", "also to=calibrate, to=rezero, to=none"),
    "busy": ("busy on:=true", "takes no commands for now"),
    "mishear": ("mishear on:=true", "takes every command for a wrong one"),
    "hold": ("hold on:=true", "its hold key: shows a weight that lies there no more"),
    "paper": ("paper to=out", "also to=near_end, to=ok; after_lines:=3: in mid-job"),
    "ribbon": ("ribbon to=out", "also to=ok"),
    "head": ("head to=open", "also to=closed"),
    "pause": ("pause to=on", "its pause key; also to=off"),
    "labels": ("labels", "the labels that it has printed"),
    "cover": ("cover to=open", "also to=closed; after_lines:=3: in mid-job"),
    "error": ("error to=cutter", "also to=recoverable, to=unrecoverable, to=none"),
    "power": ("power to=cycle", "also to=off, to=on; after_bytes:=200: in mid-job (printers)"),
    "pace": ("pace bytes_per_s:=2000", "prints no faster; 0: at once"),
    "drawer": ("drawer to=closed", "pushes the drawer shut; to=open: with its key; pin:=5 where there are two"),
    "receipt": ("receipt", "the last receipt as text"),
    "picture": ("picture", "what it shows, or printed last, as PNG"),
    "screen": ("screen", "the lines that a customer reads"),
    "screen_picture": ("screen_picture", "the display behind it as PNG"),
}
"""What can be done to virtual devices: an example, and what it does and takes besides."""


def explained(twin: Twin) -> str:
    """Everything that can be done to `twin`, one line each."""
    return _table(ACTIONS.get(action, (action, "")) for action in twin.actions)


def _table(rows: Iterable[tuple[str, str]]) -> str:
    rows = list(rows)
    width = max(len(example) for example, _ in rows)
    return "\n".join(f"  {example:<{width}}   {what}" for example, what in rows)


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
        epilog=f"{__doc__}\nwhat can be done, each to the devices that have it:\n\n{_table(ACTIONS.values())}",
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
