"""Fuzz every parser and every door: ./dev fuzz [--seconds N] [KIND ...].

Parsers read what devices and labels say. Doors are what a stranger, a till, or a cloud broker in foreign hands reaches,
with everything behind them: a real store, authority, client.

First each parser is explored with its way traced, then inputs run at full speed; whoever has had the fewest inputs is
next, so that all come to about the same number. Ends with a table; exit status 1 when something was found.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any

from tests.fuzz.door import close_all
from tests.fuzz.rounds import Sum, run
from tests.fuzz.runner import Fuzzer
from tests.fuzz.targets import targets


def table(sums: dict[str, Sum]) -> str:
    """For a terminal."""
    lines = [
        f"{'parser':<20} {'inputs':>11} {'per s':>8} {'ways':>5} {'scans':>9} {'weights':>9} {'noise':>9}  findings"
    ]
    for kind, one in sorted(sums.items()):
        per_s = one.inputs / one.seconds if one.seconds else 0
        seen = one.events
        lines.append(
            f"{kind:<20} {one.inputs:>11,} {per_s:>8,.0f} {one.ways:>5} {seen['Scan']:>9,} {seen['Weight']:>9,}"
            f" {seen['Noise']:>9,}  {len(one.findings) or 'none'}"
        )
    lines.append(f"{'in all':<20} {sum(one.inputs for one in sums.values()):>11,}")
    return "\n".join(lines)


def replay(kind: str, data: bytes) -> int:
    """Feed one input to fresh parsers and print what they make of it."""
    try:
        for setup, events in Fuzzer(targets()[kind], 0).once(data):
            print(f"{kind} {dict(setup.options)}")
            for event in events:
                print(f"    {event}")
    finally:
        close_all()
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and fuzz; returns the exit status."""
    known = list(targets())
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="./dev fuzz",
        description=summary,
        epilog=f"{details}\nparsers: {', '.join(known)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", nargs="*", metavar="KIND", help="only these parsers; all when left out")
    parser.add_argument("--seconds", type=float, default=60, metavar="N", help="for how long in all (60)")
    parser.add_argument("--inputs", type=int, metavar="N", help="no more than about so many of each kind")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="where the random numbers start")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (one per core)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    parser.add_argument("--live", action="store_true", help="assail a whole running store's ports instead")
    parser.add_argument("--replay", nargs=2, metavar=("KIND", "HEX"), help="feed one input and print what comes of it")
    given = parser.parse_args(arguments)
    wanted = given.kind or known
    for kind in [*wanted, *(given.replay or [])[:1]]:
        if kind not in known:
            parser.error(f"there is no parser {kind!r}; there are {', '.join(known)}")
    if given.replay:
        return replay(given.replay[0], bytes.fromhex(given.replay[1]))
    if given.live:
        return _live(given.seconds, given.seed)
    sums = run(wanted, given.seconds, given.seed, given.workers, given.inputs)
    if given.json:
        print(json.dumps(_plain(sums, given.seed)))
    else:
        print(table(sums))
    return 1 if any(one.findings for one in sums.values()) else 0


def _live(seconds: float, seed: int) -> int:
    from tests.fuzz.live import alone

    done = alone(seconds, seed)
    for where, count in sorted(done.inputs.items()):
        print(f"{where:<24} {count:>9,}")
    print(f"answers to the good till {done.served:>9,}")
    for finding in done.findings:
        print(finding, file=sys.stderr)
    return 1 if done.findings else 0


def _plain(sums: dict[str, Sum], seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "parsers": {
            kind: {
                "inputs": one.inputs,
                "inputs_per_s": round(one.inputs / one.seconds) if one.seconds else 0,
                "longest_batch_s": round(one.longest_s, 3),
                "ways": one.ways,
                "events": dict(one.events),
                "findings": [str(finding) for finding in one.findings],
            }
            for kind, one in sorted(sums.items())
        },
    }


if __name__ == "__main__":
    sys.exit(main())
