"""A critical fact that a till records during the drain: how long until HQ has confirmed it; a mosquitto bridge beside.

A till takes a tender every 200 ms while the backlog of `./dev bench drain` goes to HQ. The clock runs from the moment
the till has `accepted` (the fact is on disk) to HQ's confirmation at the store, over the same line. For the peer a
marked message is published into the queue that its bridge drains, until the subscriber at the far end sees it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from bench.accept import LIMITS
from bench.backlog import make, progress, sales
from bench.drain import THIN_PEER_FACTS, WITHIN_S, Figures, draining
from bench.gateway import lanes_toml
from bench.mosquitto_bridge import MARKED_TOPIC, MAX_IN_FLIGHT, mosquitto_bridge
from bench.processes import Processes
from bench.report import Goal, Report, finish, median, parser, percentile
from bench.wan import LINES, Line
from edge.bus import envelope, topics
from edge.bus.address import Address
from edge.bus.client import Client, Message
from edge.bus.messages.facts import FactClass
from edge.bus.messages.links import Confirmed

EVERY_S = 0.2
LANE = "3"


@dataclass(slots=True)
class Till:
    """Takes tenders, and notes of each when it was sent, recorded and confirmed."""

    client: Client
    sent_at: list[float] = field(default_factory=list)
    recorded_at: list[float] = field(default_factory=list)
    confirmed_at: list[float] = field(default_factory=list)

    def tender(self) -> None:
        """A customer pays."""
        number = len(self.sent_at) + 1
        data = {
            "business_day_date": "2026-05-04",
            "operator_id": "c3",
            "receipt_number": f"{LANE}-{number}",
            "kind": "card",
            "currency": "EUR",
            "amount_minor": 1_990,
        }
        source = envelope.lane_source("BENCH", LANE)
        event = envelope.build("tillgate.tender.taken.v1", source, data, sequence=number)
        self.sent_at.append(time.perf_counter())
        self.client.publish_soon(topics.lane_facts(LANE), orjson.dumps(event))

    def answered(self, message: Message) -> None:
        """The gateway has it on disk."""
        now = time.perf_counter()
        message.ack()
        if not orjson.loads(message.payload)["ok"]:
            raise RuntimeError(f"a tender was refused: {message.payload.decode()}")
        self.recorded_at.append(now)

    def confirmed(self, message: Message) -> None:
        """HQ says how many it has."""
        now = time.perf_counter()
        message.ack()
        told = Confirmed.model_validate_json(message.payload).confirmed.get(FactClass.CRITICAL, 0)
        self.confirmed_at += [now] * (told - len(self.confirmed_at))


async def overtaken(journal: Path, facts: int, line: Line, receivers: int) -> Till:
    """One drain with tenders all the while."""
    async with AsyncExitStack() as stack:
        run = await stack.enter_async_context(
            draining(journal, facts, line, receivers=receivers, tables=lanes_toml(3) + LIMITS)
        )
        client = Client(run.store.address, client_id="bench-till", username=LANE, clean_start=True)
        till = Till(client)
        client.on_message(topics.lane_replies(LANE), till.answered)
        far = Client(Address(host="127.0.0.1", port=run.line.port), client_id="bench-far", clean_start=True)
        far.on_message(topics.confirmed(run.store.config.store.id), till.confirmed)
        for one in (client, far):
            await stack.enter_async_context(one)
            await one.wait_connected()
        await run.start()
        watching = asyncio.create_task(run.watch(), name="watch")
        async with asyncio.timeout(WITHIN_S):
            while not run.confirmed:
                await asyncio.sleep(0.01)
            while not run.all_there.is_set():
                till.tender()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(EVERY_S):
                        await run.all_there.wait()
            while min(len(till.recorded_at), len(till.confirmed_at)) < len(till.sent_at):
                await asyncio.sleep(0.01)
        await watching
        return till


async def measure(journal: Path, facts: int, line: Line, receivers: int, rounds: int) -> Figures:
    """Our figures on one line, of several drains."""
    recorded: list[float] = []
    sent: list[float] = []
    for number in range(1, rounds + 1):
        till = await overtaken(journal, facts, line, receivers)
        ends = list(zip(till.sent_at, till.recorded_at, till.confirmed_at, strict=True))
        recorded += [1000 * (confirmed - at) for _, at, confirmed in ends]
        sent += [1000 * (confirmed - at) for at, _, confirmed in ends]
        progress(f"overtake at {line.name}, drain {number} of {rounds}: {len(recorded)} tenders", last=True)
    return {
        "tenders": len(recorded),
        "recorded_to_confirmed_p50_ms": median(recorded),
        "recorded_to_confirmed_p99_ms": percentile(recorded, 0.99),
        "recorded_to_confirmed_max_ms": max(recorded),
        "sent_to_confirmed_p99_ms": percentile(sent, 0.99),
    }


async def measure_peer(facts: int, line: Line) -> Figures:
    """The mosquitto bridge's figures on the same line."""
    with tempfile.TemporaryDirectory(prefix="tillgate-bench-") as folder:
        root = Path(folder)
        async with (
            Processes(root / "processes.txt") as processes,
            mosquitto_bridge(processes, root, line, sales(facts), facts) as bridge,
            Client(bridge.address, client_id="marker", clean_start=True) as marker,
        ):
            await marker.wait_connected()
            await bridge.line.order("restore")
            await bridge.until(1, WITHIN_S)
            sent_at: list[float] = []
            while bridge.seen < facts:
                sent_at.append(time.time())
                marker.publish_soon(MARKED_TOPIC, b"{}")
                await asyncio.sleep(EVERY_S)
            async with asyncio.timeout(WITHIN_S):
                while len(bridge.marked_at_s) < len(sent_at):
                    await asyncio.sleep(0.01)
            waits = [1000 * (seen - at) for at, seen in zip(sent_at, bridge.marked_at_s, strict=True)]
            progress(f"mosquitto bridge at {line.name}: {len(waits)} marked messages", last=True)
            return {
                "backlog": facts,
                "marked_messages": len(waits),
                "sent_to_seen_p50_ms": median(waits),
                "sent_to_seen_p99_ms": percentile(waits, 0.99),
            }


