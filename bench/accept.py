"""Fact sent by a till to `accepted` received: latency at 3 facts/s a lane, and how many facts a second at most.

Twenty lanes, each a real client of the store's broker, in one process beside the gateway's: the load generator shares
the machine. Beside it the same gateway with one commit and one fsync per fact instead of group commit.

And beside the plain port on loopback the same gateway by TLS: its tills enrolled and connected by mutual TLS, in rounds
that take turns with plain ones. Flat out, the tills' end of TLS (Python's) is paid by the same two cores, which twenty
real tills would pay themselves.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import orjson

from bench.backlog import progress
from bench.gateway import EDGE, EDGE_COMMITTING_EACH, gateway, lanes_toml
from bench.report import Figures, Goal, Report, finish, goals_of_tls, median, parser, percentile, ratios_of_tls
from edge.bus import envelope, topics
from edge.bus.address import Address
from edge.bus.client import Client, Message

LANES = 20
RATE_PER_LANE = 3.0
ROUNDS = 3
WINDOW = 64
"""Facts of one lane on their way at once when flat out."""

LIMITS = "[limits]\nmessages_per_s = 100000\nburst = 1000000\n"
"""As usual ten seconds' worth at once: what takes long to look at costs of it, a collection of garbage within too."""


@dataclass(slots=True)
class Lane:
    """One till's side: sends facts, notes when each was accepted."""

    client: Client
    lane: str
    sequence: int = 0
    sent_at: dict[str, float] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    refused: int = 0
    on_answer: Callable[[], None] | None = None

    def send(self) -> None:
        """Send the next fact: a sale of three lines, about 700 bytes."""
        self.sequence += 1
        receipt = f"{self.lane}-{self.sequence}"
        lines = [
            {
                "line": number,
                "item": "4006381333931",
                "text": "Textmarker gelb",
                "quantity": "1",
                "unit_price_minor": 129,
                "amount_minor": 129,
            }
            for number in (1, 2, 3)
        ]
        data = {
            "business_day_date": "2026-05-04",
            "operator_id": "c1",
            "receipt_number": receipt,
            "currency": "EUR",
            "lines": lines,
            "total_minor": 387,
        }
        source = envelope.lane_source("BENCH", self.lane)
        event = envelope.build("tillgate.sale.completed.v1", source, data, sequence=self.sequence)
        self.sent_at[event["id"]] = time.perf_counter()
        self.client.publish_soon(topics.lane_facts(self.lane), orjson.dumps(event))

    def answered(self, message: Message) -> None:
        """Take a reply."""
        message.ack()
        reply = orjson.loads(message.payload)
        started = self.sent_at.pop(reply["to"])
        if reply["ok"]:
            self.latencies_ms.append((time.perf_counter() - started) * 1000)
        else:
            self.refused += 1
        if self.on_answer is not None:
            self.on_answer()


async def lanes_of(stack: AsyncExitStack, where: Callable[[str], Address], sequence: int = 0) -> list[Lane]:
    """The lanes' clients, connected as `where` says; they go on behind fact number `sequence`."""
    lanes = []
    for number in range(1, LANES + 1):
        name = str(number)
        client = Client(where(name), client_id=f"bench-{name}", username=name, clean_start=True)
        lane = Lane(client, name, sequence)
        client.on_message(topics.lane_replies(name), lane.answered)
        await stack.enter_async_context(client)
        await client.wait_connected()
        lanes.append(lane)
    return lanes


async def paced(lanes: Sequence[Lane], seconds: float) -> list[float]:
    """Each lane sends RATE_PER_LANE facts a second, not in step; returns all latencies in milliseconds."""

    async def shop(lane: Lane) -> None:
        await asyncio.sleep(random.uniform(0, 1 / RATE_PER_LANE))
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            lane.send()
            await asyncio.sleep(random.uniform(0.5, 1.5) / RATE_PER_LANE)

    await asyncio.gather(*(shop(lane) for lane in lanes))
    await answered(lanes)
    return drained(lanes)


