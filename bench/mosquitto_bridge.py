"""The peer of the drain's benchmarks: a mosquitto that queues the same facts and drains them over its own bridge.

Run as a fair peer: `topic # out 1` (its default of QoS 0 queues nothing), `cleansession false`, no limit to its queue
nor to what is in flight (with its default of 20 in flight it would send 400 messages a second at 50 ms), and at the far
end a subscriber that does nothing but note when each message came.

Source: mosquitto.conf(5), "Configuring Bridges", max_inflight_messages, max_queued_messages; mosquitto_sub(1), -F.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from bench.backlog import progress
from bench.gateway import free_port
from bench.headquarters import answers, cloud_broker
from bench.processes import Processes, cpu_of_all_s, mosquitto
from bench.wan import Emulator, Line, emulator
from edge.bus.address import Address
from edge.bus.client import Client
from edge.journal.store import NewFact

MAX_IN_FLIGHT = 0
"""`max_inflight_messages`: no limit."""

TOPIC = "facts/transaction"
MARKED_TOPIC = "facts/critical"
READY_WITHIN_S = 60.0


@dataclass(slots=True)
class Bridge:
    """A mosquitto with a full queue and a way out. `process` is its own; `broker` the far one."""

    address: Address
    process: asyncio.subprocess.Process
    broker: asyncio.subprocess.Process
    line: Emulator
    seen: int = 0
    first_at_s: float = 0.0
    last_at_s: float = 0.0
    marked_at_s: list[float] = field(default_factory=list)
    """When each message on `MARKED_TOPIC` came, Unix time."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def count(self, output: asyncio.StreamReader) -> None:
        """Read what the subscriber notes: for each message the Unix time and the topic."""
        while lines := await output.readline():
            at, topic = lines.split()
            self.last_at_s = float(at)
            self.first_at_s = self.first_at_s or self.last_at_s
            if topic == MARKED_TOPIC.encode():
                self.marked_at_s.append(self.last_at_s)
            else:
                self.seen += 1
            self.arrived.set()

    async def until(self, count: int, within_s: float) -> None:
        """Wait until so many have come."""
        async with asyncio.timeout(within_s):
            while self.seen < count:
                self.arrived.clear()
                await self.arrived.wait()

    def cpu_s(self) -> float:
        """CPU time of the bridge so far."""
        return cpu_of_all_s([self.process.pid])


@contextlib.asynccontextmanager
async def mosquitto_bridge(
    processes: Processes, root: Path, line: Line, facts: Iterable[NewFact], count: int
) -> AsyncIterator[Bridge]:
    """The bridge with its queue full, still cut off: call `Emulator.order("restore")` on its line to let it drain."""
    cloud_port, port = free_port(), free_port()
    broker = await cloud_broker(processes, cloud_port)
    async with emulator(processes, line, cloud_port) as wan:
        await wan.order("refuse")
        conf = root / "mosquitto-bridge.conf"
        (root / "mosquitto-bridge").mkdir()
        conf.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nset_tcp_nodelay true\n"
            f"persistence true\npersistence_location {root / 'mosquitto-bridge'}/\n"
            f"max_queued_messages 0\nmax_inflight_messages {MAX_IN_FLIGHT}\n"
            f"connection hq\naddress 127.0.0.1:{wan.port}\ntopic # out 1\ncleansession false\n"
            "restart_timeout 1\nnotifications false\ntry_private true\n"
        )
        process = await processes.start(mosquitto(), "-c", conf)
        async with asyncio.timeout(READY_WITHIN_S):
            while not await answers(port):
                await asyncio.sleep(0.02)
        address = Address(host="127.0.0.1", port=port)
        await _fill(address, facts, count)
        subscriber = await processes.start(
            *("mosquitto_sub", "-p", str(cloud_port), "-q", "1", "-t", "facts/#", "-F", "%U %t"), talks=True
        )
        assert subscriber.stdout is not None
        bridge = Bridge(address, process, broker, wan)
        counting = asyncio.create_task(bridge.count(subscriber.stdout), name="count")
        try:
            yield bridge
        finally:
            counting.cancel()


async def _fill(address: Address, facts: Iterable[NewFact], count: int) -> None:
    async with Client(address, client_id="till", clean_start=True, max_queued=10_000_000) as till:
        await till.wait_connected()
        for number, fact in enumerate(facts, start=1):
            till.publish_soon(TOPIC, orjson.dumps(fact.event))
            if number % 2_000 == 0 or number == count:
                await till.drain()
                progress(f"mosquitto bridge: {number:,} of {count:,} sales queued", last=number == count)
