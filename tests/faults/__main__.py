"""The fault suite: a whole store under load, killed, cut off and filled up at random, and then counted.

    ./dev faults                        30 kills, a few minutes
    ./dev faults --kills 200            about 17 minutes
    ./dev faults --seed 7 --plan        what seed 7 would do, and when

A store with four tills (three written from docs/till.md alone, each with its own ledger), its broker, edge and bridge,
a cloud broker, two receivers and a PostgreSQL at HQ: all real processes. A plan drawn from the seed kills them
(SIGKILL), cuts and slows the networks, fills and breaks the disk, loses, delays and doubles acknowledgements, and makes
the clock jump by ten years, while HQ publishes prices and gives commands. At the end all is well again; when everything
is quiet, the tills' ledgers, the journal and HQ's database are counted against each other.

The same seed gives the same plan: what is done, to whom, in which order and at which offset. What the operating system
makes of it (who was just writing what) is its own affair and differs from run to run.

Exit status: 0 every promise was kept; 1 not; 2 it could not run. docs/faults.md says how to read the result.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.faults import plan as plans
from tests.faults import sabotage, suite
from tests.faults.headquarters import DidNotComeUp

KILL_EVERY_S = 4.8


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="./dev faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30, metavar="N", help="SIGKILLs in all (30)")
    parser.add_argument(
        "--minutes", type=float, metavar="M", help=f"how long faults go on (default: a kill every {KILL_EVERY_S} s)"
    )
    parser.add_argument("--seed", type=int, help="which plan (default: a new one, which is printed)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, with the plan")
    parser.add_argument("--plan", action="store_true", help="print the plan and do nothing")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep ledgers, databases and logs there")
    parser.add_argument(
        "--sabotage",
        choices=sorted([*sabotage.KINDS, *sabotage.CONFIGURED]),
        help="break a promise on purpose, to see that it is found (docs/faults.md)",
    )
    given = parser.parse_args(arguments)
    if given.kills < 1:
        parser.error("--kills is at least 1")
    seed = given.seed if given.seed is not None else secrets.randbelow(1_000_000)
    duration_s = given.minutes * 60 if given.minutes else max(20.0, given.kills * KILL_EVERY_S)
    if given.plan:
        for action in plans.make(seed, given.kills, duration_s):
            print(
                f"{action.at_ms / 1_000:9.3f} s  {action.domain:<8} {action.what} {action.target} {action.value or ''}"
            )
        return 0
    started = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - started:7.1f} s  {text}", file=sys.stderr, flush=True)

    folder = given.keep or Path(tempfile.mkdtemp(prefix="tillgate-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    if given.keep and any(folder.iterdir()):
        parser.error(f"--keep {folder} is not empty")
    folder.chmod(0o755)  # PostgreSQL runs as another user below it
    tell(f"seed {seed}: {given.kills} kills within {duration_s:.0f} s; in {folder}")
    try:
        result = asyncio.run(suite.run(folder.resolve(), seed, given.kills, duration_s, tell, sabotaged=given.sabotage))
    except (DidNotComeUp, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(result) if given.json else suite.report(result))
    if result["good"] and not given.keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        tell(f"everything is kept in {folder}")
    return 0 if result["good"] else 1


if __name__ == "__main__":
    sys.exit(main())
