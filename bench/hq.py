"""10, 100 and 1,000 stores into one receiver with PostgreSQL: facts/s, confirm latency, cost per store.

Steady: each store sends one sale a second, by itself, not in step with the others. Flat out: all stores together drain
a backlog in batches of 500, each with at most four batches on the wire. The stores are clients of the cloud broker with
a connection each, in one process; that process, the broker, the receiver and PostgreSQL share this machine.
All of that once more with confirmations that HQ signs (`tillgate hq confirm-key`).
Beside it, on the same broker and database, the same facts as single CloudEvents to a subscriber with one INSERT and one
commit per message. It confirms nothing to the stores: its times end with the row in the table.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import psycopg

from bench.backlog import progress
from bench.headquarters import Headquarters, headquarters
from bench.processes import Processes, family, pss_mb
from bench.report import Goal, Report, finish, median, parser, percentile
from bench.simulated_stores import FACT_CLASS, Fleet, Prepared, SimulatedStore
from edge.bus import topics
from edge.bus.address import Address
from edge.bus.client import Client

STORES = (10, 100, 1_000)
FACTS = 200_000
PEER_FACTS = 5_000
BATCH_FACTS = 500
CONNECT_AT_ONCE = 50
WITHIN_S = 600.0
FILES_PER_STORE = 2

Figures = dict[str, float | int | str]


async def connected(stack: AsyncExitStack, stores: Sequence[SimulatedStore]) -> None:
    """Connect them, some at a time."""
    for start in range(0, len(stores), CONNECT_AT_ONCE):
        await asyncio.gather(*(store.connect(stack) for store in stores[start : start + CONNECT_AT_ONCE]))


async def one_a_second(store: SimulatedStore, batches: Sequence[Prepared]) -> None:
    """Send them a second apart, beginning at some moment of the first; wait until all are confirmed."""
    await asyncio.sleep(random.random())
    started = time.perf_counter()
    for number, batch in enumerate(batches):
        await asyncio.sleep(max(0.0, started + number - time.perf_counter()))
        store.send(batch)
    await store.all_confirmed()


def memory_mb(hq: Headquarters) -> dict[str, float]:
    """PSS of the receiver and of PostgreSQL with all its processes."""
    return {
        "receiver": pss_mb(hq.receivers[0].pid),
        "postgres": sum(pss_mb(pid) for pid in family(hq.database.pid)),
    }


async def database_bytes(hq: Headquarters) -> int:
    """The size of the database, indexes included, after a checkpoint."""
    async with await psycopg.AsyncConnection.connect(plain_url(hq), autocommit=True) as db:
        await db.execute("CHECKPOINT")
        row = await (await db.execute("SELECT pg_database_size(current_database())")).fetchone()
        assert row is not None
        return int(row[0])


def plain_url(hq: Headquarters) -> str:
    """The database's URL without SQLAlchemy's dialect."""
    return hq.url.replace("+psycopg", "")


async def receiving(hq: Headquarters, processes: Processes) -> None:
    """Wait until the receiver is connected: a broker drops what nobody has subscribed to."""
    async with asyncio.timeout(60):
        while processes.log.read_text(errors="replace").count(": connected to ") < len(hq.receivers):
            await asyncio.sleep(0.05)


async def measure(count: int, facts: int, seconds: int, *, sign: bool) -> tuple[Figures, list[list[Prepared]]]:
    """Our figures with `count` stores, and the backlog that was sent; with `sign` HQ signs what it confirms."""
    with tempfile.TemporaryDirectory(prefix="tillgate-hq-") as folder:
        key = confirm_key(Path(folder)) if sign else None
        async with Processes(Path(folder) / "log.txt") as processes, headquarters(processes, confirm_key=key) as hq:
            fleet = Fleet.of(count, hq.cloud_port)
            progress(f"{count} stores: preparing {facts:,} facts")
            each = max(1, facts // count)
            fleet.prepare(seconds, each, BATCH_FACTS)
            await receiving(hq, processes)
            before_mb = memory_mb(hq)
            async with AsyncExitStack() as stack:
                await connected(stack, fleet.stores)
                progress(f"{count} stores: steady for {seconds} s")
                steady = await steadily(fleet, hq, seconds, before_mb)
                empty_bytes = await database_bytes(hq)
                progress(f"{count} stores: flat out")
                flat = await flat_out(fleet, hq)
                size = await database_bytes(hq) - empty_bytes
            missing = await missing_facts(hq, count * (each + seconds))
    progress(f"{count} stores: {flat['flat_out_facts_per_s']:,.0f} facts/s", last=True)
    return {**steady, **flat, "database_bytes_per_fact": size / (count * each), "missing": missing}, fleet.backlog


def confirm_key(folder: Path) -> Path:
    """A confirm key with its statement, as `tillgate hq confirm-key` makes them."""
    from cloud_bridge.hq import keys, voice

    main, file = folder / "hq.key", folder / "confirm.key"
    keys.make(main)
    statement = voice.state(keys.load(main), (keys.make(file),))
    voice.statement_file(file).write_text(statement.model_dump_json(), encoding="utf-8")
    return file


async def steadily(fleet: Fleet, hq: Headquarters, seconds: int, before_mb: dict[str, float]) -> Figures:
    """One sale a second from each."""
    count, before_s, started = len(fleet.stores), hq.cpu_s(), time.perf_counter()
    async with asyncio.timeout(WITHIN_S):
        await asyncio.gather(*map(one_a_second, fleet.stores, fleet.steady))
    spent, cpu_s, memory = time.perf_counter() - started, hq.cpu_s(), memory_mb(hq)
    latencies = [one for store in fleet.stores for one in store.latencies_ms]
    figures: Figures = {
        "steady_facts_per_s": len(latencies) / seconds,
        "steady_confirm_p50_ms": median(latencies),
        "steady_confirm_p99_ms": percentile(latencies, 0.99),
        "steady_ended_late_s": max(0.0, spent - seconds),
    }
    for name in cpu_s:
        figures[f"steady_{name}_cpu_ms_per_store_s"] = 1000 * (cpu_s[name] - before_s[name]) / count / seconds
    for name, used in memory.items():
        figures[f"{name}_pss_mb"] = used
        figures[f"{name}_pss_kb_grown_per_store"] = 1000 * max(0.0, used - before_mb[name]) / count
    return figures


async def flat_out(fleet: Fleet, hq: Headquarters) -> Figures:
    """Every store's backlog at once."""
    for store in fleet.stores:
        store.latencies_ms.clear()
    facts = sum(len(batch.bodies) for batches in fleet.backlog for batch in batches)
    before_s, started = hq.cpu_s(), time.perf_counter()
    async with asyncio.timeout(WITHIN_S):
        await asyncio.gather(
            *(store.send_all(iter(batches)) for store, batches in zip(fleet.stores, fleet.backlog, strict=True))
        )
    spent, cpu_s = time.perf_counter() - started, hq.cpu_s()
    latencies = [one for store in fleet.stores for one in store.latencies_ms]
    return {
        "flat_out_facts": facts,
        "flat_out_facts_per_s": facts / spent,
        "flat_out_confirm_p50_ms": median(latencies),
        "flat_out_confirm_p99_ms": percentile(latencies, 0.99),
        **{f"flat_out_{name}_cpu_us_per_fact": 1e6 * (cpu_s[name] - before_s[name]) / facts for name in cpu_s},
    }


