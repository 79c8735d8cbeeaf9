"""Bytes at the serial line to message at the till: the time a scan takes through the gateway, with 2 and with 20 lanes.

Beside it the direct path: the same client library publishes the same message straight to the same till's client through
the same broker. Both take turns in one run, so that they share whatever else the machine is doing.

Beside both the same with TLS: the same gateway, its tills enrolled and connected by mutual TLS, in rounds that take
turns with rounds of plain connections on loopback. TLS is between till and broker only, and both ends of it share this
machine: what is compared is one record encrypted by the broker and decrypted by the till's Python, not a network.

With ``--during drain``: the same with 20 lanes, first idle, then while the bridge drains a backlog flat out. HQ's end,
which is elsewhere in reality, shares this machine here: it and the WAN emulator only get what the store leaves of the
processors (Linux's policy SCHED_IDLE, in sessions of the least weight); broker, edge and bridge are left as they are.
What HQ does to caches and memory is in the figures all the same.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.backlog import progress
from bench.gateway import Gateway, gateway, lanes_toml
from bench.report import Figures, Goal, Report, finish, goals_of_tls, median, parser, percentile, ratios_of_tls
from edge.bus import topics
from edge.bus.address import Address
from edge.bus.client import Client, Message

CODE = b"4006381333931\r"
SCANS_PER_S_AND_LANE = 3.0
ROUNDS = 4
"""Of plain connections and of TLS each."""
WITHIN_S = 5.0
LAST = 'test ! -w /proc/self/autogroup || echo 19 > /proc/self/autogroup; exec chrt --idle 0 "$@"'
HQ_PREFIX = ("sh", "-c", LAST, "sh")
"""Behind everything else, also where the kernel shares the processors out by session ("autogroup")."""


@dataclass(slots=True)
class Lane:
    """One lane: the far end of its scanner's line, its till's client, and a client that publishes directly."""

    name: str
    line: int
    path: str
    till: Client
    direct: Client
    payload: bytes = b""
    arrived: asyncio.Future[float] | None = None
    through_ms: list[float] = field(default_factory=list)
    direct_ms: list[float] = field(default_factory=list)

    def heard(self, message: Message) -> None:
        """Note the moment of arrival."""
        at = time.perf_counter()
        message.ack()
        self.payload = message.payload
        if self.arrived is not None and not self.arrived.done():
            self.arrived.set_result(at)

    async def scan(self) -> float:
        """One code down the line; milliseconds until the till has it."""
        self.arrived = asyncio.get_running_loop().create_future()
        started = time.perf_counter()
        os.write(self.line, CODE)
        async with asyncio.timeout(WITHIN_S):
            return (await self.arrived - started) * 1000

    async def publish(self) -> float:
        """The same message directly; milliseconds until the till has it."""
        self.arrived = asyncio.get_running_loop().create_future()
        started = time.perf_counter()
        self.direct.publish_soon(topics.lane_scans(self.name), self.payload, qos=1, expiry_s=3)
        async with asyncio.timeout(WITHIN_S):
            return (await self.arrived - started) * 1000

    async def shop(self, scans: int, over: Callable[[], bool] = lambda: False) -> None:
        """`scans` codes, each once through the gateway and once directly, in random order, at a cashier's pace."""
        await asyncio.sleep(random.uniform(0, 1 / SCANS_PER_S_AND_LANE))
        for _ in range(scans):
            if over():
                return
            ways = [(self.scan, self.through_ms), (self.publish, self.direct_ms)]
            for way, taken in random.sample(ways, 2):
                taken.append(await way())
                await asyncio.sleep(random.uniform(0.25, 0.75) / SCANS_PER_S_AND_LANE)


@contextmanager
def scanners(count: int) -> Iterator[tuple[list[tuple[int, int]], str]]:
    """So many serial lines, (far end, near end) each, and the TOML of a store that has scanners on them."""
    lines = [os.openpty() for _ in range(count)]
    for _, slave in lines:
        tty.setraw(slave)
    tables = lanes_toml(count)
    for number, (_, slave) in enumerate(lines, start=1):
        transport = f'{{ kind = "serial", path = "{os.ttyname(slave)}" }}'
        tables += (
            f'[[devices]]\nid = "scanner-{number}"\nprotocol = "serial-scanner"\nlanes = ["{number}"]\n'
            f"transport = {transport}\n"
        )
    try:
        yield lines, tables
    finally:
        for pair in lines:
            for end in pair:
                os.close(end)


