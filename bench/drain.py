"""200,000 sales of backlog to HQ's PostgreSQL on three lines: facts/s, bytes, CPU; a mosquitto bridge beside.

Everything runs on this machine and shares its cores: the gateway (broker, edge), the bridge, the WAN emulator, the
cloud's broker, HQ's receivers and PostgreSQL. The clock runs from the first byte on the line to the confirmation of
the last fact, which leaves HQ after the commit. The peer's clock runs from its first byte to its last message at a
subscriber that only counts: it has no database to fill.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import create_engine, text

from bench.backlog import make, progress, sales
from bench.gateway import Gateway, gateway, lanes_toml
from bench.headquarters import Headquarters, headquarters
from bench.mosquitto_bridge import MAX_IN_FLIGHT, mosquitto_bridge
from bench.processes import Processes, cpu_of_all_s, pss_mb
from bench.report import Goal, Report, finish, parser
from bench.wan import LINES, Emulator, Line, emulator
from edge.bus import topics
from edge.bus.address import Address
from edge.bus.client import Client, Message
from edge.bus.messages.facts import FactClass
from edge.bus.messages.links import Confirmed
from edge.journal.reader import Reader

Figures = dict[str, float | int | str]

THIN_PEER_FACTS = 20_000
"""So many of the peer's messages are timed on a thin line, where its rate does not change: all would take minutes."""

WATCH_EVERY_S = 0.05
WITHIN_S = 900.0


@dataclass(slots=True)
class Run:
    """A store with a backlog, and HQ at the other end of `line`; the bridge runs after `start`."""

    store: Gateway
    hq: Headquarters
    line: Emulator
    processes: Processes
    facts: int
    bridge: asyncio.subprocess.Process | None = None
    started: float = 0.0
    confirmed: int = 0
    confirmed_at: float = 0.0
    all_there: asyncio.Event = field(default_factory=asyncio.Event)
    peak_pss_mb: float = 0.0

    async def start(self) -> None:
        """Let it drain."""
        command = (sys.executable, "-m", "cloud_bridge.daemon", "--config", self.store.config.file)
        self.bridge = await self.processes.start(*command)

    def heard(self, message: Message) -> None:
        """HQ confirms something."""
        now = time.perf_counter()
        message.ack()
        told = Confirmed.model_validate_json(message.payload)
        self.confirmed = max(self.confirmed, told.confirmed.get(FactClass.TRANSACTION, 0))
        if self.confirmed >= self.facts and not self.confirmed_at:
            self.confirmed_at = now
            self.all_there.set()

    async def drained(self) -> None:
        """Wait until HQ has confirmed the backlog."""
        try:
            async with asyncio.timeout(WITHIN_S):
                await self.all_there.wait()
        except TimeoutError:
            said = self.processes.last_words()
            raise RuntimeError(f"the drain came to a stand; the end of the log:\n{said}") from None

    async def watch(self) -> None:
        """Note the first byte and the memory; say how far it is."""
        shown = 0.0
        while not self.all_there.is_set():
            up, _ = await self.line.counts()
            now = time.perf_counter()
            self.started = self.started or (now if up else 0.0)
            if now > shown + 0.5 and self.bridge is not None:
                shown = now
                # In a thread: the kernel takes its time, and others are being timed by this process.
                with contextlib.suppress(ProcessLookupError):  # it is just becoming Python: what was opened is gone
                    memory = await asyncio.to_thread(pss_mb, self.bridge.pid)
                    self.peak_pss_mb = max(self.peak_pss_mb, memory)
                progress(f"drain: {self.confirmed:,} of {self.facts:,} confirmed, {up:,} bytes up")
            await asyncio.sleep(WATCH_EVERY_S)


@contextlib.asynccontextmanager
async def draining(
    journal: Path,
    facts: int,
    line: Line,
    *,
    receivers: int = 1,
    hq_prefix: Sequence[str] = (),
    tables: str = "",
) -> AsyncIterator[Run]:
    """A store with a copy of `journal`, everything running but the bridge. `tables` is more TOML for the store."""
    async with AsyncExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tillgate-bench-")))
        (root / "state").mkdir()
        shutil.copy(journal, root / "state" / "store.db")
        processes = await stack.enter_async_context(Processes(root / "processes.txt"))
        hq = await stack.enter_async_context(headquarters(processes, receivers=receivers, prefix=hq_prefix))
        wan = await stack.enter_async_context(emulator(processes, line, hq.cloud_port, hq_prefix))
        cloud = f'[cloud]\nhost = "127.0.0.1"\nport = {wan.port}\nprofile = "mosquitto"\n'
        store = await stack.enter_async_context(gateway(cloud + (tables or lanes_toml(2)), folder=root))
        run = Run(store, hq, wan, processes, facts)
        watcher = Client(Address(host="127.0.0.1", port=hq.cloud_port), client_id="bench-watch", clean_start=True)
        watcher.on_message(topics.confirmed(store.config.store.id), run.heard)
        await stack.enter_async_context(watcher)
        await watcher.wait_connected()
        await receiving(hq, processes)
        yield run


async def receiving(hq: Headquarters, processes: Processes) -> None:
    """Wait until every receiver is connected: a broker drops what nobody has subscribed to."""
    async with asyncio.timeout(60):
        while processes.log.read_text(errors="replace").count(": connected to ") < len(hq.receivers):
            await asyncio.sleep(0.05)