async def missing_facts(hq: Headquarters, expected: int) -> int:
    """By SQL."""
    async with await psycopg.AsyncConnection.connect(plain_url(hq)) as db:
        sql = b"SELECT count(*) FROM (SELECT DISTINCT store, epoch, seq FROM facts WHERE class = %s) AS found"
        row = await (await db.execute(sql, (FACT_CLASS.value,))).fetchone()
        assert row is not None
        return expected - int(row[0])


async def measure_peer(backlog: Sequence[Sequence[Prepared]], facts: int) -> Figures:
    """The plain subscriber's figures: the same facts, from as many stores, one message each."""
    with tempfile.TemporaryDirectory(prefix="tillgate-hq-") as folder:
        async with Processes(Path(folder) / "log.txt") as processes, headquarters(processes, receivers=0) as hq:
            command = ("-m", "bench.peers.plain_subscriber", "--port", str(hq.cloud_port), "--url", plain_url(hq))
            subscriber = await processes.start(
                sys.executable, *command, "--filter", topics.HQ_UP_ANY, talks=True, cwd=Path(__file__).parents[1]
            )
            assert subscriber.stdout is not None
            if not await subscriber.stdout.readline():
                raise RuntimeError(f"the plain subscriber ended at once:\n{processes.last_words()}")
            # From all stores in turn, as they would come.
            turns = itertools.zip_longest(*([body for one in batches for body in one.bodies] for batches in backlog))
            bodies = [body for turn in turns for body in turn if body is not None][:facts]
            topic = topics.up("plain", FACT_CLASS.value)
            before_s, started = hq.cpu_s(), time.perf_counter()
            async with Client(
                Address(host="127.0.0.1", port=hq.cloud_port), client_id="stores", clean_start=True, max_queued=2**31
            ) as client:
                for body in bodies:
                    client.publish_soon(topic, body)
                await client.drain()
            async with await psycopg.AsyncConnection.connect(plain_url(hq), autocommit=True) as db:
                async with asyncio.timeout(WITHIN_S):
                    while (done := await _rows(db)) < len(bodies):
                        progress(f"one INSERT per message: {done:,} of {len(bodies):,}")
                        await asyncio.sleep(0.05)
            spent, cpu_s = time.perf_counter() - started, hq.cpu_s()
    progress(f"one INSERT per message: {len(bodies) / spent:,.0f} facts/s", last=True)
    return {
        "flat_out_facts": len(bodies),
        "flat_out_facts_per_s": len(bodies) / spent,
        "flat_out_database_cpu_us_per_fact": 1e6 * (cpu_s["database"] - before_s["database"]) / len(bodies),
    }