async def measure(count: int, scans: int, rounds: int) -> tuple[Figures, Figures]:
    """All figures with `count` lanes: through the gateway, and directly. `scans` a lane, plain and by TLS each."""
    through: dict[str, list[float]] = {"": [], "tls_": []}
    direct: dict[str, list[float]] = {"": [], "tls_": []}
    with scanners(count) as (lines, tables):
        async with gateway(tables, tls=True) as at:
            ways = [("", at.plain), ("tls_", await at.enrolled(count))]
            for number in range(rounds):
                for way, where in ways if number % 2 == 0 else ways[::-1]:
                    async with AsyncExitStack() as stack:
                        lanes = [
                            await opened(stack, at, lane, *line, where) for lane, line in enumerate(lines, start=1)
                        ]
                        for lane in lanes:
                            await first(lane)
                        await asyncio.gather(*(lane.shop(max(1, scans // rounds)) for lane in lanes))
                    through[way] += [value for lane in lanes for value in lane.through_ms]
                    direct[way] += [value for lane in lanes for value in lane.direct_ms]
                    progress(f"scan: {count} lanes, round {number + 1} of {rounds}, {'TLS' if way else 'plain'}")
    ours: Figures = {}
    peer: Figures = {}
    for way in ("", "tls_"):
        ours |= {
            f"lanes_{count}_{way}scans": len(through[way]),
            f"lanes_{count}_{way}through_p50_ms": median(through[way]),
            f"lanes_{count}_{way}through_p99_ms": percentile(through[way], 0.99),
            f"lanes_{count}_{way}median_ratio": median(through[way]) / median(direct[way]),
        }
        peer |= {
            f"lanes_{count}_{way}direct_p50_ms": median(direct[way]),
            f"lanes_{count}_{way}direct_p99_ms": percentile(direct[way], 0.99),
        }
    ours |= ratios_of_tls(f"lanes_{count}_", through["tls_"], through[""])
    return ours, peer


async def measure_drain(facts: int, rounds: int, scans: int) -> Figures:
    """Scans at 20 lanes, idle and during a drain, and how fast the drain was meanwhile."""
    from bench.backlog import make
    from bench.drain import draining
    from bench.wan import LINES

    idle: list[float] = []
    busy: list[float] = []
    rates: list[float] = []
    with tempfile.TemporaryDirectory(prefix="tillgate-bench-") as folder:
        journal = Path(folder) / "store.db"
        await make(journal, facts)
        for number in range(1, rounds + 1):
            with scanners(20) as (lines, tables):
                async with (
                    draining(journal, facts, LINES[0], hq_prefix=HQ_PREFIX, tables=tables) as run,
                    AsyncExitStack() as stack,
                ):
                    where = run.store.plain
                    lanes = [await opened(stack, run.store, at, *line, where) for at, line in enumerate(lines, start=1)]
                    for lane in lanes:
                        await first(lane)
                    await asyncio.gather(*(lane.shop(scans) for lane in lanes))
                    idle += [value for lane in lanes for value in lane.through_ms]
                    await run.start()
                    watching = asyncio.create_task(run.watch(), name="watch")
                    while not run.confirmed:
                        await asyncio.sleep(0.01)
                    for lane in lanes:
                        lane.through_ms.clear()
                    await asyncio.gather(*(lane.shop(scans * 100, run.all_there.is_set) for lane in lanes))
                    await watching
                    busy += [value for lane in lanes for value in lane.through_ms]
                    rates.append(facts / (run.confirmed_at - run.started))
                    progress(f"scan during drain {number} of {rounds}: {len(busy)} scans", last=True)
    return {
        "idle_scans": len(idle),
        "idle_p50_ms": median(idle),
        "idle_p99_ms": percentile(idle, 0.99),
        "drain_scans": len(busy),
        "drain_p50_ms": median(busy),
        "drain_p99_ms": percentile(busy, 0.99),
        "p99_ratio": percentile(busy, 0.99) / percentile(idle, 0.99),
        "drain_facts_per_s": median(rates),
    }


async def opened(
    stack: AsyncExitStack, at: Gateway, number: int, line: int, slave: int, where: Callable[[str], Address]
) -> Lane:
    """One lane with both clients connected, the till `where` says."""
    name = str(number)
    till = Client(where(name), client_id=f"bench-{name}", username=name, clean_start=True)
    direct = Client(Address(socket=at.config.broker_socket), client_id=f"bench-direct-{name}", clean_start=True)
    lane = Lane(name, line, os.ttyname(slave), till, direct)
    till.on_message(topics.lane_scans(name), lane.heard)
    for client in (till, direct):
        await stack.enter_async_context(client)
        await client.wait_connected()
    return lane


async def first(lane: Lane) -> None:
    """Scan until the first code arrives: the driver may still be opening the line."""
    for _ in range(20):
        try:
            await lane.scan()
        except TimeoutError:
            continue
        return
    raise RuntimeError(f"no scan arrives at lane {lane.name}")


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument(
        "--scans",
        type=int,
        default=40,
        help="codes per lane and way with 20 lanes; four times as many with 2 (default 40)",
    )
    options.add_argument("--during", choices=["drain"], help="compare idle with a drain of the bridge")
    options.add_argument("--facts", type=int, default=200_000, help="the backlog to drain (default 200,000)")
    options.add_argument("--rounds", type=int, default=3, help="how many drains (default 3)")
    chosen = options.parse_args(arguments)
    if chosen.during:
        report = Report("scan during drain")
        report.figures = asyncio.run(measure_drain(chosen.facts, chosen.rounds, max(1, chosen.scans // 4)))
        report.goals = [Goal("p99 while draining, times idle", float(report.figures["p99_ratio"]), 2.0)]
        return finish(report, as_json=chosen.json)
    report = Report("scan")
    two, two_direct = asyncio.run(measure(2, chosen.scans * 4, ROUNDS))
    twenty, twenty_direct = asyncio.run(measure(20, chosen.scans, ROUNDS))
    report.figures = two | twenty
    report.peers["the same client publishing directly"] = two_direct | twenty_direct
    report.goals = [
        Goal("median ratio with 2 lanes", float(two["lanes_2_median_ratio"]), 2.0),
        Goal("median ratio with 20 lanes", float(twenty["lanes_20_median_ratio"]), 2.0),
        *goals_of_tls("lanes_2_", "2 lanes", two),
        *goals_of_tls("lanes_20_", "20 lanes", twenty),
    ]
    return finish(report, as_json=chosen.json)


if __name__ == "__main__":
    sys.exit(main())
