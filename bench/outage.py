"""Seven days without HQ at 1 sale/s on each of 2 lanes, then drained over a metered line: sizes, times, wear.

    journal   1.2 million sales and 40,000 telemetry facts (4 devices, one a minute each) go through the real store into
              a journal as fast as it takes them; the times in the sales are a week's, those of recording are the run's
    outage    the store starts on that journal, the WAN is cut, and two lanes sell at their real pace: memory, time to
              the first sale accepted, bytes written
    drain     the WAN comes back; the bridge drains to HQ's PostgreSQL within budgets of bytes a second and an hour
              that are made so that it lasts minutes, while both lanes sell on, a sale and its tender a second each
    count     what is at HQ, by SQL, and what the emulator saw pass in each second

The line is that of LTE: 50 ms round trip, 10 Mbit/s up. A week's sales have no tenders here; live ones do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from bench.backlog import STORE, progress, sales
from bench.budget import budget_for, judged
from bench.card import life_years, written_bytes
from bench.gateway import Gateway, gateway, lanes_toml
from bench.headquarters import Headquarters, headquarters
from bench.live import Confirmations, LiveLane
from bench.processes import Processes, pss_mb
from bench.report import Goal, Report, finish, median, parser, percentile
from bench.wan import Emulator, Line, emulator
from bench.week import DAY_S, LANES, a_week, journalled, wire_bytes
from edge.bus import topics
from edge.bus.address import Address
from edge.bus.client import Client, Message
from edge.bus.messages.facts import FactClass
from edge.bus.messages.statuses import GatewayStatus
from edge.journal.reader import Reader
from edge.journal.store import NewFact

LTE = Line("lte", "LTE", rtt_ms=50, up_kbit=10_000)
SALES_PER_DAY = 2_000
"""Of a busy small shop, beside the pace of this outage, which is 172,800 a day, day and night."""

MESSAGES_PER_HOUR = 10_000_000
"""No limit: it is the bytes that are looked at here."""

SAMPLE_S = 0.5
DRAIN_WITHIN_S = 4 * 3600.0
ARRIVED_WITHIN_S = 120.0
GIB = 1024**3

Figures = dict[str, float | int | str]


# -- the store in the outage and after ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Watch:
    """What the gateway says of itself, and what its processes cost."""

    at: Gateway
    latest: GatewayStatus | None = None
    peak_mb: dict[str, float] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def backlog(self) -> int:
        """Facts that HQ has not confirmed, as the gateway says."""
        return sum(one.facts for one in self.latest.backlog.values()) if self.latest else 0

    def heard(self, message: Message) -> None:
        """A status."""
        message.ack()
        self.latest = GatewayStatus.model_validate_json(message.payload)
        self.changed.set()

    def sample(self) -> None:
        """Note the memory."""
        for name, process in self.at.processes.items():
            self.peak_mb[name] = max(self.peak_mb.get(name, 0.0), pss_mb(process.pid))

    def written_bytes(self) -> int:
        """What the store's processes have had written to disk so far."""
        return sum(written_bytes(process.pid) for process in self.at.processes.values())


@contextlib.asynccontextmanager
async def store_running(
    folder: Path, tables: str, sequence: int, sold: Iterator[NewFact], hq: Confirmations, *, backlog: int
) -> AsyncIterator[tuple[Watch, list[LiveLane], float, float]]:
    """Broker, edge and bridge on what is in `folder`, and two lanes that have sold: all that, and what starting took.

    Seconds from the start of the processes to the first fact accepted, and to a status that tells a backlog of
    `backlog` facts or more.
    """
    started = time.perf_counter()
    async with gateway(tables, folder=folder, bridge=True) as at, AsyncExitStack() as stack:
        watch = Watch(at)
        client = Client(Address(socket=at.config.broker_socket), client_id="bench-status", clean_start=True)
        client.on_message(topics.GATEWAY_STATUS, watch.heard)
        await stack.enter_async_context(client)
        lanes = [LiveLane(at.address, str(1 + lane), sequence, sold, hq) for lane in range(LANES)]
        for lane in lanes:
            await lane.connect(stack)
            lane.sell()
        async with asyncio.timeout(300):
            while not all(lane.first_accepted_at for lane in lanes):
                await asyncio.sleep(0.005)
            while watch.backlog < backlog:
                watch.changed.clear()
                await watch.changed.wait()
        known = time.perf_counter()
        yield watch, lanes, min(lane.first_accepted_at for lane in lanes) - started, known - started