async def _rows(db: psycopg.AsyncConnection[tuple[object, ...]]) -> int:
    row = await (await db.execute("SELECT count(*) FROM plain")).fetchone()
    assert row is not None
    return int(str(row[0]))


async def run_all(counts: Sequence[int], facts: int, seconds: int, report: Report) -> None:
    """Every number of stores, ours and the peer in turn."""
    for count in counts:
        ours, backlog = await measure(count, facts, seconds, sign=False)
        signing, _ = await measure(count, facts, seconds, sign=True)
        report.figures.update({f"{count}_signing_{name}": value for name, value in signing.items()})
        for name in ("steady_hq_cpu_ms_per_store_s", "flat_out_facts_per_s"):
            report.figures[f"{count}_signing_{name}_ratio"] = float(signing[name]) / float(ours[name])
        report.goals.append(Goal(f"{count} stores, signing: facts missing at HQ", int(signing["missing"]), 0))
        peer = await measure_peer(backlog, min(facts, PEER_FACTS))
        report.figures.update({f"{count}_{name}": value for name, value in ours.items()})
        where = report.peers.setdefault("one INSERT and commit per message", {})
        where.update({f"{count}_{name}": value for name, value in peer.items()})
        ratio = float(ours["flat_out_facts_per_s"]) / float(peer["flat_out_facts_per_s"])
        report.figures[f"{count}_flat_out_ratio"] = ratio
        report.goals.append(Goal(f"{count} stores: facts missing at HQ", int(ours["missing"]), 0))


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument("--stores", type=int, action="append", metavar="N", help="so many (repeatable)")
    options.add_argument("--facts", type=int, default=FACTS, help=f"backlog of all stores together (default {FACTS:,})")
    options.add_argument("--seconds", type=int, default=20, help="length of the steady part (default 20)")
    chosen = options.parse_args(arguments)
    counts = chosen.stores or STORES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FILES_PER_STORE * max(counts) + 200
    if soft < needed:  # the broker, a child, gets it too
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard), hard))
    report = Report("hq")
    asyncio.run(run_all(counts, chosen.facts, chosen.seconds, report))
    return finish(report, as_json=chosen.json)


if __name__ == "__main__":
    sys.exit(main())
