"""The journal of so many days without HQ: sales of two lanes, and between them what four devices say of themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from bench.backlog import AT_ONCE, STORE, progress
from cloud_bridge.pace import LINE_OVERHEAD_BYTES
from cloud_bridge.wire import Batch, Encoder
from edge.bus import envelope
from edge.bus.messages.facts import FactClass
from edge.journal.clock import Clock
from edge.journal.reader import Reader
from edge.journal.store import NewFact, Store

BATCH_FACTS = 250
LANES = 2
DAY_S = 86_400
DEVICES = 4
TELEMETRY_EVERY_S = 60
DEVICE_CHANGED = "tillgate.device.changed.v1"


def a_week(days: float, sold: Iterator[NewFact]) -> Iterator[NewFact]:
    """The facts of so many days in order: sales, and between them what the devices say."""
    per_telemetry = LANES * TELEMETRY_EVERY_S // DEVICES
    for number in range(round(days * DAY_S) * LANES):
        sale = next(sold)
        yield sale
        if number % per_telemetry == 0:
            device = f"scanner-{number // per_telemetry % DEVICES + 1}"
            data = {"device": device, "category": "scanner", "state": ("ready", "offline")[number // 240 % 2]}
            event = envelope.build(DEVICE_CHANGED, envelope.gateway_source(STORE), data)
            event["time"] = sale.time
            yield NewFact(
                event["id"], DEVICE_CHANGED, FactClass.TELEMETRY, event["source"], sale.time, None, None, event
            )


async def journalled(file: Path, facts: Iterator[NewFact], expected: int) -> dict[FactClass, int]:
    """Put `facts` into a new journal at `file`; returns its heads."""
    store = await Store.open(file, STORE, clock=Clock(), reserve_bytes=0)
    try:
        done, waiting = 0, list[asyncio.Future[object]]()
        for fact in facts:
            waiting.append(store.append(fact))  # type: ignore[arg-type]
            if len(waiting) == AT_ONCE:
                await asyncio.gather(*waiting)
                done += len(waiting)
                waiting.clear()
                progress(f"journal: {done:,} of about {expected:,} facts")
        await asyncio.gather(*waiting)
        return store.heads
    finally:
        await store.close()


async def wire_bytes(file: Path, heads: dict[FactClass, int]) -> float:
    """About what the backlog will be on the wire, by one batch of each class of the size that a thin line gets."""
    reader = await Reader.open(file)
    total = 0.0
    try:
        epoch = await reader.epoch()
        for fact_class, head in heads.items():
            rows = await reader.tail(fact_class, head // 2, BATCH_FACTS) if head else []
            if rows:
                bodies = tuple(row.body for row in rows)
                batch = Batch(STORE, fact_class, epoch, rows[0].seq, None, rows[-1].hash, bodies)
                total += (len(Encoder().encode(batch)) + LINE_OVERHEAD_BYTES) / len(rows) * head
    finally:
        await reader.close()
    return total
