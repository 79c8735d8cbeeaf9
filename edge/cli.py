"""The `tillgate` command.

Strategy: each sub-command is an ``add_...`` function that puts its arguments and its `run` on the parser; imports that
cost something stand inside `run`. What other packages add (`tillgate hq`, `tillgate bridge`) is found through the
entry-point group ``tillgate.commands``, so that edge never imports the bridge.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from edge import __version__
from edge.startup import complain, loaded, start_logging

DEFAULT_CONFIG = Path("/etc/tillgate/store.toml")

SubParsers = Any
"""What `ArgumentParser.add_subparsers` returns; argparse keeps its type to itself."""

EPILOG = """
examples:
  tillgate check store.toml              is the configuration right?
  tillgate run --config store.toml       run the whole store here: broker, edge, bridge
  tillgate status --config store.toml    how is it, and what is promised?
  tillgate people add olga --role owner  who works here, and what each may
  tillgate audit list                    who did what
  tillgate devices list                  what hangs on it, and what a person should do about it
  tillgate journal verify store.db       is everything that was recorded still there, unchanged?
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    chosen = parser_of_all().parse_args(arguments)
    try:
        return int(chosen.run(chosen))
    except BrokenPipeError:
        return 0  # whoever read our output has seen enough
    except KeyboardInterrupt:
        return 130


def parser_of_all() -> argparse.ArgumentParser:
    """What understands every command there is, of other packages too."""
    parser = argparse.ArgumentParser(
        prog="tillgate",
        description="The gateway of a store: devices, tills' bus, journal, and the link to HQ.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tillgate {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (_add_run, _add_check, _add_status, _add_edge):
        add(commands)
    from edge.commands import access, audit, devices, lanes, people, privacy
    from edge.journal.commands import add_commands

    add_commands(commands)
    audit.add_commands(commands)
    devices.add_commands(commands, _config_argument)
    lanes.add_commands(commands, _config_argument)
    people.add_commands(commands, _config_argument)
    access.add_commands(commands, _config_argument)
    privacy.add_commands(commands, _config_argument)
    for point in sorted(metadata.entry_points(group="tillgate.commands"), key=lambda point: point.name):
        point.load()(commands)
    return parser


def _add_run(commands: SubParsers) -> None:
    parser = commands.add_parser(
        "run",
        help="run the whole store: broker, edge and bridge as children",
        description="Runs broker, edge and bridge of one store as children of this process and starts again what ends. "
        "For a laptop or a container; in the field systemd runs the three. Ctrl-C stops them.",
    )
    _config_argument(parser)
    parser.add_argument("--log-dir", type=Path, metavar="DIR", help="one log file per process (default: this terminal)")
    parser.set_defaults(run=_run)


def _run(chosen: argparse.Namespace) -> int:
    config = loaded(chosen.config)
    if config is None:
        return 2
    from edge import children
    from edge.bus.broker import BrokerFailed

    start_logging()
    try:
        asyncio.run(children.run(config, chosen.log_dir))
    except (BrokerFailed, ValueError) as error:
        return complain(str(error))
    except OSError as error:
        return complain(f"cannot keep anything in {config.state_dir}: {error}; may this user write there?")
    return 0


def _add_check(commands: SubParsers) -> None:
    parser = commands.add_parser(
        "check",
        help="check a configuration file",
        description="Reads FILE as the gateway would and says everything that is wrong: file, line, key, what would "
        "be right. Exit status 0: it can be used; 2: it cannot.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the store.toml to check")
    parser.set_defaults(run=_check)


def _check(chosen: argparse.Namespace) -> int:
    config = loaded(chosen.file)
    if config is None:
        return 2
    cloud = f"HQ at {config.cloud.host}:{config.cloud.port}" if config.cloud else "no HQ"
    counts = f"{len(config.lanes)} lanes, {len(config.devices)} devices"
    if config.cloud is not None:
        from edge.config_cloud import unsafe_files

        for wrong in unsafe_files(config.cloud):
            print(f"{chosen.file}: warning: {wrong}")
    if config.from_hq.version is not None:
        left_out = f", left out: {config.from_hq.unfit}" if config.from_hq.unfit else ""
        settings = _settings(config.from_hq.settings)
        print(f"{chosen.file}: HQ has set version {config.from_hq.version}: {settings}{left_out}")
    print(f"{chosen.file}: good. Store {config.store.id}: {counts}, {cloud}.")
    return 0


def _settings(settings: Mapping[str, Any]) -> str:
    """What HQ has set, a key at a time."""
    return "; ".join(
        f"{table}.{key} = {json.dumps(value, ensure_ascii=False)}"
        for table, values in settings.items()
        for key, value in values.items()
    )


def _add_status(commands: SubParsers) -> None:
    parser = commands.add_parser(
        "status",
        help="how the running gateway is, and what it promises",
        description="Asks the store's broker for the gateway's and the devices' status. "
        "Exit status 0: serving and online; 1: running with something wrong; 2: it does not answer.",
    )
    _config_argument(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_status)


def _status(chosen: argparse.Namespace) -> int:
    config = loaded(chosen.config)
    if config is None:
        return 2
    from edge import status_report

    try:
        report = asyncio.run(status_report.ask(config))
    except status_report.NoAnswer as error:
        return complain(str(error))
    print(json.dumps(report.as_json(), indent=1) if chosen.json else report.as_text())
    return 0 if report.good else 1


def _add_edge(commands: SubParsers) -> None:
    parser = commands.add_parser(
        "edge",
        help="run only the edge process (what systemd starts)",
        description="Runs the edge process: devices, journal and services. The store's broker must be running.",
    )
    _config_argument(parser)
    parser.set_defaults(run=_edge)


def _edge(chosen: argparse.Namespace) -> int:
    from edge import daemon

    return daemon.main(["--config", str(chosen.config)])


# -- shared by the commands --------------------------------------------------------------------------------------------


def _config_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help=f"the store.toml (default {DEFAULT_CONFIG})"
    )


if __name__ == "__main__":
    sys.exit(main())
