"""What is accepted and then lost when the power fails in an outage: SIGKILL of the store, ours and others', same sales.

A round: a store and HQ are linked, then the WAN goes. Twenty tills sell at the same rate for every way. At a random
moment everything at the store is killed (SIGKILL). It is started again on what it kept, the WAN comes back, one more
sale goes through, and HQ's sales are counted. Lost is what was accepted and is not at HQ.
Accepted means what each way promises: Tillgate its reply, after the commit; a mosquitto bridge its PUBACK; the gateway
of ThingsBoard the PUBACK of a broker beside it, which is not killed and keeps what the gateway has not acknowledged.

SIGKILL is the milder half of a power cut: what the kernel has taken is still written.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.backlog import progress, sales
from bench.gateway import free_port
from bench.headquarters import cloud_broker, headquarters
from bench.peers.environment import NotInstalled, peers_python
from bench.peers.mosquitto_bridge import MosquittoBridge, SavingMosquittoBridge
from bench.peers.thingsboard import ThingsBoard
from bench.peers.tillgate import Tillgate
from bench.peers.tills import sell
from bench.peers.way import Way
from bench.processes import Processes
from bench.report import Goal, Report, finish, parser
from demo.wan import Wan

ROUNDS = 5
FACTS = 10_000
RATE_PER_S = 1_000.0
EARLIEST = 0.2
"""The kill comes between this share of a round's time and all of it."""

LANES = 20
WAYS: tuple[type[Way], ...] = (Tillgate, MosquittoBridge, SavingMosquittoBridge, ThingsBoard)


@dataclass(frozen=True, slots=True)
class Round:
    """What one round came to. `duplicated`: sales that are at HQ more than once."""

    sent: int
    accepted: int
    at_hq: int
    lost: int
    duplicated: int


async def one_round(
    way: type[Way], processes: Processes, folder: Path, rate_per_s: float, kill_after_s: float
) -> Round:
    """As told above."""
    sales_of_round = sales(sys.maxsize, lanes=LANES)
    async with AsyncExitStack() as stack:
        cloud_port, url = free_port(), ""
        if way.has_receiver:
            hq = await stack.enter_async_context(headquarters(processes))
            cloud_port, url = hq.cloud_port, hq.url
        else:
            await cloud_broker(processes, cloud_port)
        wan = await stack.enter_async_context(Wan(cloud_port))
        under_test = way(processes, stack, folder, wan.port, cloud_port, url)
        address = await under_test.start()
        async with AsyncExitStack() as connections:
            tills = {str(number): way.till(address, str(number)) for number in range(1, LANES + 1)}
            for till in tills.values():
                await till.connect(connections)
            await wan.refuse()
            wan.reset()
            await sell(tills, sales_of_round, rate_per_s, kill_after_s)
            await under_test.kill()
        address = await under_test.restart()
        await wan.restore()
        last = next(sales_of_round)
        assert last.lane is not None
        async with AsyncExitStack() as connections:
            marker = way.till(address, last.lane)
            await marker.connect(connections)
            marker.send(last)
            await under_test.settle(last.id)
        at_hq = Counter(await under_test.at_hq())
    sent = {id_ for till in tills.values() for id_ in till.sent}
    accepted = {id_ for till in tills.values() for id_ in till.accepted}
    there = {id_: times for id_, times in at_hq.items() if id_ in sent}
    return Round(
        sent=len(sent),
        accepted=len(accepted),
        at_hq=len(there),
        lost=len(accepted - there.keys()),
        duplicated=sum(1 for times in there.values() if times > 1),
    )


async def measure(
    ways: Sequence[type[Way]], *, rounds: int, facts: int, rate_per_s: float, seed: str
) -> dict[str, list[Round]]:
    """Every way through the same rounds: killed at the same moments, drawn from `seed`."""
    found: dict[str, list[Round]] = {way.name: [] for way in ways}
    for number in range(1, rounds + 1):
        kill_after_s = random.Random(f"{seed}-{number}").uniform(EARLIEST, 1.0) * facts / rate_per_s
        for way in ways:
            progress(f"round {number} of {rounds}: {way.name} ...")
            # Each round has servers of its own: what one leaves behind is not the next one's to answer for.
            with tempfile.TemporaryDirectory(prefix="tillgate-loss-") as folder:
                async with Processes(Path(folder) / "log.txt") as processes:
                    one = await one_round(way, processes, Path(folder) / "store", rate_per_s, kill_after_s)
            found[way.name].append(one)
            progress(f"round {number} of {rounds}: {way.name}: {one.lost:,} of {one.accepted:,} lost", last=True)
    return found


def summed(rounds: Sequence[Round]) -> dict[str, float | int | str]:
    """The figures of one way over all rounds."""
    accepted = sum(one.accepted for one in rounds)
    lost = sum(one.lost for one in rounds)
    return {
        "kills": len(rounds),
        "sent": sum(one.sent for one in rounds),
        "accepted": accepted,
        "at_hq": sum(one.at_hq for one in rounds),
        "accepted_then_lost": lost,
        "lost_percent": 100 * lost / accepted if accepted else 0.0,
        "lost_in_the_worst_round": max(one.lost for one in rounds),
        "duplicated": sum(one.duplicated for one in rounds),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument("--rounds", type=int, default=ROUNDS, help=f"kills of each way (default {ROUNDS})")
    options.add_argument("--facts", type=int, default=FACTS, help=f"sales of a full round (default {FACTS})")
    options.add_argument("--rate", type=float, default=RATE_PER_S, help=f"sales a second (default {RATE_PER_S:g})")
    options.add_argument("--seed", default="", help="draw the same moments again (default: a new seed, printed)")
    options.add_argument("--without", action="append", default=[], metavar="WAY", help="leave this way out")
    chosen = options.parse_args(arguments)
    seed = chosen.seed or secrets.token_hex(4)
    logging.getLogger("edge.bus.client").setLevel(logging.ERROR)  # that a killed broker is away is no news

    unknown = set(chosen.without) - {way.name for way in WAYS}
    if unknown:
        options.error(f"--without {', '.join(unknown)}: the ways are {', '.join(way.name for way in WAYS)}")
    kept = [way for way in WAYS if way.name not in chosen.without]
    report = Report("loss")
    if ThingsBoard in kept:
        try:
            asyncio.run(peers_python())
        except NotInstalled as error:
            sys.stderr.write(f"{error}\n{ThingsBoard.name} is left out\n")
            kept.remove(ThingsBoard)
            report.peers[ThingsBoard.name] = {"not_measured": "it could not be installed"}
    found = asyncio.run(measure(kept, rounds=chosen.rounds, facts=chosen.facts, rate_per_s=chosen.rate, seed=seed))
    report.figures = {"seed": seed, "rate_per_s": chosen.rate, "lanes": LANES}
    for name, rounds in found.items():
        if name == Tillgate.name:
            report.figures |= summed(rounds)
            report.goals = [
                Goal("accepted, then lost", sum(one.lost for one in rounds), 0),
                Goal("at HQ more than once", sum(one.duplicated for one in rounds), 0),
            ]
        else:
            report.peers[name] = summed(rounds)
    return finish(report, as_json=chosen.json)


if __name__ == "__main__":
    sys.exit(main())