async def measure(journal: Path, facts: int, line: Line, receivers: int) -> Figures:
    """Our figures on one line."""
    async with draining(journal, facts, line, receivers=receivers) as run:
        before = run.hq.cpu_s()
        await run.start()
        assert run.bridge is not None
        watching = asyncio.create_task(run.watch(), name="watch")
        await run.drained()
        await watching
        up, down = await run.line.counts()
        after, bridge_cpu_s = run.hq.cpu_s(), cpu_of_all_s([run.bridge.pid])
        seconds = run.confirmed_at - run.started
        progress(f"drain at {line.name}: {facts / seconds:,.0f} facts/s", last=True)
        return {
            "facts_per_s": facts / seconds,
            "seconds": seconds,
            "up_bytes_per_fact": up / facts,
            "down_bytes_per_fact": down / facts,
            "bridge_cpu_s": bridge_cpu_s,
            **{f"{name}_cpu_s": after[name] - before[name] for name in after},
            "bridge_peak_pss_mb": run.peak_pss_mb,
            **await verified(run, journal),
        }


async def verified(run: Run, journal: Path) -> Figures:
    """What is in HQ's database, counted and compared: the chain's hash there covers every byte of every fact."""
    reader = await Reader.open(journal)
    try:
        head = await reader.hash_at(FactClass.TRANSACTION, run.facts)
    finally:
        await reader.close()
    engine = create_engine(run.hq.url)
    with engine.connect() as db:
        count = text("SELECT count(DISTINCT seq), count(*) FROM facts WHERE class = 'transaction' AND seq <= :last")
        found = db.execute(count, {"last": run.facts}).one()
        last = text("SELECT hash FROM facts WHERE class = 'transaction' AND seq = :last")
        there = db.execute(last, {"last": run.facts}).scalar()
    engine.dispose()
    return {
        "in_the_database": found[0],
        "twice_in_the_database": found[1] - found[0],
        "chain_hash_is_the_journals": "yes" if there is not None and bytes(there) == head else "NO",
    }


async def measure_peer(facts: int, line: Line) -> Figures:
    """The mosquitto bridge's figures on the same line."""
    with tempfile.TemporaryDirectory(prefix="tillgate-bench-") as folder:
        root = Path(folder)
        async with (
            Processes(root / "processes.txt") as processes,
            mosquitto_bridge(processes, root, line, sales(facts), facts) as bridge,
        ):
            before = bridge.cpu_s()
            await bridge.line.order("restore")
            started = await _first_byte(bridge.line)
            timed = min(facts, THIN_PEER_FACTS) if line.up_kbit else facts
            await bridge.until(timed, WITHIN_S)
            seconds, seen = bridge.last_at_s - started, bridge.seen
            up, down = await bridge.line.counts()
            progress(f"mosquitto bridge at {line.name}: {seen / seconds:,.0f} messages/s", last=True)
            return {
                "messages_timed": seen,
                "messages_per_s": seen / seconds,
                "seconds": seconds,
                "up_bytes_per_message": up / seen,
                "down_bytes_per_message": down / seen,
                "bridge_cpu_s": bridge.cpu_s() - before,
            }


async def _first_byte(line: Emulator) -> float:
    """The Unix time at which something had come through."""
    async with asyncio.timeout(60):
        while not (await line.counts())[0]:
            await asyncio.sleep(0.01)
    return time.time()


async def run_all(facts: int, lines: Sequence[Line], receivers: int, report: Report) -> None:
    """Every line, ours and the peer's in turn."""
    with tempfile.TemporaryDirectory(prefix="tillgate-bench-") as folder:
        journal = Path(folder) / "store.db"
        await make(journal, facts)
        report.figures["facts"] = facts
        report.figures["journal_bytes_per_fact"] = journal.stat().st_size / facts
        report.figures["receivers"] = receivers
        for line in lines:
            ours = await measure(journal, facts, line, receivers)
            peer = await measure_peer(facts, line)
            report.figures.update({f"{line.key}_{name}": value for name, value in ours.items()})
            where = report.peers.setdefault(f"mosquitto bridge, max_inflight_messages {MAX_IN_FLIGHT} (no limit)", {})
            where.update({f"{line.key}_{name}": value for name, value in peer.items()})
            ratio = float(ours["facts_per_s"]) / float(peer["messages_per_s"])
            report.figures[f"{line.key}_speed_ratio"] = ratio
            report.goals.append(
                Goal(f"{line.name}: times the peer's rate", ratio, 6.0 if line.up_kbit else 2.0, "at least")
            )
            bytes_ratio = float(ours["up_bytes_per_fact"]) / float(peer["up_bytes_per_message"])
            report.goals.append(Goal(f"{line.name}: part of the peer's bytes up", bytes_ratio, 1 / 6))
            report.goals.append(Goal(f"{line.name}: facts missing at HQ", facts - int(ours["in_the_database"]), 0))


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument("--facts", type=int, default=200_000, help="the backlog (default 200,000)")
    options.add_argument("--receivers", type=int, default=1, help="receivers at HQ (default 1)")
    options.add_argument("--line", choices=[line.key for line in LINES], help="only this line")
    chosen = options.parse_args(arguments)
    lines = [line for line in LINES if chosen.line in (None, line.key)]
    report = Report("drain")
    asyncio.run(run_all(chosen.facts, lines, chosen.receivers, report))
    return finish(report, as_json=chosen.json)


if __name__ == "__main__":
    sys.exit(main())
