"""A journal with a backlog of sales, as two lanes would have left it during an outage; made through the real store.

Sales of one to three lines out of an assortment of 300 articles, one every second or so, each with a UUIDv7 of its own
moment: what compresses in it is what compresses in a store's sales.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from edge.bus import envelope
from edge.bus.messages.facts import FactClass
from edge.journal.clock import Clock
from edge.journal.store import NewFact, Store

STORE = "BENCH"
SALE = "tillgate.sale.completed.v1"
FIRST_AT_MS = 1_777_883_400_000
"""2026-05-04T08:30:00Z."""

AT_ONCE = 2_000
WORDS = ("Textmarker", "Notebook A5", "Bananas", "Milk 1 l", "Rye bread", "Coffee 500 g", "Batteries AA", "Soap")
KINDS = ("yellow", "blue", "organic", "large", "pack of 4", "fresh", "classic")


def sales(count: int, seed: int = 1, *, lanes: int = 2, store: str = STORE, every_ms: int = 1_000) -> Iterator[NewFact]:
    """`count` sales in the order of their moments, about `every_ms` apart, taken by lanes 1, 2, ... in turn.

    The same each time but for ids.
    """
    chance = random.Random(seed)
    articles = [
        (f"{chance.randrange(10**12, 10**13)}", f"{chance.choice(WORDS)} {chance.choice(KINDS)}", price)
        for price in (chance.randrange(49, 2_999) for _ in range(300))
    ]
    at_ms = FIRST_AT_MS
    for number in range(count):
        at_ms += chance.randrange(every_ms * 3 // 10, every_ms * 17 // 10)
        lane, sequence = str(1 + number % lanes), 1 + number // lanes
        lines = []
        for line in range(1, chance.randrange(2, 5)):
            item, text, price = chance.choice(articles)
            quantity = chance.choice((1, 1, 1, 1, 2, 3))
            lines.append(
                {
                    "line": line,
                    "item": item,
                    "text": text,
                    "quantity": str(quantity),
                    "unit_price_minor": price,
                    "amount_minor": price * quantity,
                }
            )
        data = {
            "business_day_date": "2026-05-04",
            "operator_id": f"c{lane}",
            "receipt_number": f"{lane}-{sequence}",
            "currency": "EUR",
            "lines": lines,
            "total_minor": sum(int(str(line["amount_minor"])) for line in lines),
        }
        source = envelope.lane_source(store, lane)
        event = envelope.build(SALE, source, data, sequence=sequence, id_=uuid_of(at_ms))
        event["time"] = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
        yield NewFact(event["id"], SALE, FactClass.TRANSACTION, source, event["time"], lane, sequence, event)


def uuid_of(at_ms: int) -> str:
    """A UUIDv7 of this moment (RFC 9562, section 5.7)."""
    value = at_ms << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


async def make(file: Path, count: int) -> None:
    """A journal at `file` with `count` sales; says on standard error how far it is."""
    store = await Store.open(file, STORE, clock=Clock(), reserve_bytes=0)
    try:
        waiting: list[asyncio.Future[object]] = []
        for number, fact in enumerate(sales(count), start=1):
            waiting.append(store.append(fact))  # type: ignore[arg-type]
            if len(waiting) == AT_ONCE or number == count:
                await asyncio.gather(*waiting)
                waiting.clear()
                progress(f"journal: {number:,} of {count:,} sales", last=number == count)
    finally:
        await store.close()


def progress(text: str, *, last: bool = False) -> None:
    """One line on standard error that is written over; in a file only the last."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}" + ("\n" if last else ""))
    elif last:
        sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