async def status_ms(at: Gateway) -> float:
    """How long `tillgate status` takes, start of its process included."""
    command = (sys.executable, "-m", "edge.cli", "status", "--json", "--config", str(at.config.file))
    times = []
    for _ in range(3):
        started = time.perf_counter()
        asking = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
        await asking.wait()
        times.append((time.perf_counter() - started) * 1000)
    return median(times)


@contextlib.asynccontextmanager
async def selling(lanes: list[LiveLane]) -> AsyncIterator[None]:
    """Both lanes sell meanwhile, half a second apart."""
    tasks = []
    for lane in lanes:
        lane.accepted_ms.clear()
        tasks.append(asyncio.create_task(lane.run(), name="live lane"))
        await asyncio.sleep(0.5)
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def in_the_outage(watch: Watch, lanes: list[LiveLane], seconds: float) -> Figures:
    """At the real pace while the WAN is cut."""
    progress(f"outage: {watch.backlog:,} facts wait; selling on for {seconds:g} s", last=True)
    async with selling(lanes):
        before = watch.written_bytes()
        await asyncio.sleep(seconds)
        written = watch.written_bytes() - before
        accepted = [one for lane in lanes for one in lane.accepted_ms]
    watch.sample()
    sold = seconds * LANES
    return {
        "outage_accepted_p50_ms": median(accepted),
        "outage_accepted_p99_ms": percentile(accepted, 0.99),
        "outage_written_bytes_per_sale_with_tender": written / sold,
        **{f"card_life_years_{kind}": years for kind, years in life_years(written / seconds * DAY_S).items()},
        **{
            f"card_life_years_{kind}_at_{SALES_PER_DAY}_sales_a_day": years
            for kind, years in life_years(written / sold * SALES_PER_DAY).items()
        },
        "outage_tillgate_status_ms": await status_ms(watch.at),
        **{f"outage_{name}_pss_mb": peak for name, peak in watch.peak_mb.items()},
    }


async def drain(
    watch: Watch, lanes: list[LiveLane], hq: Confirmations, line: Emulator, heads: dict[FactClass, int]
) -> Figures:
    """Until everything of the outage is confirmed."""
    total = sum(heads.values())
    said: dict[int, tuple[float, int]] = {}  # percent -> (when, the ETA then)
    await line.order("restore")
    started = time.perf_counter()
    async with asyncio.timeout(120):
        while watch.latest is None or watch.latest.link != "online":
            watch.changed.clear()
            await watch.changed.wait()
    online = time.perf_counter()
    hq.start_afresh()
    async with selling(lanes), asyncio.timeout(DRAIN_WITHIN_S):
        while not all(hq.confirmed.get(fact_class, 0) >= head for fact_class, head in heads.items()):
            await asyncio.sleep(SAMPLE_S)
            watch.sample()
            assert watch.latest is not None
            done = 100 * sum(min(hq.confirmed.get(name, 0), head) for name, head in heads.items()) / total
            progress(f"drain: {done:.0f} % confirmed, ETA {watch.latest.eta_s} s")
            for percent in (10, 50):
                if done >= percent and percent not in said and watch.latest.eta_s is not None:
                    said[percent] = (time.perf_counter(), watch.latest.eta_s)
        ended = time.perf_counter()
        status = await status_ms(watch.at)
        accepted = [one for lane in lanes for one in lane.accepted_ms]
        tenders = list(hq.latencies_ms)
    progress(f"drained in {ended - started:,.0f} s", last=True)
    figures: Figures = {
        "wan_back_to_link_online_s": online - started,
        "drain_s": ended - online,
        "drain_facts_per_s": total / (ended - online),
        "drain_live_accepted_p50_ms": median(accepted),
        "drain_live_accepted_p99_ms": percentile(accepted, 0.99),
        "drain_live_tenders": len(tenders),
        "drain_tillgate_status_ms": status,
        **{f"drain_{name}_peak_pss_mb": peak for name, peak in watch.peak_mb.items()},
        "drain_together_peak_pss_mb": sum(watch.peak_mb.values()),
    }
    if tenders:  # a small backlog is gone before the first
        figures["drain_live_tender_confirmed_p50_ms"] = median(tenders)
        figures["drain_live_tender_confirmed_p99_ms"] = percentile(tenders, 0.99)
    for percent, (at, eta_s) in said.items():
        truth = ended - at
        figures[f"eta_at_{percent}_percent_s"] = eta_s
        figures[f"eta_at_{percent}_percent_truth_s"] = truth
        figures[f"eta_at_{percent}_percent_error_percent"] = 100 * (eta_s - truth) / truth if truth else 0.0
    return figures


