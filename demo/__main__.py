"""`python -m demo`, which is `./dev run`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from demo.processes import CannotRun

EPILOG = """\
examples:
  ./dev run                     a live view of a busy store; keys scan, weigh, cut the WAN, kill edge, ...
  ./dev run | cat               the same without a terminal: one line per sale and event
  ./dev run --lanes 4           with four lanes
  ./dev run --once              one short day by itself: WAN cut, edge and bridge killed; then everything is counted
  ./dev run --once --json       ... with the result as one JSON object
  ./dev run --once --seed 7     ... the same day again: the seed decides who buys what and when things break

A second `./dev run` goes on where the first one stopped: its state is kept in .store/. Remove that to start afresh.
While the store runs, your own till can join: `mosquitto_sub` and `mosquitto_pub` are enough (see README.md).
exit status of --once: 0 every count agrees, 1 they do not (the table says where), 2 the store could not run.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the demo store; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="./dev run",
        description="A whole store on this machine, as real processes: broker, edge, bridge, a cloud broker, HQ, "
        "virtual devices, and demo tills that shop.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--once", action="store_true", help="live one short day, count at every end, and stop")
    parser.add_argument("--json", action="store_true", help="with --once: print the counts as one JSON object")
    parser.add_argument("--sales", type=_positive, metavar="N", help="with --once: sales per lane (default 50)")
    parser.add_argument("--lanes", type=_lanes, default=2, metavar="N", help="how many lanes (default 2, at most 6)")
    parser.add_argument("--seed", type=int, metavar="N", help="decides what is bought and when things break")
    parser.add_argument("--state", type=Path, metavar="DIR", help="where to keep everything (default .store)")
    parser.add_argument("--plain", action="store_true", help="plain lines, also in a terminal")
    given = parser.parse_args(arguments)
    if given.json and not given.once:
        parser.error("--json goes with --once: add --once, or leave --json out")
    if given.sales and not given.once:
        parser.error("--sales goes with --once: a store without it is open until Ctrl-C")
    try:
        if given.once:
            from demo.once import Plan, live_once

            plan = Plan.make(lanes=given.lanes, sales=given.sales or 50, seed=given.seed)
            return asyncio.run(live_once(plan, given.state, as_json=given.json))
        from demo.open_store import keep_open

        plain = given.plain or not (sys.stdin.isatty() and sys.stdout.isatty())
        return asyncio.run(keep_open(given.state or Path(".store"), given.lanes, given.seed, plain=plain))
    except CannotRun as error:
        print(f"the demo store cannot run: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except asyncio.CancelledError:
        return 143  # SIGTERM; everything has been stopped


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _lanes(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 6:
        raise argparse.ArgumentTypeError("must be 1 to 6")
    return value


if __name__ == "__main__":
    sys.exit(main())
