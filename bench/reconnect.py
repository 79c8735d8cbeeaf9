"""A broker that was killed and starts again: how long until 20 tills are back, and have their first scan.

Each round kills the broker with every till connected and every scanner scanning five times a second. Counted from the
moment the new broker is started: when half of the tills and when the last one has its subscription back, when the
gateway serves all lanes, and when half of the lanes and the last have a scan. Rounds of plain connections on loopback
take turns with rounds of mutual TLS; a new broker knows no session ticket, so each is a whole handshake with both
certificates checked. All tills are in one process on the gateway's own processors, which then pay both ends of twenty
handshakes. A connection is kept for 6 s before, so that all pauses begin anew. The tills try again quickly here (within
0.1 s), so that handshakes are measured and not the pauses, of up to 10 s, in which real tills keep out of each other's
way; edge's pauses are as in the field.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from bench.backlog import progress
from bench.gateway import Gateway, gateway
from bench.report import Figures, Goal, Report, finish, median, parser
from bench.scan import CODE, scanners
from edge.bus import topics
from edge.bus.address import Address
from edge.bus.client import Backoff, Client, Message
from edge.bus.messages.statuses import GatewayStatus

LANES = 20
SCANS_PER_S_AND_LANE = 5.0
AGAIN = Backoff(0.02, 0.1)
WITHIN_S = 60.0
STEADY_S = 6.0
"""Longer than the 5 s after which a client's pauses begin anew (edge/bus/client.py)."""


class Moment:
    """When something was so for the first time since `forget`, in seconds of `time.perf_counter`."""

    def __init__(self) -> None:
        self._set = asyncio.Event()
        self.at_s = 0.0

    def forget(self) -> None:
        """It has not been yet."""
        self._set.clear()

    def note(self) -> None:
        """It is so now."""
        if not self._set.is_set():
            self.at_s = time.perf_counter()
            self._set.set()

    async def wait(self) -> float:
        """When it was."""
        await self._set.wait()
        return self.at_s


@dataclass(slots=True)
class Lane:
    """One lane: the far end of its scanner's line, and its till. `taken`: its subscription stands."""

    line: int
    client: Client
    taken: Moment = field(default_factory=Moment)
    scanned: Moment = field(default_factory=Moment)

    def heard(self, message: Message) -> None:
        """A scan."""
        message.ack()
        self.scanned.note()

    async def scan(self) -> None:
        """Scan on and on, not in step with the others."""
        while True:
            await asyncio.sleep(random.uniform(0.5, 1.5) / SCANS_PER_S_AND_LANE)
            os.write(self.line, CODE)


class Served:
    """Whether the gateway says that it serves, as its own processes hear it."""

    def __init__(self, at: Gateway) -> None:
        self.moment = Moment()
        self.client = Client(
            Address(socket=at.config.broker_socket), client_id="bench-watch", clean_start=True, backoff=AGAIN
        )
        self.client.on_message(topics.GATEWAY_STATUS, self._heard)

    def _heard(self, message: Message) -> None:
        message.ack()
        if GatewayStatus.model_validate_json(message.payload).state == "serving":
            self.moment.note()


Took = dict[str, list[float]]
"""Milliseconds since the broker was started, by figure."""


async def once(at: Gateway, lanes: list[Lane], served: Served, took: Took) -> None:
    """Kill the broker and see everybody back."""
    async with asyncio.timeout(WITHIN_S):
        await served.moment.wait()
        for lane in lanes:
            await lane.scanned.wait()
    await asyncio.sleep(STEADY_S)
    for moment in (served.moment, *(lane.taken for lane in lanes), *(lane.scanned for lane in lanes)):
        moment.forget()
    started = await at.restart_broker()
    async with asyncio.timeout(WITHIN_S):
        taken = [(await lane.taken.wait() - started) * 1000 for lane in lanes]
        scanned = [(await lane.scanned.wait() - started) * 1000 for lane in lanes]
        serving = (await served.moment.wait() - started) * 1000
    for name, value in (
        ("till_back_p50_ms", median(taken)),
        ("last_till_back_ms", max(taken)),
        ("first_scan_p50_ms", median(scanned)),
        ("last_lane_first_scan_ms", max(scanned)),
        ("serving_all_lanes_ms", serving),
    ):
        took.setdefault(name, []).append(value)


async def measure(rounds: int) -> Figures:
    """All figures: the median of the rounds of each way."""
    took: dict[str, Took] = {"": {}, "tls_": {}}
    with scanners(LANES) as (lines, tables):
        async with gateway(tables, tls=True) as at, AsyncExitStack() as whole:
            served = Served(at)
            await whole.enter_async_context(served.client)
            began = time.perf_counter()
            ways: list[tuple[str, Callable[[str], Address]]] = [("", at.plain), ("tls_", await at.enrolled(LANES))]
            enrolled_s = time.perf_counter() - began
            for number in range(rounds):
                for way, where in ways if number % 2 == 0 else ways[::-1]:
                    async with AsyncExitStack() as stack:
                        lanes = []
                        for lane, (line, _) in enumerate(lines, start=1):
                            lanes.append(await _opened(stack, where, str(lane), line))
                        scanning = [asyncio.create_task(lane.scan()) for lane in lanes]
                        try:
                            await once(at, lanes, served, took[way])
                        finally:
                            for task in scanning:
                                task.cancel()
                    progress(f"reconnect: round {number + 1} of {rounds}, {'TLS' if way else 'plain'}")
    figures: Figures = {"lanes": LANES, "rounds_each": rounds, "enrolling_all_lanes_s": enrolled_s}
    for way, found in took.items():
        figures |= {f"{way}{name}": median(values) for name, values in found.items()}
    for name in took[""]:
        figures[f"tls_to_plain_{name.removesuffix('_ms')}_ratio"] = median(took["tls_"][name]) / median(took[""][name])
    return figures


async def _opened(stack: AsyncExitStack, where: Callable[[str], Address], name: str, line: int) -> Lane:
    client = Client(where(name), client_id=f"bench-{name}", username=name, clean_start=True, backoff=AGAIN)
    lane = Lane(line, client)
    client.on_message(topics.lane_scans(name), lane.heard)
    client.on_connect.append(lambda _: lane.taken.note())
    await stack.enter_async_context(client)
    await client.wait_connected()
    return lane


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument("--rounds", type=int, default=7, help="how often to kill the broker, each way (default 7)")
    chosen = options.parse_args(arguments)
    report = Report("reconnect")
    report.figures = asyncio.run(measure(chosen.rounds))
    ours = report.figures
    report.goals = [
        Goal("last of 20 tills back by TLS, ms", float(ours["tls_last_till_back_ms"]), 1000.0),
        Goal("last lane's first scan by TLS, ms", float(ours["tls_last_lane_first_scan_ms"]), 3000.0),
    ]
    return finish(report, as_json=chosen.json)


if __name__ == "__main__":
    sys.exit(main())
