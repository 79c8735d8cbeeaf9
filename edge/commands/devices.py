"""`tillgate devices ...`: what hangs on this gateway, how it is, and whether it works.

Strategy: what the gateway knows is asked of the gateway, so that nothing is opened behind its back; what needs no
gateway (replaying a capture, simulating a device) works without one. Each command is an ``_add_...`` function with the
function that runs it below.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.commands.desk import log_in_argument
from edge.startup import complain, loaded

if TYPE_CHECKING:
    from edge.config import Device, StoreConfig

_EPILOG = """
examples:
  tillgate devices list                            what there is, and what a person should do about it
  tillgate devices identify                        press, scan, open something: which device was it?
  tillgate devices test printer-1                  a test page, through the print ledger
  tillgate devices record scale-1 /tmp/odd-scale   what it really sends, as a capture for drivers/README.md
  tillgate devices replay /tmp/odd-scale           what our parser makes of a capture
  tillgate devices simulate scale-1                a virtual scale in its place, to train on
"""

Subparsers = Any


def add_commands(subparsers: Subparsers, config_argument: Callable[[argparse.ArgumentParser], None]) -> None:
    """Put ``devices`` and its own commands on the `tillgate` command line."""
    devices = subparsers.add_parser(
        "devices",
        help="list, find, try, calibrate, record and simulate devices",
        description="Everything a technician does with the devices of a store.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = devices.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (
        _add_list,
        _add_show,
        _add_identify,
        _add_test,
        _add_calibrate,
        _add_record,
        _add_replay,
        _add_simulate,
    ):
        config_argument(add(commands))


def _asking(chosen: argparse.Namespace, work: Callable[[StoreConfig], Coroutine[Any, Any, int]]) -> int:
    """Read the configuration and run `work`; what stands in the way is said on stderr (exit status 2; refused: 1)."""
    config = loaded(chosen.config)
    if config is None:
        return 2
    from edge.commands.desk import NoGateway, Refused

    try:
        return asyncio.run(work(config))
    except NoGateway as error:
        return complain(str(error))
    except Refused as error:
        complain(f"{error.code}: {error}")
        return 1


def _configured(config: StoreConfig, name: str) -> Device | None:
    device = next((one for one in config.devices if one.id == name), None)
    if device is None:
        known = ", ".join(one.id for one in config.devices)
        complain(f"{config.file} has no device {name!r}; it has {known or 'none'}")
    return device


# -- list and show -----------------------------------------------------------------------------------------------------


def _add_list(commands: Subparsers) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "list",
        help="every device of the configuration, and how it is",
        description="Lists every device. Exit status 0: all is well; 1: something waits for a person; 2: no gateway "
        "answers, and only the configuration is shown. With --plugged: what is plugged into the USB ports of this "
        "machine, each with the transport = { ... } to write into store.toml.",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--json", action="store_true", help="one JSON object")
    what.add_argument("--plugged", action="store_true", help="USB devices that are plugged in, configured or not")
    parser.set_defaults(run=_list_or_plugged)
    return parser


def _list_or_plugged(chosen: argparse.Namespace) -> int:
    if chosen.plugged:
        from edge.commands.plugged import list_plugged

        return list_plugged(chosen.config)
    return _asking(chosen, lambda config: _list(config, chosen))


async def _list(config: StoreConfig, chosen: argparse.Namespace) -> int:
    from edge.commands import listing

    return await listing.list_all(config, chosen.json)


def _add_show(commands: Subparsers) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "show",
        help="everything known of one device",
        description="Shows one device: its configuration with every default, and what the gateway says of it.",
    )
    parser.add_argument("name", metavar="NAME", help="the device's id")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=lambda chosen: _asking(chosen, lambda config: _show(config, chosen)))
    return parser


async def _show(config: StoreConfig, chosen: argparse.Namespace) -> int:
    from edge.commands import listing

    device = _configured(config, chosen.name)
    return 2 if device is None else await listing.show(config, device, chosen.json)


# -- identify, test, calibrate -----------------------------------------------------------------------------------------


def _add_identify(commands: Subparsers) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "identify",
        help="which device is which",
        description="With NAME, a printer or display shows its name. Without, says for --seconds which device spoke: "
        "scan something, press on a scale, open a drawer or a cover.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="the device that shall show itself")
    parser.add_argument("--seconds", type=float, default=60, metavar="N", help="how long to listen (60)")
    parser.set_defaults(run=lambda chosen: _asking(chosen, lambda config: _identify(config, chosen)))
    return parser


async def _identify(config: StoreConfig, chosen: argparse.Namespace) -> int:
    from edge.commands.desk import ask

    if chosen.name is None:
        from edge.commands.watching import watch

        print(f"listening for {chosen.seconds:.0f} s: scan something, press on a scale, open a drawer (Ctrl-C ends it)")
        return 0 if await watch(config, chosen.seconds, print) else 1
    result = await ask(config, "device.identify", {"device": chosen.name}, 20)
    print(f"{chosen.name}: {result['showed']}")
    return 0


def _add_test(commands: Subparsers) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "test",
        help="try a device as a till would use it",
        description="A printer prints a test page, a scale weighs, a drawer opens (which is recorded), a display shows "
        "a pattern, a scanner must scan within --seconds. Exit status 0: it works, or it cannot tell and you look; "
        "1: it does not, and why.",
    )
    parser.add_argument("name", metavar="NAME", help="the device's id")
    parser.add_argument("--seconds", type=float, default=20, metavar="N", help="how long to wait for it (20)")
    parser.set_defaults(run=lambda chosen: _asking(chosen, lambda config: _test(config, chosen)))
    return parser


async def _test(config: StoreConfig, chosen: argparse.Namespace) -> int:
    from drivers import catalog
    from edge.commands.desk import ask

    device = _configured(config, chosen.name)
    if device is None:
        return 2
    if catalog.DEVICES[device.protocol].category == "scanner":
        print(f"scan something with {device.id} now", flush=True)
    result = await ask(config, "device.test", {"device": device.id}, min(110.0, chosen.seconds))
    tried = result.pop("tried")
    look = any(key in result and result[key] == value for key, value in _LEFT_TO_THE_EYE.items())
    verdict = "cannot tell whether it did it, so look" if look else "works"
    print(f"{device.id} {verdict}: {tried} gave {json.dumps(result, ensure_ascii=False)}")
    return 0


_LEFT_TO_THE_EYE = {"opened": None, "state": "sent", "shown": True}
"""Results of devices that tell nothing more: of a drawer, a printer, a display."""


def _add_calibrate(commands: Subparsers) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "calibrate",
        help="learn what a drawer's contact says when it is open",
        description="Asks you to close the drawer, opens it, and asks you to close it again; what the contact said "
        "meanwhile is remembered. The opening is recorded like any other.",
    )
    parser.add_argument("name", metavar="NAME", help="the drawer's id")
    log_in_argument(parser)
    parser.set_defaults(run=lambda chosen: _asking(chosen, lambda config: _calibrate(config, chosen)))
    return parser


async def _calibrate(config: StoreConfig, chosen: argparse.Namespace) -> int:
    from edge.commands.desk import ask

    name: str = chosen.name
    device = _configured(config, name)
    if device is None:
        return 2
    step: dict[str, Any] = {"device": name, "step": "begin"}
    while True:
        result = await ask(config, "device.calibrate", step, 30, without_log_in=chosen.without_log_in)
        if result.get("done"):
            print(result["text"])
            return 0
        step = {"device": name, "step": result["next"]}
        question = result.get("question")
        try:
            said = await asyncio.to_thread(
                input, f"{result['text']}{', then press Enter' if question is None else ' (yes, no)'} "
            )
        except EOFError:
            complain("nobody answers here; give the command again at a terminal. Nothing was learnt")
            return 1
        if question is not None:
            step[question] = said.strip().lower() in ("y", "yes")


# -- record, replay, simulate ------------------------------------------------------------------------------------------


def _add_record(commands: Subparsers) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "record",
        help="keep what a device really sends, as a capture",
        description="Listens to the device for --seconds and writes a capture: the bytes, what our parser makes of "
        "them, and a README to complete. The gateway may be running (the device goes on working) or not.",
    )
    parser.add_argument("name", metavar="NAME", help="the device's id")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder")
    parser.add_argument("--seconds", type=float, default=30, metavar="N", help="how long to listen (30, at most 110)")
    log_in_argument(parser)
    parser.set_defaults(run=lambda chosen: _asking(chosen, lambda config: _record(config, chosen)))
    return parser


async def _record(config: StoreConfig, chosen: argparse.Namespace) -> int:
    from edge.commands import recording

    device = _configured(config, chosen.name)
    if device is None:
        return 2
    print(f"listening to {device.id} for {chosen.seconds:.0f} s: use it now", flush=True)
    return await recording.record(
        config, device, chosen.folder, min(110.0, chosen.seconds), without_log_in=chosen.without_log_in
    )


def _add_replay(commands: Subparsers) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "replay",
        help="what our parser makes of a capture; or let the gateway hear it",
        description="Prints the events of a capture. Exit status 0: they are those that the capture expects; 1: they "
        "differ. With --as NAME the bytes are sent where the gateway looks for that device, as if it were there.",
    )
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="a capture: bytes.rx, expected.jsonl, protocol.json"
    )
    parser.add_argument("--as", dest="as_device", metavar="NAME", help="play it to the gateway in this device's place")
    parser.add_argument("--gap-ms", type=float, default=20, metavar="MS", help="between pieces, with --as (20)")
    parser.set_defaults(run=_replay)
    return parser


def _replay(chosen: argparse.Namespace) -> int:
    from edge.commands import recording

    if chosen.as_device is None:
        return recording.replay(chosen.folder)

    async def play(config: StoreConfig) -> int:
        device = _configured(config, chosen.as_device)
        return 2 if device is None else await recording.play(config, device, chosen.folder, chosen.gap_ms / 1000)

    return _asking(chosen, play)


def _add_simulate(commands: Subparsers) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "simulate",
        help="a virtual device in a device's place, to train on",
        description="Starts the device's virtual twin where the gateway looks for it (a pty, a port of this machine, a "
        "socket), and takes what you do to it from the keyboard: `scan text=4006381333931`, `load kg=0.482`, "
        "`paper to=out`, `help`. Ctrl-D or Ctrl-C ends it.",
    )
    parser.add_argument("name", metavar="NAME", help="the device's id")
    parser.add_argument("--at", metavar="PLACE", help="elsewhere: a path for a pty or socket, or tcp:PORT")
    parser.add_argument(
        "--paper", type=Path, metavar="DIR", help="where a printer's receipts go (default: state folder)"
    )
    parser.add_argument("--pictures", action="store_true", help="draw every receipt as a PNG when it is cut")
    parser.set_defaults(run=lambda chosen: _asking(chosen, lambda config: _simulate(config, chosen)))
    return parser


async def _simulate(config: StoreConfig, chosen: argparse.Namespace) -> int:
    from edge.commands import simulating

    device = _configured(config, chosen.name)
    return 2 if device is None else await simulating.simulate(config, device, chosen.at, chosen.paper, chosen.pictures)