_HERE = b"SELECT hash FROM facts WHERE class = %s AND seq = %s"


async def counted(journal: Path, hq: Headquarters, expected: int) -> Figures:
    """What is in HQ's database of all that the journal holds now. The store lives on, and may say more later."""
    reader = await Reader.open(journal)
    missing = twice = 0
    chains = []
    heads = {fact_class: head for fact_class, head in (await reader.heads()).items() if head}
    try:
        url = hq.url.replace("+psycopg", "")
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as db:
            with contextlib.suppress(TimeoutError):  # what is not there by then is missing
                async with asyncio.timeout(ARRIVED_WITHIN_S):
                    while not all([await _one(db, _HERE, name.value, head) for name, head in heads.items()]):
                        await asyncio.sleep(0.2)
            for fact_class, head in heads.items():
                sql = b"SELECT count(*), count(DISTINCT seq) FROM facts WHERE class = %s AND seq <= %s"
                rows, distinct = await _one(db, sql, fact_class.value, head) or (0, 0)
                missing += head - distinct
                twice += rows - distinct
                last = await _one(db, _HERE, fact_class.value, head)
                chains.append(last is not None and bytes(last[0]) == await reader.hash_at(fact_class, head))
            sql = b"SELECT count(*), pg_database_size(current_database()) FROM facts"
            at_hq, size = await _one(db, sql) or (0, 0)
    finally:
        await reader.close()
    return {
        "at_hq": at_hq,
        "missing_at_hq": missing,
        "twice_at_hq": twice,
        "facts_before_live_ones": expected,
        "chain_hashes_at_hq_are_the_journals": "yes" if chains and all(chains) else "NO",
        "hq_database_bytes_per_fact": size / at_hq,
    }


async def _one(
    db: psycopg.AsyncConnection[tuple[Any, ...]], sql: bytes, *arguments: str | int
) -> tuple[Any, ...] | None:
    return await (await db.execute(sql, arguments)).fetchone()