async def run_all(facts: int, lines: Sequence[Line], receivers: int, rounds: int, report: Report) -> None:
    """Every line, ours and the peer's in turn."""
    with tempfile.TemporaryDirectory(prefix="tillgate-bench-") as folder:
        journal = Path(folder) / "store.db"
        await make(journal, facts)
        report.figures["facts"] = facts
        for line in lines:
            ours = await measure(journal, facts, line, receivers, 1 if line.up_kbit else rounds)
            peer = await measure_peer(min(facts, THIN_PEER_FACTS) if line.up_kbit else facts, line)
            report.figures.update({f"{line.key}_{name}": value for name, value in ours.items()})
            where = report.peers.setdefault(f"mosquitto bridge, max_inflight_messages {MAX_IN_FLIGHT} (no limit)", {})
            where.update({f"{line.key}_{name}": value for name, value in peer.items()})
            p99 = float(ours["recorded_to_confirmed_p99_ms"])
            report.goals.append(Goal(f"{line.name}: recorded to confirmed p99, ms", p99, 2 * line.rtt_ms + 150))


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument("--facts", type=int, default=200_000, help="the backlog (default 200,000)")
    options.add_argument("--receivers", type=int, default=1, help="receivers at HQ (default 1)")
    options.add_argument("--rounds", type=int, default=4, help="drains on each line that is not thin (default 4)")
    options.add_argument("--line", choices=[line.key for line in LINES], help="only this line")
    chosen = options.parse_args(arguments)
    lines = [line for line in LINES if chosen.line in (None, line.key)]
    report = Report("overtake")
    asyncio.run(run_all(chosen.facts, lines, chosen.receivers, chosen.rounds, report))
    return finish(report, as_json=chosen.json)


if __name__ == "__main__":
    sys.exit(main())