async def flat_out(lanes: Sequence[Lane], seconds: float) -> float:
    """Each lane keeps WINDOW facts on their way; returns accepted facts a second."""
    end = time.perf_counter() + seconds
    for lane in lanes:

        def again(lane: Lane = lane) -> None:
            if time.perf_counter() < end:
                lane.send()

        lane.on_answer = again
    started = time.perf_counter()
    for lane in lanes:
        for _ in range(WINDOW):
            lane.send()
    await asyncio.sleep(seconds)
    await answered(lanes)
    spent = time.perf_counter() - started
    for lane in lanes:
        lane.on_answer = None
    return len(drained(lanes)) / spent


async def answered(lanes: Sequence[Lane]) -> None:
    """Wait until every fact has its answer."""
    async with asyncio.timeout(60):
        while any(lane.sent_at for lane in lanes):
            await asyncio.sleep(0.01)


def drained(lanes: Sequence[Lane]) -> list[float]:
    """All latencies so far; the lanes start afresh. A refused fact would spoil the figure: it raises."""
    refused = sum(lane.refused for lane in lanes)
    if refused:
        raise RuntimeError(f"{refused} facts were refused; the figures would mean nothing")
    found = [value for lane in lanes for value in lane.latencies_ms]
    for lane in lanes:
        lane.latencies_ms.clear()
    return found


Way = tuple[str, Callable[[str], Address]]
"""What its figures are called by, and where its lanes connect."""


async def measure(edge: Sequence[str], seconds: float, *, tls: bool) -> Figures:
    """All figures of one kind of gateway, `seconds` of each; with `tls` also by TLS, in turns."""
    latencies: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    sequence = 0
    async with gateway(LIMITS + lanes_toml(LANES), edge=edge, tls=tls) as at:
        ways: list[Way] = [("", at.plain)]
        if tls:
            ways.append(("tls_", await at.enrolled(LANES)))
        for number in range(ROUNDS):
            for way, where in ways if number % 2 == 0 else ways[::-1]:
                async with AsyncExitStack() as stack:
                    lanes = await lanes_of(stack, where, sequence)
                    await paced(lanes, 1.0)
                    latencies.setdefault(way, []).extend(await paced(lanes, seconds / ROUNDS))
                    await flat_out(lanes, 1.0)
                    rates.setdefault(way, []).append(await flat_out(lanes, seconds / ROUNDS))
                    sequence = max(lane.sequence for lane in lanes)
                progress(f"accept: round {number + 1} of {ROUNDS}, {'TLS' if way else 'plain'}")
    figures: Figures = {}
    for way, _ in ways:
        figures |= {
            f"{way}at_3_per_s_each_p50_ms": median(latencies[way]),
            f"{way}at_3_per_s_each_p99_ms": percentile(latencies[way], 0.99),
            f"{way}at_3_per_s_each_max_ms": max(latencies[way]),
            f"{way}at_3_per_s_each_facts": len(latencies[way]),
            f"{way}flat_out_facts_per_s": median(rates[way]),
            f"{way}flat_out_worst_of_{ROUNDS}_facts_per_s": min(rates[way]),
        }
    if tls:
        figures |= ratios_of_tls("at_3_per_s_each_", latencies["tls_"], latencies[""])
        figures["flat_out_plain_to_tls_ratio"] = median(rates[""]) / median(rates["tls_"])
    return figures


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument(
        "--seconds", type=float, default=15.0, help="length of each measurement, in all rounds (default 15)"
    )
    chosen = options.parse_args(arguments)
    report = Report("accept")
    report.figures = {"lanes": LANES, **asyncio.run(measure(EDGE, chosen.seconds, tls=True))}
    peer = asyncio.run(measure(EDGE_COMMITTING_EACH, chosen.seconds, tls=False))
    report.peers["one commit with fsync per fact"] = peer
    ours = report.figures
    report.figures["flat_out_ratio_to_one_commit_each"] = float(ours["flat_out_facts_per_s"]) / float(
        peer["flat_out_facts_per_s"]
    )
    report.goals = [
        Goal("p99 at 3/s each, ms", float(ours["at_3_per_s_each_p99_ms"]), 50.0),
        Goal("flat out, facts/s", float(ours["flat_out_facts_per_s"]), 3000.0, "at least"),
        *goals_of_tls("at_3_per_s_each_", "at 3/s each", ours),
        Goal("flat out, facts/s, plain as times TLS", float(ours["flat_out_plain_to_tls_ratio"]), 1.5),
    ]
    return finish(report, as_json=chosen.json)


if __name__ == "__main__":
    sys.exit(main())