async def measure(days: float, drain_s: float, live_s: float) -> tuple[Figures, list[Goal]]:
    """All of it."""
    with tempfile.TemporaryDirectory(prefix="tillgate-outage-") as folder:
        root = Path(folder)
        store, journal = root / "store", root / "store" / "state" / "store.db"
        journal.parent.mkdir(parents=True)
        sold = sales(sys.maxsize, lanes=LANES, every_ms=1000 // LANES)
        count = round(days * DAY_S) * LANES
        started = time.perf_counter()
        heads = await journalled(journal, a_week(days, sold), count)
        spent, total = time.perf_counter() - started, sum(heads.values())
        progress(f"journal: {total:,} facts in {spent:,.0f} s", last=True)
        size = journal.stat().st_size
        figures: Figures = {
            "days": days,
            "sales": heads[FactClass.TRANSACTION],
            "telemetry": heads[FactClass.TELEMETRY],
            "journalled_facts_per_s": total / spent,
            "journal_gib": size / GIB,
            "journal_bytes_per_fact": size / total,
        }
        expected_bytes = await wire_bytes(journal, heads)
        budget = budget_for(expected_bytes, drain_s)
        async with (
            Processes(root / "log.txt") as processes,
            headquarters(processes) as hq,
            emulator(processes, LTE, hq.cloud_port, log=root / "wan.jsonl") as line,
        ):
            await line.order("cut")
            tables = (
                f'[cloud]\nhost = "127.0.0.1"\nport = {line.port}\nlink = "lte"\n'
                f"[cloud.budget]\nbytes_per_s = {budget.bytes_per_s}\nbytes_per_hour = {budget.bytes_per_hour}\n"
                f"messages_per_hour = {MESSAGES_PER_HOUR}\n{lanes_toml(LANES)}"
            )
            confirmations = Confirmations()
            watcher = Client(Address(host="127.0.0.1", port=hq.cloud_port), client_id="bench-watch", clean_start=True)
            watcher.on_message(topics.confirmed(STORE), confirmations.heard)
            async with watcher:
                await watcher.wait_connected()
                (root / "empty").mkdir()
                async with store_running(root / "empty", tables, 0, sold, Confirmations(), backlog=2) as started_up:
                    figures["start_to_first_accepted_on_an_empty_journal_s"] = started_up[2]
                sequence = count // LANES
                async with store_running(store, tables, sequence, sold, confirmations, backlog=total) as started_up:
                    watch, lanes, first_s, known_s = started_up
                    figures |= {"start_to_first_accepted_s": first_s, "start_to_backlog_known_s": known_s}
                    figures |= await in_the_outage(watch, lanes, live_s)
                    figures |= await drain(watch, lanes, confirmations, line, heads)
                    async with asyncio.timeout(120):
                        while watch.backlog:
                            watch.changed.clear()
                            await watch.changed.wait()
                    figures["journal_gib_afterwards"] = journal.stat().st_size / GIB
                    figures |= await counted(journal, hq, total)
                    passed = await line.order("state")
        figures["expected_wire_bytes"] = expected_bytes
        figures |= judged(root / "wan.jsonl", budget)
        figures["wire_bytes_per_fact"] = passed["up_bytes"] / int(figures["at_hq"])
        goals = [
            Goal("facts missing at HQ", int(figures["missing_at_hq"]), 0),
            Goal("facts at HQ twice", int(figures["twice_at_hq"]), 0),
            *(
                Goal(
                    f"burst above the {name}'s budget, bytes",
                    float(figures[f"budget_{name}_worst_burst_bytes"]),
                    float(figures[f"budget_{name}_allowed_burst_bytes"]),
                )
                for name in ("second", "hour")
            ),
            Goal("start to first accepted, s", float(figures["start_to_first_accepted_s"]), 3.0),
            Goal("memory of the three at its peak, MB PSS", float(figures["drain_together_peak_pss_mb"]), 150.0),
        ]
        if "drain_live_tender_confirmed_p99_ms" in figures:
            p99_ms = float(figures["drain_live_tender_confirmed_p99_ms"])
            goals.append(Goal("a tender in the drain confirmed, p99, ms", p99_ms, 2 * LTE.rtt_ms + 150.0))
        return figures, goals


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument("--days", type=float, default=7.0, help="length of the outage (default 7; try 0.02)")
    options.add_argument("--drain", type=float, default=300.0, metavar="S", help="about so long to drain (default 300)")
    options.add_argument("--live", type=float, default=60.0, metavar="S", help="selling in the outage (default 60)")
    chosen = options.parse_args(arguments)
    logging.getLogger("edge.bus.client").setLevel(logging.ERROR)  # that a broker is not up yet is no news
    report = Report("outage")
    report.figures, report.goals = asyncio.run(measure(chosen.days, chosen.drain, chosen.live))
    return finish(report, as_json=chosen.json)


if __name__ == "__main__":
    sys.exit(main())
